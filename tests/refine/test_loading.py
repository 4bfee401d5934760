"""Pipelines from folders with the hub switched off; and folders that are not opened."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.engine import load_engine
from editcritic.refine.loading import check_folder
from editcritic.refine.pipelines import DiffusersEngine, settle
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, NotFound
from tests.refine.tiny_pipelines import TINY_PIPELINES, tiny_pipeline


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach a hub fails at once."""

    def refused(*_args: Any, **_options: Any) -> Any:
        raise AssertionError("something tried to open a connection")

    monkeypatch.setattr("socket.socket.connect", refused)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("pipelines") / "sd-inpaint"
    tiny_pipeline("sd-inpaint")[0].save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    import shutil

    return Path(shutil.copytree(saved, tmp_path / "mine"))


@pytest.mark.parametrize("name", TINY_PIPELINES)
def test_a_saved_pipeline_gives_the_same_candidates(
    name: str, tmp_path: Path, photo: NDArray[np.uint8], hole: NDArray[np.bool_]
) -> None:
    pipeline, conditioning = tiny_pipeline(name)
    pipeline.save_pretrained(tmp_path / name)
    opened = load_engine(tmp_path / name, device="cpu", offline=True)
    assert isinstance(opened, DiffusersEngine)
    assert opened.capabilities.pipeline_class == type(pipeline).__name__
    small = {"native": 32, "default_steps": 2, "multiple": 16, "conditioning": conditioning}
    pictures = [
        DiffusersEngine(each, name, **small).candidate(photo, hole, "a ball", seed=3).result()
        for each in (pipeline, opened.pipeline)
    ]
    # Freshly loaded weights lie elsewhere in memory, which may turn the last bit of a product.
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 1


def test_a_plain_text_to_image_folder_is_opened_for_inpainting(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionPipeline"}))
    engine = load_engine(folder, device="cpu", offline=True)
    assert engine.capabilities.pipeline_class == "StableDiffusionInpaintPipeline"


def spoil_index(text: str) -> Callable[[Path], None]:
    """Replace the index."""
    return lambda folder: (folder / "model_index.json").write_text(text) and None


def change_index(**entries: Any) -> Callable[[Path], None]:
    """Add to the index."""

    def change(folder: Path) -> None:
        index = json.loads((folder / "model_index.json").read_text())
        (folder / "model_index.json").write_text(json.dumps(index | entries))

    return change


def remove_weights(folder: Path) -> None:
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()


def remove_component(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / "unet")


def pickle_weights(folder: Path) -> None:
    remove_weights(folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"cos\nsystem\n")


def truncate_weights(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), NotFound, "no model_index.json"),
        (spoil_index("{"), InvalidInput, "not JSON"),
        (spoil_index("[]"), InvalidInput, "_class_name"),
        (change_index(_class_name=["pipeline", "Mine"]), InvalidInput, "own code"),
        (change_index(unet=["my_code", "Net"]), InvalidInput, "not run"),
        (change_index(extra=["pathlib", "Path"]), InvalidInput, "not run"),
        (change_index(_class_name="NoSuchPipeline"), InvalidInput, "could not be loaded"),
        (remove_component, InvalidInput, "'unet'"),
        (remove_weights, InvalidInput, "safetensors"),
        (truncate_weights, InvalidInput, "could not be loaded"),
        (pickle_weights, InvalidInput, "may run code"),
    ],
    ids=lambda value: getattr(value, "__name__", None) if callable(value) else None,
)
def test_a_folder_that_cannot_or_may_not_be_loaded_is_refused(
    folder: Path, spoil: Callable[[Path], None], kind: type[Exception], message: str
) -> None:
    spoil(folder)
    with pytest.raises(kind, match=message):
        load_engine(folder, device="cpu", offline=True)


def test_code_beside_the_weights_is_never_imported(folder: Path, tmp_path: Path) -> None:
    (folder / "unet" / "unet.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    change_index(unet=["unet", "Net"])(folder)
    with pytest.raises(InvalidInput):
        load_engine(folder, device="cpu", offline=True)
    assert not (tmp_path / "ran").exists()


def test_a_check_alone_loads_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.DiffusionPipeline.from_pretrained", None)
    assert check_folder(saved) == "StableDiffusionInpaintPipeline"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tabeltop", "did you mean 'tabletop'"),
        ("", "expected one of"),
        ("./nowhere/at/all", "no folder"),
        ("somebody/some-model", "give a local folder"),
    ],
)
def test_an_unknown_engine_is_told_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(NotFound, match=message) as told:
        load_engine(name, offline=True)
    assert told.value.reason == pb.ERROR_REASON_ENGINE_UNKNOWN


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offload": "model"}, "the device is the CPU"),
        ({"offload": "disk"}, "expected none, model or sequential"),
        ({"preview": "sharp"}, "expected auto, tiny"),
        ({"preview": "tiny"}, "tiny="),
        ({"device": "tpu"}, "expected auto, cpu"),
    ],
)
def test_options_that_cannot_be_are_told(saved: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_engine(saved, **({"device": "cpu", "offline": True} | options))


def test_devices_and_dtypes_that_are_not_there_are_told() -> None:
    import torch

    assert settle("cpu", "auto") == ("cpu", torch.float32)
    assert settle("cpu", "bfloat16") == ("cpu", torch.bfloat16)
    with pytest.raises(InvalidInput, match="expected auto"):
        settle("cpu", "int8")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="no CUDA"):
            settle("cuda", "auto")
