"""How critics are named: weights and options in one line, and what is refused before anything is loaded."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from editcritic.server.critics import check_spec, critic_name, load_critic
from editcritic.server.critics.multimodal import model as loading
from editcritic.server.critics.multimodal.model import open_model
from editcritic.server.critics.placement import type_option
from editcritic.server.critics.spec import LoadOptions, parse_spec
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1.errors import InvalidInput, NotFound
from tests.server.critics.tiny_models import save_llava

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is missing without a GPU")


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


def test_options_follow_the_weights_like_those_of_an_address() -> None:
    spec = parse_spec("multimodal@my/model?bits=4&device=cuda:1&dtype=bfloat16")
    assert (spec.name, spec.weights) == ("multimodal", "my/model")
    assert spec.options == LoadOptions(bits=4, device="cuda:1", dtype="bfloat16")
    assert parse_spec("network") == parse_spec("network@")
    assert critic_name("multimodal@my/model?bits=4") == critic_name("multimodal?bits=4") == "multimodal"


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("fast=1", r"no option 'fast'; known are bits \(4\), device \(cpu, cuda or cuda:N\), dtype"),
        ("bits=8", "bits of multimodal is 4, not '8'"),
        ("bits=", "bits of multimodal is 4, not ''"),
        ("device=moon", "cpu, cuda or cuda:N, not 'moon'"),
        ("device=cuda:x", "cpu, cuda or cuda:N, not 'cuda:x'"),
        ("dtype=int8", "float32, bfloat16 or float16, not 'int8'"),
        ("bits", "name=value, each once"),
        ("", "name=value, each once"),
        ("bits=4&bits=4", "name=value, each once"),
    ],
)
def test_what_is_no_option_is_told_with_those_there_are(query: str, told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        load_critic(f"multimodal@folder?{query}")
    with pytest.raises(SettingsError, match=told):
        ServerSettings(critics=("evidence", f"multimodal@folder?{query}"))


def test_critics_that_take_no_options_refuse_them() -> None:
    with pytest.raises(InvalidInput, match="'evidence' does not take device; it takes no options"):
        check_spec("evidence?device=cpu")
    with pytest.raises(InvalidInput, match="'network' does not take bits; it takes no options"):
        check_spec("network@folder?bits=4")
    with pytest.raises(InvalidInput, match=r"'dual_encoder' does not take bits; known are device .*, dtype"):
        check_spec("dual_encoder@folder?bits=4")
    with pytest.raises(NotFound, match="no critic 'mars'"):
        check_spec("mars?bits=4")


def test_the_asked_for_numbers_are_loaded(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(loading, "MultimodalModel", lambda model, *_: opened.append(model))
    for dtype in ("", "bfloat16", "float16"):
        open_model(str(llava), LoadOptions(device="cpu", dtype=dtype))
    assert [model.dtype for model in opened] == [torch.float32, torch.bfloat16, torch.float16]


def test_options_work_for_members_of_an_ensemble(llava: Path) -> None:
    critic = load_critic(f"ensemble@multimodal@{llava}?device=cpu&dtype=bfloat16:0.6+evidence:0.4")
    assert "multimodal (0.6), evidence (0.4)" in critic.info.description


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ("multimodal@folder?fast=1:0.6+evidence:0.4", "no option 'fast'"),
        ("multimodal@folder?bits=4+evidence:0.4", "needs a weight above 0"),
        ("evidence?device=cpu:1", "'evidence' does not take device"),
        ("multimodal?device=cpu:0.6+evidence:0.4", "'multimodal' comes without weights"),
        ("ensemble@evidence:1:0.5", "no member of an ensemble"),
        ("mars:0.5", "no critic 'mars'"),
    ],
)
def test_a_member_at_fault_is_told_before_anything_starts(members: str, told: str) -> None:
    with pytest.raises((InvalidInput, NotFound), match=told):
        load_critic(f"ensemble@{members}")
    with pytest.raises(SettingsError, match=told):
        ServerSettings(critics=(f"ensemble@{members}",))


@WITHOUT_GPU
@pytest.mark.parametrize("critic", ["multimodal", "dual_encoder", "q_align"])
def test_a_gpu_that_is_not_there_is_told(critic: str, llava: Path) -> None:
    with pytest.raises(InvalidInput, match="no device cuda:1 here: 0 CUDA GPUs"):
        load_critic(f"{critic}@{llava}?device=cuda:1")


@WITHOUT_GPU
def test_four_bits_without_a_gpu_are_refused(llava: Path) -> None:
    with pytest.raises(InvalidInput, match="4 bits need a CUDA GPU"):
        load_critic(f"multimodal@{llava}?bits=4")


def test_four_bits_without_their_package_are_refused(llava: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("editcritic.server.critics.placement.find_spec", lambda _name: None)
    with pytest.raises(InvalidInput, match="pip install bitsandbytes"):
        load_critic(f"multimodal@{llava}?bits=4")


def test_four_bits_are_read_into_their_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def from_pretrained(name: str, **options: Any) -> Any:
        asked.update(options)
        raise OSError("that is all that was wanted")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("editcritic.server.critics.placement.find_spec", lambda name: name)
    monkeypatch.setattr(transformers.AutoProcessor, "from_pretrained", lambda *_, **__: None)
    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    with pytest.raises(InvalidInput, match="that is all"):
        load_critic(f"multimodal@{tmp_path}?bits=4&device=cuda:1&dtype=float16")
    assert asked["device_map"] == {"": "cuda:1"}
    assert asked["dtype"] == torch.float16
    numbers = asked["quantization_config"]
    assert numbers.load_in_4bit
    assert (numbers.bnb_4bit_quant_type, numbers.bnb_4bit_compute_dtype) == ("nf4", torch.float16)
    assert asked["use_safetensors"]
    assert not asked["trust_remote_code"]


@pytest.mark.parametrize(
    ("version", "name"),
    [("4.37.2", "torch_dtype"), ("4.55.4", "torch_dtype"), ("4.56.0", "dtype"), ("5.0.0rc1", "dtype")],
)
def test_an_older_transformers_is_told_the_numbers_in_its_own_words(
    monkeypatch: pytest.MonkeyPatch, version: str, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", types.SimpleNamespace(__version__=version))
    assert type_option(torch.float16) == {name: torch.float16}
