"""Recording what an engine's previews become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from editcritic.plugin.recorded_answers import AskedEdit, prompted_edits, record_previews
from editcritic.refine.dummy import DummyEngine
from editcritic.server.training.recorded_previews import read_recorded


def asked() -> AskedEdit:
    mask = np.zeros((48, 64), np.float32)
    mask[10:30, 20:44] = 1
    return AskedEdit(np.full((48, 64, 3), 90, np.uint8), mask, "red")


def test_every_answer_is_kept_with_its_previews(tmp_path: Path) -> None:
    engine = DummyEngine()
    record_previews(engine, [asked()], tmp_path, answers=3, seed=4)
    (kept,) = read_recorded(tmp_path)
    assert kept.pictures.shape == (3, len(kept.shares) + 1, 48, 64, 3)
    far = np.abs(kept.pictures.astype(int) - kept.pictures[:, -1:].astype(int)).mean((0, 2, 3, 4))
    assert (np.diff(far) < 0).all(), "previews come nearer to what was finished"
    outside = kept.blend == 0
    assert (kept.pictures[:, :, outside] == 90).all(), "beyond the blend mask all of it is the source"


def test_what_a_folder_holds_is_not_made_again(tmp_path: Path) -> None:
    record_previews(DummyEngine(), [asked()], tmp_path, answers=2)
    (file,) = tmp_path.glob("*.npz")
    before = file.stat().st_mtime_ns
    record_previews(DummyEngine(), [asked(), asked()], tmp_path, answers=2)
    assert file.stat().st_mtime_ns == before
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_prompts_are_asked_for_in_turn_on_small_photographs() -> None:
    photo = Image.fromarray(np.full((300, 900, 3), 90, np.uint8))
    edits = prompted_edits([photo], ["a cat", "a dog"], 3, 0)
    assert [edit.prompt for edit in edits] == ["a cat", "a dog", "a cat"]
    assert all(edit.source.shape == (128, 384, 3) and edit.mask.any() for edit in edits)
