"""Timing of large models: sizes are those that are stated, figures belong together, and what cannot run is told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from editcritic.plugin import model_benchmark
from editcritic.plugin.cli.app import app
from editcritic.plugin.model_benchmark import TIMING_ONLY, measure_models, model_rows
from editcritic.plugin.random_model import (
    SHAPES,
    build_random_model,
    count_weights,
    question_tokens,
    random_question,
)
from editcritic.server.critics.multimodal.model import next_logits
from editcritic.v1.errors import InvalidInput

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="tells what is missing without a GPU")
runner = CliRunner()


def test_the_shapes_have_the_sizes_that_their_names_say() -> None:
    assert count_weights(SHAPES["8b"]) == 8_292_166_656, "Qwen2.5-VL-7B as published"
    assert 2.0e9 < count_weights(SHAPES["2b"]) < 2.4e9
    assert count_weights(SHAPES["tiny"]) < 1e6


def test_weights_are_made_in_their_numbers() -> None:
    model = build_random_model(SHAPES["tiny"], "cpu", torch.bfloat16)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_four_bits_take_the_place_of_every_linear_layer_but_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Linear4bit(torch.nn.Linear):
        def __init__(self, into: int, out: int, *, bias: bool, device: str, **_: Any) -> None:
            super().__init__(into, out, bias=bias, device=device)

    layers = SimpleNamespace(
        Linear4bit=Linear4bit, Params4bit=lambda data, **_: torch.nn.Parameter(data, requires_grad=False)
    )
    monkeypatch.setitem(sys.modules, "bitsandbytes", SimpleNamespace(nn=layers))
    whole = build_random_model(SHAPES["tiny"], "cpu", torch.float32)
    small = build_random_model(SHAPES["tiny"], "cpu", torch.float32, quantised=True)
    left = [name for name, each in small.named_modules() if type(each) is torch.nn.Linear]
    assert left == ["lm_head"]
    question = random_question(SHAPES["tiny"], 1, small)
    with torch.inference_mode():
        torch.testing.assert_close(next_logits(small, question), next_logits(whole, question))


def test_a_question_is_four_pictures_and_words_for_each_candidate() -> None:
    model = build_random_model(SHAPES["tiny"], "cpu", torch.float32)
    question = random_question(SHAPES["tiny"], 3, model)
    assert question["input_ids"].shape == (3, question_tokens(SHAPES["tiny"]))
    assert len(question["image_grid_thw"]) == 3 * 4
    with torch.inference_mode():
        logits = next_logits(model, question)
        torch.testing.assert_close(logits, model(**question).logits[:, -1])
    assert logits.shape == (3, SHAPES["tiny"].text["vocab_size"])


def test_the_command_tells_that_it_is_timing_only(tmp_path: Path) -> None:
    asked = ["bench", "models", "--device", "cpu", "--batch", "1", "--batch", "4", "--repeats", "2"]
    done = runner.invoke(app, [*asked, "--json", "--out", str(tmp_path / "models.json")])
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert json.loads((tmp_path / "models.json").read_text()) == told
    assert told["note"] == TIMING_ONLY
    assert (told["shape"], told["dtype"], told["device"]) == ("tiny", "float32", "cpu")
    assert [each["batch"] for each in told["batches"]] == [1, 4]
    for each in told["batches"]:
        assert each["latency_ms"]["count"] == 2
        assert each["images_per_s"] == pytest.approx(1000 * each["batch"] / each["latency_ms"]["median"])
    table = dict(model_rows(told))
    assert "timing only" in table["note"]
    assert "images/s" in table["batch of 4"]


def test_what_does_not_fit_ends_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def rating(model: Any, question: Any) -> float:
        if len(question["input_ids"]) > 2:
            raise torch.OutOfMemoryError("full")
        return 0.5

    monkeypatch.setattr(model_benchmark, "_rating_s", rating)
    result = measure_models("tiny", device="cpu", batches=(8, 1, 2, 4), repeats=1)
    assert [(each["batch"], each["out_of_memory"]) for each in result["batches"]] == [
        (1, False),
        (2, False),
        (4, True),
    ]
    assert dict(model_rows(result))["batch of 4"] == "out of memory"


@WITHOUT_GPU
@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"shape": "8b"}, "no CUDA GPU was found; 8b takes minutes .* --device cpu"),
        ({"shape": "2b"}, "--shape tiny"),
        ({"shape": "70b"}, "known are tiny, 2b, 8b"),
        ({"shape": "tiny", "dtype": "int8"}, "known are bfloat16, float32, 4bit"),
        ({"shape": "tiny", "dtype": "4bit"}, "4 bits need a CUDA GPU"),
        ({"shape": "tiny", "device": "moon"}, "no device 'moon'; known are cpu, cuda and cuda:N"),
        ({"shape": "tiny", "device": "cuda"}, "no device cuda here"),
    ],
)
def test_what_cannot_run_is_told(asked: dict[str, str], told: str) -> None:
    with pytest.raises(InvalidInput, match=told):
        measure_models(**asked)  # type: ignore[arg-type]
