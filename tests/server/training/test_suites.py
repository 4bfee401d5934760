"""The parts of an evaluation, asked of critics whose answers are known."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.scoring import Abstention, abstained, scored
from editcritic.server.training.defects.masks import draw_stroke
from editcritic.server.training.evaluation import Job, list_jobs, observe_all
from editcritic.server.training.page import evaluation_page, injected_figures
from editcritic.server.training.report import pairs_of, summarise_observations
from editcritic.server.training.suites.asking import Asked, hidden_source
from editcritic.server.training.suites.comparison import baseline_result
from editcritic.server.training.suites.fills import HELD_OUT_FILLS
from editcritic.server.training.suites.grounding import grounding_result, region_iou
from editcritic.server.training.suites.opinion import LAYOUTS, opinion_result, read_opinions
from editcritic.server.training.suites.preference import preference_result, prefers_original, textured_stroke
from editcritic.server.training.suites.reliability import OrderedPair, reliability_result
from editcritic.server.training.suites.results import Figure
from editcritic.server.training.suites.sanity import bias_result, invariance_result, sanity_result
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput


class Rated:
    """A critic that rates a candidate by a function of (edit, image)."""

    def __init__(self, rate: Callable[[DecodedEdit, NDArray[np.uint8]], float | None]) -> None:
        self._rate = rate

    @property
    def info(self) -> pb.CriticInfo:
        return pb.CriticInfo(identity=pb.CriticIdentity(name="rated"))

    def prepare(self, edit: DecodedEdit) -> None:
        return None

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        return [self._answer(task) for task in tasks]

    def _answer(self, task: CritiqueTask) -> pb.Critique:
        value = self._rate(task.edit, task.candidate.image)
        none = abstained(Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, "no"))
        score = none if value is None else scored(value, 1.0)
        names = ("naturalness", "harmony", "preservation", "visual_quality", "overall")
        return pb.Critique(scores=pb.Scores(**dict.fromkeys(names, score)))


def detail(edit: DecodedEdit, image: NDArray[np.uint8]) -> float:
    """More fine structure inside is better."""
    steps = np.abs(np.diff(image.astype(float), axis=1)).mean(axis=2)
    return float(min(100, steps[edit.denoise_mask[:, 1:] > 0.5].mean()))


@pytest.fixture(scope="module")
def jobs(photo_folder: Path) -> list[Job]:
    return list_jobs(photo_folder, seed=2)


def value_of(figures: Sequence[Figure], name: str) -> float:
    return next(figure.value for figure in figures if figure.name == name)


def test_who_likes_structure_prefers_the_original_to_smooth_fills(jobs: list[Job]) -> None:
    liked = preference_result(prefers_original(Rated(detail), jobs[:2]))
    disliked = preference_result(prefers_original(Rated(lambda e, i: 100 - detail(e, i)), jobs[:2]))
    assert value_of(liked.figures, "naturalness, all fills") == 1.0
    assert value_of(disliked.figures, "naturalness, all fills") == 0.0
    assert [figure.reached for figure in disliked.figures if figure.aim] == [False, False]


def test_the_held_out_fills_fill_the_hole_and_nothing_else() -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8)
    hole = np.zeros((60, 60), np.uint8)
    hole[20:35, 25:40] = 1
    for fill in HELD_OUT_FILLS.values():
        filled = fill(image, hole)
        assert np.array_equal(filled[hole == 0], image[hole == 0])
        assert (filled[hole == 1] != image[hole == 1]).mean() > 0.5


def test_training_never_names_a_held_out_fill() -> None:
    folder = Path(__file__).parents[3] / "server" / "training"
    users = [file for file in folder.rglob("*.py") if "suites" not in file.parts]
    text = "".join(file.read_text() for file in users).lower()
    assert not any(word in text for word in ("inpaint_telea", "inpaint_ns", "biharmonic"))


def test_a_stroke_looks_for_texture() -> None:
    photo = np.full((120, 160, 3), 128, np.uint8)
    photo[:, 80:] = np.random.default_rng(0).integers(0, 255, (120, 80, 3))
    mask = textured_stroke(photo, 4)
    assert mask[:, 80:].sum() > 3 * mask[:, :80].sum()
    assert 0.01 < float(draw_stroke((120, 160), 3, 0.1).mean()) < 0.3


def test_a_hidden_source_is_grey_inside() -> None:
    image = np.full((4, 4, 3), 7, np.uint8)
    mask = np.zeros((4, 4), np.float32)
    mask[0, 0] = 0.2
    assert hidden_source(image, mask)[0, 0].tolist() == [128] * 3
    assert (hidden_source(image, mask)[1:] == 7).all()


def test_a_critic_that_likes_black_fails_the_sanity_suite(jobs: list[Job]) -> None:
    def darkness(edit: DecodedEdit, image: NDArray[np.uint8]) -> float:
        return float(100 - image[edit.denoise_mask > 0.5].mean() / 2.55)

    result = sanity_result(Rated(darkness), jobs[:2])
    assert value_of(result.figures, "above black") == 0.0
    assert value_of(result.figures, "mean overall of black") == pytest.approx(100)


def test_a_critic_that_likes_brightness_is_caught(jobs: list[Job]) -> None:
    def brightness(edit: DecodedEdit, image: NDArray[np.uint8]) -> float:
        return float(image[edit.denoise_mask > 0.5].mean() / 2.55)

    result = bias_result(Rated(brightness), jobs[:2])
    assert value_of(result.figures, "inside brighter: mean change") > 1
    assert next(each for each in result.figures if each.name.startswith("inside brighter")).reached is False


def test_a_score_that_depends_on_its_batch_is_caught(jobs: list[Job]) -> None:
    class Drifting(Rated):
        def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
            own = Rated(lambda _edit, _image: 50.0 + len(tasks))
            return own.critique(tasks, is_cancelled)

    assert invariance_result(Rated(detail), jobs[:3]).figures[0].value == 0.0
    assert invariance_result(Drifting(detail), jobs[:3]).figures[0].reached is False


def test_grounding_is_measured_by_overlap(jobs: list[Job]) -> None:
    class Differs:
        def find_edit(self, source: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> NDArray[np.float32]:
            return (np.abs(source.astype(int) - candidate).max(axis=2) > 8).astype(np.float32)

    result = grounding_result(Differs(), jobs[:3])
    assert value_of(result.figures, "mean IoU, as it is") > 0.5
    truth = np.zeros((10, 10), bool)
    truth[:5] = True
    half = np.zeros((10, 10), np.float32)
    half[:, :5] = 1
    assert region_iou(half, truth) == pytest.approx(25 / 75)
    assert region_iou(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)) == 1.0


def test_stated_probabilities_that_come_true_have_no_calibration_error() -> None:
    rng = np.random.default_rng(1)
    honest, boastful = [], []
    for _ in range(4000):
        difference, spread = rng.normal(0, 12), 10.0
        first = rng.normal(difference, spread) > 0
        pair = ((difference, spread), (0.0, 0.0))
        honest.append(OrderedPair(*(pair if first else pair[::-1])))
        sure = ((difference, 1.0), (0.0, 0.0))
        boastful.append(OrderedPair(*(sure if first else sure[::-1])))
    good, bad = reliability_result(honest), reliability_result(boastful)
    assert good.figures[0].value < 0.03
    assert bad.figures[0].value > 0.15
    accuracies = [share for _, share in good.curves["abstention"]]
    assert accuracies == sorted(accuracies)


def test_baselines_are_asked_the_same(jobs: list[Job]) -> None:
    result = baseline_result(jobs[:1])
    assert {figure.name.split(":")[0] for figure in result.figures} == {"niqe", "reconstruction", "ring"}
    assert all(0 <= figure.value <= 1 for figure in result.figures)


def write_opinions(folder: Path, rows: list[dict[str, str]]) -> Path:
    table = folder / "opinions.csv"
    with table.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def test_opinions_correlate_with_a_critic_that_shares_them(tmp_path: Path) -> None:
    rows = []
    for level in (10, 60, 110, 160, 210):
        Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(tmp_path / f"{level}.png")
        rows.append({"image_name": f"{level}.png", "MOS": str(level / 50)})
    layout = LAYOUTS["koniq"]
    read = read_opinions(write_opinions(tmp_path, rows), tmp_path, layout)
    result = opinion_result(Rated(lambda _edit, image: float(image.mean() / 2.55)), read, layout)
    assert value_of(result.figures, "SRCC") == pytest.approx(1)
    assert value_of(result.figures, "KRCC") == pytest.approx(1)
    silent = opinion_result(Rated(lambda _edit, _image: None), read, layout)
    assert value_of(silent.figures, "share judged") == 0.0


def test_pairs_of_edits_are_counted_by_their_order(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "source.png")
    Image.fromarray(np.full((32, 32), 255, np.uint8)).save(tmp_path / "mask.png")
    rows = []
    for pair, (better, worse) in enumerate([(200, 100), (50, 90)]):
        for level, label in ((better, "1"), (worse, "0")):
            Image.fromarray(np.full((32, 32, 3), level, np.uint8)).save(tmp_path / f"{pair}{label}.png")
            rows.append(
                {
                    "edited": f"{pair}{label}.png",
                    "better": label,
                    "source": "source.png",
                    "mask": "mask.png",
                    "prompt": "a ball",
                    "pair": str(pair),
                }
            )
    layout = LAYOUTS["edit-pairs"]
    read = read_opinions(write_opinions(tmp_path, rows), tmp_path, layout)
    result = opinion_result(Rated(lambda _edit, image: float(image.mean() / 2.55)), read, layout)
    assert value_of(result.figures, "pairs in order") == pytest.approx(0.5)


@pytest.mark.parametrize("row", [{"picture": "a.png", "MOS": "3"}, {"image_name": "a.png", "MOS": "good"}])
def test_a_table_that_does_not_fit_is_told(tmp_path: Path, row: dict[str, str]) -> None:
    with pytest.raises(InvalidInput, match=r"columns|not a number"):
        read_opinions(write_opinions(tmp_path, [row]), tmp_path, LAYOUTS["koniq"])


def test_the_page_says_what_was_reached(jobs: list[Job]) -> None:
    observations = observe_all("evidence", jobs[:1], workers=1)
    report = summarise_observations("evidence", observations, photographs=1, seed=2)
    assert len(pairs_of(observations)) >= 6
    figures = injected_figures(report)
    assert {figure.aim for figure in figures} >= {0.92, 0.85, 0.05, 0.8, 0.45}
    page = evaluation_page(report, [reliability_result([])], "Evaluation of <evidence>")
    assert "Evaluation of &lt;evidence&gt;" in page
    assert page.count("<table>") == 3


def test_asking_raises_what_the_critic_answered(jobs: list[Job]) -> None:
    class Refusing(Rated):
        def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
            return [InvalidInput("no") for _ in tasks]

    image = np.zeros((8, 8, 3), np.uint8)
    asked = Asked.about(Refusing(detail), image, np.ones((8, 8), np.float32))
    with pytest.raises(InvalidInput, match="no"):
        asked.critique(image)
