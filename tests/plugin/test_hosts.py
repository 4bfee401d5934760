"""The node for InvokeAI and the script for A1111 and Forge, each in a stand-in for its host."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.v1.errors import EditCriticError

Filled = Callable[[int], NDArray[np.uint8]]


def module(name: str, **contents: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(contents)
    return made


@pytest.fixture
def hosted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """``hosted("editcritic.plugin.invokeai")``: the module as it is in its host."""
    before = set(sys.modules)
    host: dict[str, ModuleType] = {
        "invokeai": module("invokeai"),
        "invokeai.invocation_api": module("invokeai.invocation_api", **invocation_api()),
        "modules": module("modules", scripts=SimpleNamespace(Script=object, AlwaysVisible="always")),
        "gradio": module("gradio", Accordion=Control, Checkbox=Control, Textbox=Control),
    }
    for name, each in host.items():
        monkeypatch.setitem(sys.modules, name, each)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        del sys.modules[name]


class Control:
    """A control of gradio."""

    def __init__(self, *_args: Any, **options: Any) -> None:
        self.value = options.get("value")

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_error: object) -> None: ...


class Model:
    """What InvokeAI takes of pydantic: fields by keyword, defaults of the class."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


def invocation_api() -> dict[str, Any]:
    def field(default: Any = None, **_told: Any) -> Any:
        return default

    def decorator(*_args: Any, **_options: Any) -> Callable[[Any], Any]:
        return lambda decorated: decorated

    plain = ("BaseInvocation", "BaseInvocationOutput", "InvocationContext", "ImageField")
    classes: dict[str, Any] = {name: type(name, (Model,), {}) for name in plain}
    classes |= {
        "WithMetadata": type("WithMetadata", (), {"metadata": None}),
        "WithBoard": type("WithBoard", (), {}),
    }
    functions = dict.fromkeys(("InputField", "OutputField"), field)
    return classes | functions | {"invocation": decorator, "invocation_output": decorator}


class Images:
    """InvokeAI's gallery."""

    def __init__(self, **pictures: Image.Image) -> None:
        self.kept = pictures

    def get_pil(self, name: str) -> Image.Image:
        return self.kept[name]

    def save(self, picture: Image.Image) -> Any:
        name = f"saved-{len(self.kept)}"
        self.kept[name] = picture
        return SimpleNamespace(image_name=name)


@pytest.fixture
def pictures(files: Path, filled: Filled) -> dict[str, Image.Image]:
    return {
        "source": Image.open(files / "photo.png").convert("RGB"),
        "mask": Image.open(files / "mask.png").convert("L"),
        "candidate": Image.fromarray(filled(240)),
    }


# InvokeAI.


def node(pack: Any, api: Any, **inputs: Any) -> Any:
    named = {name: api.ImageField(image_name=name) for name in ("source", "mask", "candidate")}
    return pack.CritiqueInpaintInvocation(**named, **inputs)


def test_the_node_answers_with_a_score_a_reason_and_a_picture_of_the_faults(
    hosted: Any, address: str, pictures: dict[str, Image.Image]
) -> None:
    pack, api = hosted("editcritic.plugin.invokeai"), hosted("invokeai.invocation_api")
    images = Images(**pictures)
    told = node(pack, api, address=address, metadata=SimpleNamespace(root={}))
    answer = told.invoke(SimpleNamespace(images=images))
    # The server's first critic is the dummy, whose score is the brightness inside the mask.
    assert answer.score == pytest.approx(240 / 2.55, abs=1)
    assert answer.accepted
    assert answer.reason
    assert images.kept[answer.image.image_name] is pictures["candidate"]
    assert images.kept[answer.heat_map.image_name].size == pictures["candidate"].size
    assert told.metadata.root["editcritic"]["critic"] == "dummy"


