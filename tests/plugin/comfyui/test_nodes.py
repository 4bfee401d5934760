"""The nodes, with ComfyUI's modules as doubles and a real critic server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib
import torch
from PIL import Image

from editcritic.plugin.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, WEB_DIRECTORY
from editcritic.plugin.comfyui.addresses import CriticAddress, check_address, connected
from editcritic.plugin.comfyui.best import BestOfBatch
from editcritic.plugin.comfyui.critic_server import CriticServer
from editcritic.plugin.comfyui.critique import CritiqueInpaint
from editcritic.plugin.comfyui.gate import QualityGate
from editcritic.plugin.comfyui.segs import segments
from editcritic.plugin.comfyui.tensors import read_images, read_masks
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError, InvalidInput, ServerUnavailable
from tests.plugin.comfyui.conftest import Comfy, ExecutionBlocker, Interrupted

PACK = Path(__file__).parents[3] / "plugin" / "comfyui"


def test_every_input_and_output_is_explained(comfy: Comfy) -> None:
    assert NODE_CLASS_MAPPINGS.keys() == NODE_DISPLAY_NAME_MAPPINGS.keys()
    for node in NODE_CLASS_MAPPINGS.values():
        assert node.CATEGORY == "editcritic"
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
        inputs = node.INPUT_TYPES()
        for options in [*inputs["required"].values(), *inputs.get("optional", {}).values()]:
            assert options[1]["tooltip"].endswith("."), options


def test_the_registry_gets_what_it_asks_for() -> None:
    told = tomllib.loads((PACK / "pyproject.toml").read_text())
    package = tomllib.loads((PACK.parents[1] / "pyproject.toml").read_text())
    name = told["project"]["name"]
    assert "comfyui" not in name.lower()
    assert not name[0].isdigit()
    assert told["project"]["version"] == package["project"]["version"]
    assert told["tool"]["comfy"].keys() >= {"PublisherId", "DisplayName"}
    assert "web" not in told["tool"]["comfy"], "the page extension would be loaded twice"
    assert list((PACK / WEB_DIRECTORY).glob("*.js"))


def test_a_wheel_holds_all_of_the_pack() -> None:
    package = tomllib.loads((PACK.parents[1] / "pyproject.toml").read_text())
    patterns = package["tool"]["setuptools"]["package-data"]["editcritic.plugin.comfyui"]
    held = {file for pattern in patterns for file in PACK.glob(pattern)}
    others = {file for file in PACK.rglob("*") if file.is_file() and file.suffix not in (".py", ".pyc")}
    assert others == held
    assert {file.suffix for file in held} == {".md", ".toml", ".txt", ".js", ".json", ".png"}


def test_the_examples_are_of_nodes_that_there_are() -> None:
    for path in (PACK / "example_workflows").glob("*.json"):
        workflow = json.loads(path.read_text())
        ours = {node["type"] for node in workflow["nodes"] if node["type"].startswith("EditCritic")}
        assert ours <= NODE_CLASS_MAPPINGS.keys()
        assert ours
        with Image.open(path.with_suffix(".png")) as picture:
            assert json.loads(picture.info["workflow"]) == workflow


def test_one_score_and_reason_for_each_picture(
    comfy: Comfy, server: CriticAddress, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    answer = CritiqueInpaint().run(
        image, hole, "", batch(51, 204), server, "dummy", node_id="5", extra_pnginfo=(kept := {})
    )
    scores, reasons, heat, defects, segs, critiques, details = answer["result"]
    assert scores == pytest.approx([20, 80], abs=0.5)
    assert len(reasons) == len(segs) == len(critiques.outcomes) == 2
    assert heat.shape == (2, 64, 64, 3)
    assert defects.shape == (2, 64, 64)
    assert answer["ui"]["text"][0].splitlines()[1].startswith("1: 80/100")
    assert json.loads(details) == kept["editcritic"]["critique 5"]  # type: ignore[index]
    sent = comfy.named("editcritic.critique")
    assert {each["index"] for each in sent} == {0, 1}
    assert all(each["node"] == "5" for each in sent)


def test_a_mask_for_each_picture_makes_each_its_own_edit(
    comfy: Comfy, server: CriticAddress, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    other = torch.zeros_like(hole)
    other[:, :16, :16] = 1
    answer = CritiqueInpaint().run(image, torch.cat([hole, other]), "", batch(255, 255), server, "dummy")
    first, second = answer["result"][0]
    assert first == pytest.approx(100, abs=0.5)
    assert second < 60, "its mask is over the source's own pixels"


def test_batches_that_do_not_fit_are_refused(image: Any, hole: Any, batch: Callable[..., Any]) -> None:
    with pytest.raises(ImageError, match="mask 3, edited 2"):
        CritiqueInpaint().run(image, hole.repeat(3, 1, 1), "", batch(1, 2))
    with pytest.raises(ImageError, match="connect the batch of 2"):
        CritiqueInpaint().run(image.repeat(2, 1, 1, 1), hole, "", batch(1))


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(1, 64, 64), "64x64 zeros: that is what LoadImage gives"),
        (torch.zeros(1, 32, 48), "no pixel of it is above one half"),
        (torch.ones(1, 100, 20), "different shapes"),
    ],
)
def test_masks_that_cannot_be_meant_are_explained(mask: Any, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        read_masks(mask, [(32, 48)])


def test_a_mask_of_the_same_shape_is_resized() -> None:
    mask = torch.zeros(32, 48)
    mask[:, :24] = 1
    (read,) = read_masks(mask, [(64, 96)])
    assert read.shape == (64, 96)
    assert read[:, :40].min() == 1
    assert read[:, 56:].max() == 0


def test_an_alpha_channel_is_left_out() -> None:
    (picture,) = read_images(torch.ones(4, 5, 4))
    assert picture.shape == (4, 5, 3)
    assert picture.dtype == np.uint8


def best(**more: Any) -> dict[str, Any]:
    return {"prompt": "", "keep": 2, "first_index": 1, "critic": "dummy", **more}


def test_the_best_come_first_and_can_be_picked(
    comfy: Comfy, server: CriticAddress, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    edited = batch(20, 220, 120)
    kept, pick_list, scores, ordered, provenance, _ = BestOfBatch().run(
        image, hole, edited=edited, server=server, **best()
    )["result"]
    assert pick_list == "2,3"
    assert torch.equal(kept, edited[[1, 2]])
    assert torch.equal(ordered, edited[[1, 2, 0]])
    assert scores == pytest.approx([8, 86, 47], abs=0.6)
    told = json.loads(provenance)
    assert told["chosen"] == [1, 2]
    assert told["candidates"][0]["critic"].startswith("dummy")


def test_critiques_that_are_there_are_not_asked_for_again(
    comfy: Comfy, server: CriticAddress, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    edited = batch(20, 220)
    critiques = CritiqueInpaint().run(image, hole, "", edited, server, "dummy")["result"][5]
    nobody = CriticAddress("127.0.0.1:1")
    answer = BestOfBatch().run(image, hole, edited=edited, critiques=critiques, server=nobody, **best(keep=1))
    assert answer["result"][1] == "2"
    with pytest.raises(InvalidInput, match="2 critiques and 3 pictures"):
        BestOfBatch().run(image, hole, edited=batch(1, 2, 3), critiques=critiques, **best())


GATE = {"least_score": 50.0, "unscored": "reject", "override": "by score", "accept": "", "reject": ""}


@pytest.mark.parametrize(
    ("options", "accepted"),
    [
        ({}, [1]),
        ({"least_score": 1.0}, [0, 1]),
        ({"accept": "0"}, [0, 1]),
        ({"reject": "1", "accept": "0"}, [0]),
        ({"override": "accept all", "reject": "0"}, [1]),
        ({"override": "reject all"}, []),
        ({"unscored": "accept"}, [1, 2]),
    ],
)
def test_the_gate_obeys_score_and_person(
    comfy: Comfy,
    server: CriticAddress,
    image: Any,
    hole: Any,
    batch: Callable[..., Any],
    options: dict[str, Any],
    accepted: list[int],
) -> None:
    edited = batch(20, 220)
    critiques = CritiqueInpaint().run(image, hole, "", edited, server, "dummy")["result"][5]
    if "unscored" in options:
        failed = type(critiques)((*critiques.outcomes, ServerUnavailable("gone")))
        edited, critiques = batch(20, 220, 30), failed
    good, bad, good_count, bad_count, report = QualityGate().run(edited, critiques, **{**GATE, **options})[
        "result"
    ]
    assert (good_count, bad_count) == (len(accepted), len(edited) - len(accepted))
    if accepted:
        assert torch.equal(good, edited[accepted])
    else:
        assert isinstance(good, ExecutionBlocker)
    assert isinstance(bad, ExecutionBlocker) == (bad_count == 0)
    assert len(report.splitlines()) == len(edited)


def test_the_gate_refuses_lists_that_are_none() -> None:
    assert QualityGate.VALIDATE_INPUTS("0, 2", "1") is True
    assert "no list of indices" in str(QualityGate.VALIDATE_INPUTS("first", ""))
    assert "picture 2 is under accept and under reject" in str(QualityGate.VALIDATE_INPUTS("2", "1,2"))


def defect(x: int, y: int, width: int, height: int, severity: float) -> pb.Defect:
    box = pb.Box(x=x, y=y, width=width, height=height)
    return pb.Defect(kind=pb.DEFECT_KIND_COLOUR_SHIFT, severity=severity, box=box)


def test_defects_become_segments_that_lie_within_the_picture() -> None:
    critique = pb.Critique(
        defects=[defect(0, 4, 10, 6, 0.9), defect(30, 30, 10, 10, 0.4), defect(1, 1, 2, 2, 0.1)]
    )
    mask = np.zeros((40, 40), np.float32)
    mask[5:7, 2:5] = 1
    size, (first, second) = segments(critique, mask, 0.3, 2.0)
    assert size == (40, 40)
    assert first.crop_region == (0, 1, 20, 13)
    assert first.bbox == (0, 4, 10, 10)
    assert first.label == "colour shift"
    assert first.cropped_mask.shape == (12, 20)
    assert first.cropped_mask.sum() == 6
    assert second.crop_region == (20, 20, 40, 40)
    assert second.cropped_mask.sum() == 100, "a box without map counts as a whole"


def test_a_workflow_names_servers_of_this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDITCRITIC_SERVER", raising=False)
    assert check_address(" 127.0.0.1:4000 ") == "127.0.0.1:4000"
    for address in ("10.0.0.2:50551", "localhost.example:50551", "127.0.0.1.example:1"):
        with pytest.raises(InvalidInput, match="must not choose where your pictures are sent"):
            check_address(address)
    for address in ("nonsense", "http://127.0.0.1:1", "127.0.0.1:50551/path"):
        with pytest.raises(InvalidInput, match="expected host:port"):
            check_address(address)
    monkeypatch.setenv("EDITCRITIC_SERVER", "gpu.lan:50551")
    assert check_address("") == check_address("gpu.lan:50551") == "gpu.lan:50551"
    assert CriticServer.VALIDATE_INPUTS("embedded", "10.0.0.2:1") is True, "not used then"
    assert "EDITCRITIC_SERVER=" in str(CriticServer.VALIDATE_INPUTS("address", "10.0.0.2:1"))


def test_the_token_goes_to_the_persons_own_server_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITCRITIC_SERVER", "gpu.lan:50551")
    monkeypatch.setenv("EDITCRITIC_TOKEN", "secret")
    with connected(None) as own, connected(CriticAddress("127.0.0.1:50551")) as other:
        assert ("authorization", "Bearer secret") in own._endpoint.metadata()
        assert other._endpoint.metadata() == ()


def test_without_a_server_the_person_is_told_what_to_do(
    comfy: Comfy, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    with pytest.raises(
        ServerUnavailable, match=r"127.0.0.1:1 cannot be reached.*Critic Server node.*embedded"
    ):
        CritiqueInpaint().run(image, hole, "", batch(9), CriticAddress("127.0.0.1:1"))


def test_cancel_ends_the_wait_for_a_critic(
    comfy: Comfy, server: CriticAddress, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    comfy.is_cancelled = True
    with pytest.raises(Interrupted):
        CritiqueInpaint().run(image, hole, "", batch(9), server, "dummy")
    assert comfy.named("editcritic.critique") == []


def test_an_embedded_server_starts_once_and_again_when_it_has_ended(
    comfy: Comfy, image: Any, hole: Any, batch: Callable[..., Any]
) -> None:
    from editcritic.plugin.comfyui import addresses

    (first,) = CriticServer().run("embedded", "", "evidence")
    try:
        assert CriticServer().run("embedded", "", "evidence") == (first,)
        assert CriticServer.IS_CHANGED("embedded", "", "evidence") == "evidence"
        assert CritiqueInpaint().run(image, hole, "", batch(250), first)["result"][0][0] >= 0
        addresses._running["evidence"].stop()
        changed = CriticServer.IS_CHANGED("embedded", "", "evidence")
        assert changed != changed, "NaN: to be run again"
        (second,) = CriticServer().run("embedded", "", "evidence")
        assert second != first
    finally:
        addresses._running.pop("evidence").stop()
