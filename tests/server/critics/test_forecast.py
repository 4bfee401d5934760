"""Forecasts: what a preview of an engine that was learned from promises, and nothing changed for any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.critics.network.critic import ALIGNMENT, PREVIEWS, WEIGHTS, NetworkCritic
from editcritic.server.critics.network.forecast import PreviewReaders, load_readers, save_readers
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

FEATURES = np.array([1.0, 0.0])
PRESENT = np.array([[90.0, 2.0], [80.0, 3.0], [55.0, 4.0]])


def readers() -> PreviewReaders:
    """Naturalness 40 and 60 at 20 and 40 % of the steps, plus ten times the first feature; harmony ten less."""
    return PreviewReaders(
        shares=np.array([0.2, 0.4]),
        centre=np.zeros((2, 2)),
        scale=np.ones((2, 2)),
        weights=np.array([[[10.0, 10.0], [0.0, 0.0]]] * 2),
        bias=np.array([[40.0, 30.0], [60.0, 50.0]]),
        residual=np.array([[8.0, 7.0, 20.0], [4.0, 3.0, 10.0]]),
    )


def critique(
    critic: NetworkCritic, picture: NDArray[np.uint8], progress: pb.DenoisingProgress | None, prompt: str = ""
) -> pb.Critique:
    return critiques(critic, [picture], progress, prompt)[0]


def critiques(
    critic: NetworkCritic,
    pictures: list[NDArray[np.uint8]],
    progress: pb.DenoisingProgress | None,
    prompt: str = "",
) -> list[pb.Critique]:
    edit = DecodedEdit("edit", coffee(), mask(), None, prompt)
    prepared = critic.prepare(edit)
    tasks = [
        CritiqueTask(edit, prepared, DecodedCandidate("a", each, None, progress), pb.CritiqueOptions())
        for each in pictures
    ]
    answers = []
    for answer in critic.critique(tasks, lambda: False):
        assert isinstance(answer, pb.Critique)
        answer.ClearField("timings")
        answers.append(answer)
    return answers


def coffee() -> NDArray[np.uint8]:
    return np.asarray(data.coffee()[100:356, 200:456], np.uint8).copy()


def mask() -> NDArray[np.float32]:
    hole = np.zeros((256, 256), np.float32)
    hole[90:170, 80:180] = 1
    return hole


@pytest.fixture(scope="module")
def preview() -> NDArray[np.uint8]:
    """The hole half filled with its own mean, as an early preview is."""
    picture, inside = coffee(), mask() > 0
    picture[inside] = (0.5 * picture[inside] + 0.5 * picture[inside].mean(0)).astype(np.uint8)
    return picture


@pytest.fixture(scope="module")
def critic() -> NetworkCritic:
    return NetworkCritic()


@pytest.fixture(scope="module")
def unread(tmp_path_factory: pytest.TempPathFactory) -> NetworkCritic:
    """The same critic without readers of previews."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("network.safetensors", "calibration.json", ALIGNMENT):
        shutil.copyfile(WEIGHTS / name, folder / name)
    return NetworkCritic(folder)


def test_each_share_has_its_reader_and_its_deviation() -> None:
    found = readers().forecast(FEATURES, 0.2, PRESENT)
    np.testing.assert_allclose(found, [[50, 8], [40, 7], [55, 20]])
    np.testing.assert_allclose(readers().forecast(FEATURES, 0.4, PRESENT), [[70, 4], [60, 3], [55, 10]])


def test_between_two_shares_readings_are_interpolated() -> None:
    np.testing.assert_allclose(readers().forecast(FEATURES, 0.25, PRESENT), [[55, 7], [45, 6], [55, 17.5]])


def test_after_the_last_share_a_forecast_moves_on_to_what_is_seen() -> None:
    np.testing.assert_allclose(readers().forecast(FEATURES, 0.7, PRESENT), [[80, 3], [70, 3], [55, 7]])
    np.testing.assert_allclose(readers().forecast(FEATURES, 1.0, PRESENT), PRESENT)