def test_the_node_does_not_accept_what_is_below_the_threshold(
    hosted: Any, address: str, pictures: dict[str, Image.Image]
) -> None:
    pack, api = hosted("editcritic.plugin.invokeai"), hosted("invokeai.invocation_api")
    answer = node(pack, api, address=address, threshold=99).invoke(SimpleNamespace(images=Images(**pictures)))
    assert not answer.accepted


def test_the_node_says_what_is_wrong_when_there_is_no_server(
    hosted: Any, pictures: dict[str, Image.Image]
) -> None:
    pack, api = hosted("editcritic.plugin.invokeai"), hosted("invokeai.invocation_api")
    with pytest.raises(EditCriticError, match="localhost:1"):
        node(pack, api, address="localhost:1").invoke(SimpleNamespace(images=Images(**pictures)))


# A1111 and Forge.


def job(pictures: dict[str, Image.Image], **changes: Any) -> Any:
    held = {"init_images": [pictures["source"]], "image_mask": pictures["mask"], "prompt": "a red ball"}
    return SimpleNamespace(extra_generation_params={}, **(held | changes))


def script(hosted: Any) -> Any:
    return hosted("editcritic.plugin.a1111.scripts.editcritic_script").EditCriticScript()


def test_the_script_writes_score_and_reason_among_the_parameters_of_each_image(
    hosted: Any, address: str, pictures: dict[str, Image.Image], filled: Filled
) -> None:
    own, p = script(hosted), job(pictures)
    own.process(p, True, address)
    scores = []
    for level in (240, 20):
        own.postprocess_image(p, SimpleNamespace(image=Image.fromarray(filled(level))), True, address)
        scores.append(p.extra_generation_params["Edit critic score"])
    assert scores == [pytest.approx(240 / 2.55, abs=1), pytest.approx(20 / 2.55, abs=1)]
    assert p.extra_generation_params["Edit critic"]
    processed = SimpleNamespace(comments="made in 3 s")
    own.postprocess(p, processed, True, address)
    assert [line[:5] for line in processed.comments.splitlines()[1:]] == ["1. 94", "2. 8:"]


def test_an_inverted_mask_is_judged_outside_what_was_painted(
    hosted: Any, address: str, pictures: dict[str, Image.Image]
) -> None:
    turned = pictures["mask"].point([255 - level for level in range(256)])
    results = []
    for changes in ({}, {"image_mask": turned, "inpainting_mask_invert": 1}):
        own, p = script(hosted), job(pictures, **changes)
        own.process(p, True, address)
        own.postprocess_image(p, SimpleNamespace(image=pictures["candidate"]), True, address)
        results.append(p.extra_generation_params["Edit critic score"])
    assert results[0] == pytest.approx(results[1], abs=0.5)


@pytest.mark.parametrize(("is_on", "marked"), [(False, "mask"), (True, "nothing")])
def test_the_script_does_nothing_when_it_is_off_or_there_is_no_mask(
    hosted: Any, pictures: dict[str, Image.Image], is_on: bool, marked: str
) -> None:
    own, p = script(hosted), job(pictures, image_mask=pictures.get(marked))
    own.process(p, is_on, "localhost:1")
    own.postprocess_image(p, SimpleNamespace(image=pictures["candidate"]), is_on, "localhost:1")
    assert p.extra_generation_params == {}


def test_a_critic_that_is_not_there_costs_no_image_and_leaves_no_number(
    hosted: Any, pictures: dict[str, Image.Image]
) -> None:
    own, p = script(hosted), job(pictures)
    own.process(p, True, "localhost:1")
    p.extra_generation_params["Edit critic score"] = 88.0
    own.postprocess_image(p, SimpleNamespace(image=pictures["candidate"]), True, "localhost:1")
    assert "Edit critic score" not in p.extra_generation_params
    assert "not judged" in p.extra_generation_params["Edit critic"]


def test_the_script_stands_below_img2img_alone(hosted: Any) -> None:
    own = script(hosted)
    assert own.show(is_img2img=True) == "always"
    assert own.show(is_img2img=False) is False
    assert [control.value for control in own.ui(is_img2img=True)] == [False, "localhost:50551"]
