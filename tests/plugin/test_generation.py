"""`editcritic generate`: candidates as files, what is left when some of it goes wrong, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.contact_sheet import SheetRow, close_up, contact_sheet
from editcritic.plugin.generation import generate_files, read_edit
from editcritic.refine.dummy import DummyCandidate
from editcritic.refine.engine import load_engine
from editcritic.v1.errors import ImageError, ServerFault
from tests.plugin.test_commands import Run, run  # noqa: F401

EDIT = ("--image", "photo.png", "--mask", "mask.png", "--engine", "dummy")


def test_candidates_come_as_files(run: Run, files: Path) -> None:  # noqa: F811
    done = run("generate", *EDIT, "--count", "2", "--seed", "7", "--previews", "0.5", "--out", "made")
    assert done.returncode == 0, done.stderr
    photo, mask = (np.asarray(Image.open(files / name)) for name in ("photo.png", "mask.png"))
    pictures = [np.asarray(Image.open(files / "made" / f"seed-{seed}.png")) for seed in (7, 8)]
    for picture in pictures:
        assert picture.shape == photo.shape
        assert np.array_equal(picture[:8], photo[:8])
        assert not np.array_equal(picture[mask > 127], photo[mask > 127])
    assert not np.array_equal(*pictures)
    preview = np.asarray(Image.open(files / "made" / "seed-7-at-50.png"))
    assert preview.shape <= photo.shape
    assert np.asarray(Image.open(files / "made" / "contact-sheet.png")).shape[1] > 200
    assert "made/seed-7.png" in done.stdout


def test_candidates_can_be_judged_with_the_mask_that_they_were_blended_with(
    run: Run,  # noqa: F811
    files: Path,
) -> None:
    run("generate", *EDIT, "-n", "1", "--out", "made")
    judged = run(
        *(
            "score",
            "-i",
            "photo.png",
            "-m",
            "mask.png",
            "-c",
            "made/seed-0.png",
            "--critic",
            "evidence",
            "--json",
        ),
        *("--blend-mask", "made/blend-mask.png"),
    )
    assert json.loads(judged.stdout)["scores"]["preservation"]["value"] > 99


def test_what_was_made_can_be_made_again(run: Run, files: Path) -> None:  # noqa: F811
    run("generate", *EDIT, "-n", "2", "--out", "first")
    written = json.loads((files / "first" / "candidates.json").read_text())
    assert written["engine"] == "dummy"
    seed = written["candidates"][1]["seed"]
    run("generate", *EDIT, "-n", "1", "--seed", str(seed), "--out", "second")
    again = (files / "second" / f"seed-{seed}.png").read_bytes()
    assert again == (files / "first" / f"seed-{seed}.png").read_bytes()


def test_json_is_json_and_nothing_else(run: Run) -> None:  # noqa: F811
    done = run("generate", *EDIT, "-n", "1", "--json", "--out", "made")
    (candidate,) = json.loads(done.stdout)
    assert (candidate["picture"], candidate["evaluations"], candidate["error"]) == ("seed-0.png", 10, None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--engine", "tabeltop"), "did you mean 'tabletop'"),
        (("--previews", "half"), "expected shares"),
        (("--previews", "1.5"), "at most 1"),
        (("--count", "0"), "greater than or equal to 1"),
        (("--image", "gone.png"), "gone.png"),
        (("--mask", "empty.png"), "empty.png: "),
        (("--mask", "narrow.png"), "narrow.png: "),
        (("--strength", "3", "--engine", "tabletop"), "strength 3"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(
    run: Run,  # noqa: F811
    files: Path,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    Image.new("L", (64, 64)).save(files / "empty.png")
    Image.new("L", (64, 20), 255).save(files / "narrow.png")
    done = run("generate", *EDIT, *arguments, "--out", "made")
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (files / "made").exists()


@pytest.fixture
def edit() -> tuple[np.ndarray, np.ndarray]:
    mask = np.zeros((64, 64), np.float32)
    mask[20:40, 20:40] = 1
    return np.full((64, 64, 3), 90, np.uint8), mask


def failing_at(seed: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    result = DummyCandidate.result

    def broken(self: DummyCandidate) -> Any:
        if self.seed == seed:
            raise error
        return result(self)

    monkeypatch.setattr(DummyCandidate, "result", broken)


def test_one_failure_leaves_the_others(
    edit: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(1, ServerFault("broken"), monkeypatch)
    made = generate_files(load_engine("dummy"), *edit, "", [0, 1, 2], tmp_path)
    assert [each.picture is not None for each in made] == [True, False, True]
    assert str(made[1].error) == "broken"
    written = json.loads((tmp_path / "candidates.json").read_text())["candidates"]
    assert [each["error"] for each in written] == [None, "broken", None]


def test_what_was_made_before_it_was_stopped_is_kept(
    edit: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_at(1, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        generate_files(load_engine("dummy"), *edit, "", [0, 1, 2], tmp_path)
    assert (tmp_path / "seed-0.png").exists()
    assert (tmp_path / "contact-sheet.png").exists()
    assert len(json.loads((tmp_path / "candidates.json").read_text())["candidates"]) == 2


def test_a_mask_of_half_the_size_is_scaled(edit: tuple[np.ndarray, np.ndarray]) -> None:
    source, mask = edit
    _, scaled, blend = read_edit(source, mask[::2, ::2])
    assert blend is None
    assert scaled.shape == (64, 64)
    assert np.abs(scaled - mask).mean() < 0.05
    with pytest.raises(ImageError) as told:
        read_edit(source, mask, mask[:20])
    assert told.value.field == "blend_mask"


def test_a_close_up_shows_the_mask_with_its_surroundings() -> None:
    mask = np.zeros((300, 400), np.float32)
    mask[280:300, 100:150] = 1
    left, top, right, bottom = close_up(mask)
    assert 0 <= left < 90
    assert 160 < right <= 400
    assert top < 260
    assert bottom == 300


def test_a_contact_sheet_holds_every_picture() -> None:
    shades = [np.full((40, 60, 3), level, np.uint8) for level in (10, 90, 170)]
    page = contact_sheet(
        [SheetRow("one", [("a", shades[0])]), SheetRow("two", [("b", shades[1]), ("c", shades[2])])], side=96
    )
    for shade in (10, 90, 170):
        # 96 x 64 pixels each: scaled to fit, in proportion.
        assert (page == shade).all(axis=-1).sum() >= 96 * 64 * 0.95