def test_a_preview_unlike_all_others_gets_no_forecast_beyond_the_scale() -> None:
    found = readers().forecast(np.array([1e6, 0.0]), 0.4, PRESENT)
    assert found[:2, 0].tolist() == [100.0, 100.0]
    assert readers().forecast(np.array([2.0, 1e6]), 0.4, PRESENT)[0, 0] == 80.0


def test_previews_before_the_first_share_are_not_read() -> None:
    assert not readers().covers(0.15)
    assert readers().covers(0.2)


def test_readers_are_kept_by_engine(tmp_path: Path) -> None:
    save_readers({"mine": readers()}, tmp_path / PREVIEWS)
    (name, kept), *others = load_readers(tmp_path / PREVIEWS).items()
    assert (name, others) == ("mine", [])
    np.testing.assert_allclose(
        kept.forecast(FEATURES, 0.3, PRESENT), readers().forecast(FEATURES, 0.3, PRESENT), atol=0.05
    )


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    assert load_readers(tmp_path / "missing.safetensors") == {}
    shutil.copyfile(WEIGHTS / ALIGNMENT, tmp_path / PREVIEWS)
    with pytest.raises(InvalidInput, match="no readers of previews"):
        load_readers(tmp_path / PREVIEWS)


def test_the_shipped_readers_read_tabletop_and_are_small() -> None:
    assert list(load_readers(WEIGHTS / PREVIEWS)) == ["tabletop"]
    assert (WEIGHTS / PREVIEWS).stat().st_size < 2e6


def test_a_preview_of_a_known_engine_is_a_forecast_and_says_so(
    critic: NetworkCritic, preview: NDArray[np.uint8]
) -> None:
    told = critique(
        critic, preview, pb.DenoisingProgress(fraction=0.4, engine="tabletop"), "a shiny red ball"
    )
    seen = critique(critic, preview, pb.DenoisingProgress(fraction=0.4), "a shiny red ball")
    assert "Forecast" in told.explanation
    assert "40 % of the steps of tabletop" in told.explanation
    assert "Forecast" not in seen.explanation
    assert told.scores.naturalness.value != seen.scores.naturalness.value
    assert told.scores.prompt_alignment.value == seen.scores.prompt_alignment.value
    expected = load_readers(WEIGHTS / PREVIEWS)["tabletop"].residual[2]
    stated = (told.scores.naturalness, told.scores.harmony, told.scores.prompt_alignment)
    np.testing.assert_allclose([score.stddev for score in stated], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "progress",
    [
        None,
        pb.DenoisingProgress(fraction=0.4),
        pb.DenoisingProgress(fraction=0.4, engine="another"),
        pb.DenoisingProgress(fraction=0.15, engine="tabletop"),
        pb.DenoisingProgress(fraction=0.05, engine="tabletop"),
    ],
    ids=["finished", "unnamed", "unknown", "early", "too early"],
)
def test_anything_else_is_judged_as_without_readers(
    critic: NetworkCritic,
    unread: NetworkCritic,
    preview: NDArray[np.uint8],
    progress: pb.DenoisingProgress | None,
) -> None:
    assert critique(critic, preview, progress) == critique(unread, preview, progress)


def test_a_forecast_does_not_depend_on_its_batch(critic: NetworkCritic, preview: NDArray[np.uint8]) -> None:
    progress = pb.DenoisingProgress(fraction=0.5, engine="tabletop")
    alone = critique(critic, preview, progress)
    *_, in_company = critiques(critic, [coffee(), np.zeros_like(preview), preview], progress)
    assert in_company.scores.overall.value == pytest.approx(alone.scores.overall.value, abs=1e-4)


def test_a_preview_in_which_nothing_happened_promises_nothing(critic: NetworkCritic) -> None:
    promised = critique(critic, coffee(), pb.DenoisingProgress(fraction=0.4, engine="tabletop"))
    assert promised.scores.overall.value < 5
