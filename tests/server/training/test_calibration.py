"""Calibration without labels, and with the verdicts of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from editcritic.server.critics.network.border import BORDER_KINDS
from editcritic.server.critics.network.calibration import (
    Calibration,
    Curve,
    read_calibration,
    write_calibration,
)
from editcritic.server.critics.network.findings import MEASURED
from editcritic.server.critics.network.model import KINDS, SCORES
from editcritic.server.training.calibration import Sample, fit_calibration
from editcritic.server.training.recipes import split_photographs
from editcritic.server.training.verdict_calibration import calibrate_on_verdicts, fit_verdicts, read_verdicts
from editcritic.server.verdicts import VerdictStore
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    """A network that is right on average: means fall with severity, the right kind shows."""
    rng = np.random.default_rng(4)
    made = []
    for number in range(600):
        severity = 0.0 if number % 2 else float(rng.choice([0.3, 0.6, 1.0]))
        presence = rng.uniform(0, 0.3, len(KINDS))
        if severity:
            presence[KINDS.index(pb.DEFECT_KIND_SHARPNESS_MISMATCH)] = 0.115 + 0.6 * severity
        mean = np.full(len(SCORES), 2 - 4 * severity) + rng.normal(0, 0.3, len(SCORES))
        made.append(
            Sample(
                number // 2,
                "blur" if severity else "",
                severity,
                mean,
                np.full(len(SCORES), 0.3),
                presence,
                np.zeros(len(BORDER_KINDS)),
            )
        )
    return made


def test_scores_fall_with_severity_and_clean_answers_are_near_the_top(samples: list[Sample]) -> None:
    curve = fit_calibration(samples, "c", clean_flagged=0.05).curves["visual_quality"]
    values = [curve.score(2 - 4 * severity, 0.3)[0] for severity in (0.0, 0.3, 0.6, 1.0)]
    assert values[0] > 88
    assert values == sorted(values, reverse=True)
    assert values[-1] < 30


def test_thresholds_let_the_stated_share_of_clean_answers_pass_as_faulty(samples: list[Sample]) -> None:
    thresholds = fit_calibration(samples, "c", clean_flagged=0.05).thresholds
    names = [pb.DefectKind.Name(kind).removeprefix("DEFECT_KIND_") for kind in KINDS]
    levels = np.array(
        [np.inf if kind in MEASURED else thresholds[name] for kind, name in zip(KINDS, names, strict=True)]
    )
    clean = [bool((each.presence > levels).any()) for each in samples if not each.injected]
    faulty = [bool((each.presence > levels).any()) for each in samples if each.injected]
    assert 0.0 < np.mean(clean) <= 0.05
    assert np.mean(faulty) > 0.95


def test_every_twelfth_photograph_is_kept_from_training() -> None:
    files = [Path(f"{number:03d}.png") for number in range(120)]
    learnt, kept = split_photographs(files)
    assert len(kept) == 10
    assert not set(learnt) & set(kept)
    assert set(learnt) | set(kept) == set(files)


def record(store: VerdictStore, number: int, score: float, kind: str, rating: float | None = None) -> None:
    critique = pb.Critique(
        scores=pb.Scores(overall=pb.Score(value=score, stddev=2, status=pb.SCORE_STATUS_SCORED))
    )
    verdict = pb.RecordVerdictRequest(
        verdict_id=str(number),
        edit_id="e",
        candidate_id="c",
        kind=pb.VerdictKind.Value(kind),
        critique=critique,
    )
    if rating is not None:
        verdict.rating = rating
    store.record(verdict)


@pytest.fixture
def verdicts(tmp_path: Path) -> Path:
    """A person who takes whatever scores above 85, and a critic whose middle is 50."""
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    rng = np.random.default_rng(7)
    for number, score in enumerate(rng.uniform(40, 99, 45)):
        kind = "VERDICT_KIND_ACCEPTED" if score + rng.normal(0, 4) > 85 else "VERDICT_KIND_REJECTED"
        record(store, number, float(score), kind)
    return tmp_path / "verdicts.sqlite3"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    curves = {name: Curve([-1.0, 0.0, 1.0], [10.0, 50.0, 95.0]) for name in SCORES}
    write_calibration(Calibration("shipped", curves, {}), folder / "calibration.json")
    return folder


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_verdicts_move_the_scale_and_keep_the_order(method: str, verdicts: Path) -> None:
    move = fit_verdicts(*read_verdicts(verdicts), method)
    moved = move(np.array([45.0, 60.0, 75.0, 90.0, 98.0]))
    assert (np.diff(moved) > 0).all()
    assert moved[1] < 35
    assert moved[-1] > 60


def test_a_calibration_on_verdicts_is_another_folder_of_weights(
    verdicts: Path, weights: Path, tmp_path: Path
) -> None:
    fit = calibrate_on_verdicts(verdicts, weights, tmp_path / "mine")
    assert (fit.count, fit.method) == (45, "isotonic")
    assert fit.error_after < fit.error_before
    moved = read_calibration(tmp_path / "mine" / "calibration.json")
    assert moved.name == "shipped+verdicts-45"
    assert moved.curves["harmony"].score(0.0, 0.1)[0] < 45


def test_a_rating_counts_more_than_the_kind_of_verdict(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "v.sqlite3")
    record(store, 1, 70.0, "VERDICT_KIND_ACCEPTED", rating=40.0)
    scores, taken = read_verdicts(tmp_path / "v.sqlite3")
    assert scores.tolist() == [70.0]
    assert taken.tolist() == [0.4]


def test_too_few_verdicts_an_unknown_method_and_a_foreign_file_are_refused(
    tmp_path: Path, weights: Path, verdicts: Path
) -> None:
    store = VerdictStore(tmp_path / "few.sqlite3")
    record(store, 1, 70.0, "VERDICT_KIND_ACCEPTED")
    with pytest.raises(InvalidInput, match="at least 20"):
        calibrate_on_verdicts(tmp_path / "few.sqlite3", weights, tmp_path / "out")
    with pytest.raises(InvalidInput, match="no method"):
        calibrate_on_verdicts(verdicts, weights, tmp_path / "out", "magic")
    with pytest.raises(InvalidInput, match="no file of verdicts"):
        read_verdicts(tmp_path / "missing.sqlite3")
    (tmp_path / "text").write_text("hello, this is no database at all" * 40)
    with pytest.raises(InvalidInput, match="is no file of verdicts"):
        read_verdicts(tmp_path / "text")
