"""Opening pipelines: the right class, safetensors only, no code from the folder.

`AutoPipelineForInpainting` lacks some inpainting classes (Fill, Kontext, Klein, Chroma ...), so the class that the
folder itself names comes first when it is one of ours to run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, NotFound

__all__ = ["PIPELINES", "check_folder", "open_pipeline"]

PIPELINES = frozenset(
    {
        "ChromaInpaintPipeline",
        "Flux2KleinInpaintPipeline",
        "FluxControlInpaintPipeline",
        "FluxControlNetInpaintPipeline",
        "FluxFillPipeline",
        "FluxInpaintPipeline",
        "FluxKontextInpaintPipeline",
        "QwenImageEditInpaintPipeline",
        "QwenImageInpaintPipeline",
        "StableDiffusion3ControlNetInpaintingPipeline",
        "StableDiffusion3InpaintPipeline",
        "StableDiffusionControlNetInpaintPipeline",
        "StableDiffusionInpaintPipeline",
        "StableDiffusionXLControlNetInpaintPipeline",
        "StableDiffusionXLInpaintPipeline",
        "ZImageInpaintPipeline",
    }
)
"""Classes that are run as they are. Any other class is asked of diffusers for its inpainting sibling."""

_LIBRARIES = {"diffusers", "transformers"}


def _index(folder: Path) -> dict[str, Any]:
    """The folder's `model_index.json`. Raises: NotFound, InvalidInput."""
    path = folder / "model_index.json"
    if not path.is_file():
        raise NotFound(
            f"{folder} is no diffusers pipeline: it has no model_index.json; "
            "save one with pipeline.save_pretrained(folder)",
            reason=pb.ERROR_REASON_ENGINE_UNKNOWN,
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON ({error}); save the pipeline again") from error
    if not isinstance(index, dict) or not isinstance(index.get("_class_name"), str):
        raise InvalidInput(
            f"{path} names no pipeline class (_class_name); pipelines that bring their own code are not run"
        )
    return index


def _check_component(folder: Path, name: str, library: str, libraries: set[str]) -> None:
    inside = folder / name
    if library not in libraries and not library.startswith(("stable_diffusion", "flux", "qwenimage")):
        raise InvalidInput(
            f"component {name!r} of {folder} comes from {library!r}; only diffusers and transformers classes are "
            "loaded, code that comes with a model is not run"
        )
    if not inside.is_dir():
        raise InvalidInput(
            f"{folder} lacks the folder of its component {name!r}; download or save the pipeline again"
        )
    pickled = [*inside.glob("*.bin"), *inside.glob("*.pt"), *inside.glob("*.ckpt")]
    if pickled and not list(inside.glob("*.safetensors")):
        raise InvalidInput(
            f"{inside} has its weights as {pickled[0].name} only, which may run code when opened; convert them with "
            "pipeline.save_pretrained(folder, safe_serialization=True)"
        )


def check_folder(folder: Path, libraries: frozenset[str] = frozenset()) -> str:
    """Look at a folder without loading anything; the name of its pipeline class.

    libraries: import paths that components may come from besides diffusers and transformers.
    Raises: NotFound when it is no pipeline, InvalidInput when weights are missing or pickled or when it
    wants code of its own.
    """
    index = _index(folder)
    for name, entry in index.items():
        if isinstance(entry, list) and len(entry) == 2 and entry[0] is not None and entry[1] is not None:
            _check_component(folder, name, str(entry[0]), _LIBRARIES | libraries)
    return str(index["_class_name"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries say about parts that a pipeline does not need; errors are raised all the same."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = of_diffusers.get_verbosity(), of_transformers.get_verbosity()
    of_diffusers.set_verbosity_error()
    of_transformers.set_verbosity_error()
    bars = of_diffusers.is_progress_bar_enabled(), of_transformers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    try:
        yield
    finally:
        of_diffusers.set_verbosity(before[0])
        of_transformers.set_verbosity(before[1])
        if bars[0]:
            of_diffusers.enable_progress_bar()
        if bars[1]:
            of_transformers.enable_progress_bar()


def _class_for(name: str) -> Any:
    """The class to load a pipeline of class `name` with."""
    import diffusers

    if name in PIPELINES and hasattr(diffusers, name):
        return getattr(diffusers, name)
    return diffusers.AutoPipelineForInpainting


def open_pipeline(
    where: str | Path, dtype: Any, *, offline: bool = False, libraries: frozenset[str] = frozenset()
) -> Any:
    """Load a pipeline from a folder, or from the hub by its id ("owner/name").

    dtype: torch dtype of the weights. offline: never ask the hub. libraries: as in `check_folder`.
    Raises: NotFound, InvalidInput; both say what to do.
    """
    with _quiet():
        return _open(where, dtype, offline, libraries)


def _open(where: str | Path, dtype: Any, offline: bool, libraries: frozenset[str]) -> Any:
    folder = Path(where)
    looks_like_id = str(where).count("/") == 1 and not str(where).startswith((".", "/", "~"))
    if folder.is_dir() or not looks_like_id:
        if not folder.is_dir():
            raise NotFound(
                f"there is no folder {folder}; give a pipeline folder, a hub id (owner/name) or a built-in engine",
                reason=pb.ERROR_REASON_ENGINE_UNKNOWN,
            )
        return _load(folder, check_folder(folder, libraries), _index(folder), dtype, local=True)
    index = _hub_index(str(where), offline)
    return _load(str(where), str(index["_class_name"]), index, dtype, local=offline)


def _hub_index(model: str, offline: bool) -> dict[str, Any]:
    """The `model_index.json` of a hub model. Raises: NotFound when it is not there or cannot be reached."""
    from huggingface_hub import hf_hub_download

    try:
        return _index(Path(hf_hub_download(model, "model_index.json", local_files_only=offline)).parent)
    except (OSError, ValueError) as error:
        raise NotFound(
            f"no pipeline {model!r} on the hub or in its cache ({type(error).__name__}); "
            "check the id, log in for gated models, or give a local folder",
            reason=pb.ERROR_REASON_ENGINE_UNKNOWN,
        ) from error


def _load(where: str | Path, name: str, index: dict[str, Any], dtype: Any, local: bool) -> Any:
    # Saved without a text encoder, say: the library asks for such parts all the same.
    absent = {part: None for part, entry in index.items() if entry == [None, None]}
    try:
        return _class_for(name).from_pretrained(
            where, dtype=dtype, use_safetensors=True, local_files_only=local, **absent
        )
    except (OSError, ValueError, AttributeError, KeyError, SafetensorError) as error:
        raise InvalidInput(
            f"{where} could not be loaded as an inpainting pipeline: {str(error)[:300]}; it needs safetensors weights "
            "for every component and a class that diffusers can inpaint with"
        ) from error
