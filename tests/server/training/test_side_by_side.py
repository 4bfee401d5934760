"""`editcritic eval --against`: critics of every kind over the same cases, in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from editcritic.plugin.cli.app import app
from editcritic.server.critics.multimodal import critic as multimodal
from editcritic.server.critics.multimodal.model import MultimodalModel
from tests.server.critics.tiny_encoders import save_encoder
from tests.server.critics.tiny_models import save_llava

runner = CliRunner()


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


def evaluated(photos: Path, out: Path, *others: str) -> dict[str, Any]:
    asked = ["eval", "--images", str(photos), "--critic", "evidence", "--limit", "1", "--workers", "1"]
    against = [part for other in others for part in ("--against", other)]
    result = runner.invoke(app, [*asked, *against, "--out", str(out), "--json"])
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_critics_of_every_kind_stand_in_one_table(
    photo_folder: Path, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MultimodalModel, "write", lambda *_: '{"faults": []}')
    clip = tmp_path / "clip"
    save_encoder("clip", clip)
    large = f"multimodal@{llava}?device=cpu"
    others = (large, f"dual_encoder@{clip}", f"ensemble@evidence:0.6+{large}:0.4")
    told = evaluated(photo_folder, tmp_path / "out", *others)
    assert [each["critic"] for each in told["against"]] == list(others)
    counts = [each["totals"]["severities_ordered"]["count"] for each in (told, *told["against"])]
    assert counts[0] == counts[1] > 10
    assert counts[2] == 0, "without a prompt a dual encoder judges nothing"
    assert all(each["failed"]["value"] == 0 for each in told["against"])
    page = (tmp_path / "out" / "eval.html").read_text()
    assert all(other.replace("&", "&amp;") in page for other in others)
    assert "<td>–</td>" in page


def test_answers_that_cannot_be_read_are_counted_and_cost_the_others_nothing(
    photo_folder: Path, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multimodal, "ANSWER_TOKENS", 2)
    told = evaluated(photo_folder, tmp_path, f"multimodal@{llava}?device=cpu")
    (large,) = told["against"]
    # Faults are asked for where something was injected; clean controls are rated by words alone.
    assert 0 < large["failed"]["value"] < 1
    assert large["clean_flagged"]["count"] == told["clean_flagged"]["count"]
    assert large["totals"]["faulty_flagged"]["count"] == 0
    assert told["failed"]["value"] == 0
    assert "errors instead of a critique" in (tmp_path / "eval.html").read_text()
