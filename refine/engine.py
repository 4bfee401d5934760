"""Engines: whatever produces candidates. This page is the whole of what the rest of the loop knows about them.

::

    engine = load_engine("tabletop")
    candidate = engine.candidate(source, mask, "a shiny red ball", seed=3)
    candidate.advance(0.5)      # half of the steps, then it waits
    candidate.preview()         # what it will look like
    candidate.result()          # the rest, decoded and composited; or candidate.drop()
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.suspended import State
from editcritic.refine.turns import SharedDevice
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput, NotFound

__all__ = [
    "ENGINES",
    "Candidate",
    "Engine",
    "GenerationEvent",
    "Preview",
    "advance_in_turn",
    "generate",
    "load_engine",
]

ENGINES = {
    "tabletop": "editcritic.refine.tabletop.engine:open_tabletop",
    "dummy": "editcritic.refine.dummy:open_dummy",
    "diffusers": "editcritic.refine.pipelines:open_diffusers",
}
"""Built-in engines by name, "module:function". The function takes the keyword arguments of `load_engine`."""


@dataclass(frozen=True, eq=False)
class Preview:
    """The predicted clean picture of a candidate part-way.

    picture: (h, w, 3) uint8, sRGB: the context crop, composited like a result. region: left, top, right,
    bottom of that crop in the source, pixels, right and bottom exclusive. fraction: share of the executed
    steps that were done, in (0, 1].
    """

    picture: NDArray[np.uint8]
    region: tuple[int, int, int, int]
    fraction: float


class Candidate(Protocol):
    """One inpainted answer to an edit, which can wait.

    denoise_mask, blend_mask: (H, W) float32 in [0, 1]; beyond the blend mask a result is the source bit for bit.
    evaluations: denoising steps executed so far. notes: what the user should know, a prompt with unknown words for one.
    """

    seed: int
    notes: tuple[str, ...]
    denoise_mask: NDArray[np.float32]
    blend_mask: NDArray[np.float32]

    @property
    def state(self) -> State:
        """What it is doing: new, running, waiting, done, dropped or failed."""

    @property
    def fraction(self) -> float:
        """Share of the executed steps that are done, in [0, 1]."""

    @property
    def evaluations(self) -> int:
        """Denoising steps executed so far."""

    def advance(self, to_fraction: float) -> None:
        """Run until that share of the executed steps is done, then wait."""

    def preview(self, in_full: bool = False) -> Preview:
        """What it will look like, from the last step. in_full: decoded as a result is, whatever that takes.

        Raises: InvalidInput before the first step.
        """

    def result(self) -> NDArray[np.uint8]:
        """The finished edit, (H, W, 3) uint8; runs what is left to run."""

    def drop(self) -> None:
        """Give up: no further step, no decode."""


class Engine(Protocol):
    """Produces candidates for an edit."""

    capabilities: Capabilities

    def candidate(
        self,
        source: NDArray[np.uint8],
        mask: NDArray[Any],
        prompt: str,
        *,
        seed: int,
        steps: int | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        blend_mask: NDArray[Any] | None = None,
        quality: QualityOptions | None = None,
        large_steps: int = 0,
        strength_map: NDArray[np.floating[Any]] | None = None,
    ) -> Candidate:
        """Prepare one answer; nothing runs until it is advanced.

        source: (H, W, 3) uint8, sRGB. mask: (H, W) bool, uint8 or float in [0, 1], 1 where the picture may change.
        strength in (0, 1]: how much of what is there is destroyed first. None anywhere: the engine's default.
        blend_mask: how to blend, as `mask`; made from the mask when absent.
        quality: which quality to paint; refused by engines that cannot be told (`capabilities`).
        large_steps: so many large steps first, after which a preview is nearly the result, then small ones (`solvers`);
        0: all alike. Refused by engines that cannot (`capabilities`).
        strength_map: (H, W) float in [0, 1], a strength for each pixel in place of `strength`, which is its largest; 0
        keeps what is there, as the engine's autoencoder gives it back. Refused by engines that cannot (`capabilities`).
        Raises: ImageError and InvalidInput for edits that cannot be carried out.
        """

    def advance(self, candidates: Sequence[Candidate], to_fraction: float) -> None:
        """Advance several of its candidates, together where that is faster than one after the other.

        A candidate that fails does not disturb the others: it raises when it is next used.
        """


def advance_in_turn(candidates: Sequence[Candidate], to_fraction: float) -> None:
    """One after the other, for engines that gain nothing by more; failures as in `Engine.advance`."""
    for candidate in candidates:
        with suppress(EditCriticError):
            candidate.advance(to_fraction)


def load_engine(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    offload: Literal["none", "model", "sequential"] = "none",
    preview: Literal["auto", "tiny", "full", "linear"] = "auto",
    tiny: str | Path | None = None,
    offline: bool = False,
    shared: Callable[[str], SharedDevice] | None = None,
) -> Engine:
    """Open an engine: a built-in name of `ENGINES`, a diffusers pipeline folder, or a hub id ("owner/name").

    Args:
        device: "auto", "cpu", "cuda", "cuda:1" ... dtype: "auto" (float32 on a CPU, else bfloat16),
        "float32", "float16", "bfloat16".
        offload: keep modules in main memory and move them to the GPU when needed: per model, or layer by layer.
        preview: how to decode previews; tiny: folder or hub id of an `AutoencoderTiny` of the same latent space.
        offline: never ask the hub.
        shared: the device of a name ("cpu", "cuda:1"), for engines that share it with others; by default they do not.

    Raises: NotFound for an unknown engine, InvalidInput for a folder that cannot or may not be loaded or when
    the packages of the extra `refine` are missing.
    """
    options: dict[str, Any] = {
        "device": device,
        "dtype": dtype,
        "offload": offload,
        "preview": preview,
        "tiny": tiny,
        "offline": offline,
        "shared": shared,
    }
    key = str(name)
    if key in ENGINES and key != "diffusers":
        built_in: Engine = _opener(key)(**options)
        return built_in
    if not key or ("/" not in key and not Path(key).is_dir()):
        raise NotFound(_unknown(key), reason=pb.ERROR_REASON_ENGINE_UNKNOWN)
    opened: Engine = _opener("diffusers")(where=name, **options)
    return opened


def _opener(key: str) -> Any:
    module, function = ENGINES[key].split(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("editcritic"):
            raise
        raise InvalidInput(
            f"the engine {key!r} needs {error.name}, which is not installed: pip install 'editcritic[refine]'"
        ) from error


def _unknown(key: str) -> str:
    built_in = [name for name in ENGINES if name != "diffusers"]
    near = get_close_matches(key, built_in, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    expected = f"expected one of {', '.join(built_in)}, a pipeline folder or a hub id (owner/name)"
    return f"there is no engine {key!r}: {expected}{hint}"


@dataclass(frozen=True, eq=False)
class GenerationEvent:
    """Something that happened in `generate`.

    kind: "started", "preview", "finished" or "failed". seed: of the candidate. index: its place from 0.
    fraction: of its steps, in [0, 1]. picture: the preview's crop or the finished edit, else None. region:
    what a preview shows.
    error: why it failed.
    """

    kind: Literal["started", "preview", "finished", "failed"]
    index: int
    seed: int
    fraction: float
    picture: NDArray[np.uint8] | None = None
    region: tuple[int, int, int, int] | None = None
    error: EditCriticError | None = None
    candidate: Candidate | None = None


def generate(
    engine: Engine,
    source: NDArray[np.uint8],
    mask: NDArray[Any],
    prompt: str,
    seeds: Sequence[int],
    *,
    previews: Sequence[float] = (0.25, 0.5, 0.75),
    **options: Any,
) -> Iterator[GenerationEvent]:
    """Produce one candidate per seed, one after the other, and tell of each as it comes along.

    previews: shares of the steps, rising, at which a preview is taken. options: as in `Engine.candidate`.
    A candidate that fails is told as an event and the next one is tried; bad input raises at once.
    """
    for index, seed in enumerate(seeds):
        candidate = engine.candidate(source, mask, prompt, seed=seed, **options)
        yield GenerationEvent("started", index, seed, 0.0, candidate=candidate)
        try:
            yield from _watched(candidate, index, previews)
        except EditCriticError as error:
            yield GenerationEvent("failed", index, seed, candidate.fraction, error=error, candidate=candidate)
        finally:
            candidate.drop()  # does nothing to a finished one; frees the thread when the caller stops listening


def _watched(candidate: Candidate, index: int, previews: Sequence[float]) -> Iterator[GenerationEvent]:
    for share in previews:
        candidate.advance(share)
        seen = candidate.preview()
        yield GenerationEvent(
            "preview", index, candidate.seed, seen.fraction, seen.picture, seen.region, candidate=candidate
        )
    picture = candidate.result()
    yield GenerationEvent("finished", index, candidate.seed, 1.0, picture, candidate=candidate)
