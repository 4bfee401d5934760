"""The bench of the repairs: figures that a person can check by hand, and one run over two photographs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from skimage import data

from editcritic.plugin.repair_benchmark import OWN_FAULTS, Trial, measure_repairs, repair_rows
from editcritic.refine.repair import REPAIRS
from editcritic.server.training.defects import INJECTIONS
from editcritic.v1 import critic_pb2 as pb


def trial(gain: float, *called: str, seconds: float = 0.1) -> Trial:
    return Trial(
        repair=pb.ACTION_KIND_RECOLOUR,
        fault="tone_shift",
        gains={"a": gain, "b": 1.0},
        before={"a": 50.0, "b": 60.0},
        perfect={"a": 90.0, "b": 60.0},
        called=frozenset(called),
        seconds=seconds,
    )


def test_rows_tell_of_all_cases_and_of_those_that_another_critic_called_for() -> None:
    rows = repair_rows([trial(8.0, "b"), trial(-2.0, "a"), trial(0.0), trial(2.0, "a", "b", seconds=0.3)])
    row = next(each for each in rows if each["judge"] == "a")
    assert (row["repair"], row["fault"], row["before"], row["could_rise"]) == (
        "recolour",
        "tone_shift",
        50.0,
        1.0,
    )
    assert (row["all"]["cases"], row["all"]["gain"]) == (4, 2.0)
    assert row["all"]["rises"]["value"] == 0.5
    assert row["all"]["harmed"]["value"] == 0.25
    assert (row["called_for"]["cases"], row["called_for"]["rises"]["value"]) == (2, 1.0)
    assert row["ms"] == pytest.approx(100)
    assert next(each for each in rows if each["judge"] == "b")["could_rise"] == 0


def test_every_repair_without_diffusion_has_faults_to_be_measured_on() -> None:
    with_engine = {
        pb.ACTION_KIND_REINPAINT_REGION,
        pb.ACTION_KIND_REDRAW_LOW_QUALITY,
        pb.ACTION_KIND_REINPAINT_MEDIUM_QUALITY,
        pb.ACTION_KIND_REINPAINT_BY_QUALITY,
        pb.ACTION_KIND_GROW_MASK,
        pb.ACTION_KIND_REPROMPT,
        pb.ACTION_KIND_REROLL,
    }
    # Puts the source back where a face was to stay: no fault of a fill, and the critics here see no faces.
    of_faces = {pb.ACTION_KIND_RESTORE_REGION}
    assert OWN_FAULTS.keys() == REPAIRS.keys() - with_engine - of_faces
    assert {fault for faults in OWN_FAULTS.values() for fault in faults} <= INJECTIONS.keys()


def test_a_run_mends_what_it_spoiled(tmp_path: Path) -> None:
    for name, picture in (("cup", data.coffee()), ("cat", data.chelsea())):
        Image.fromarray(picture[40:240, 100:360]).save(tmp_path / f"{name}.png")
    trials = measure_repairs(tmp_path, count=1, seed=3, critics=("evidence",))
    gains = {(each.repair, each.fault): each.gains["evidence"] for each in trials}
    assert gains[pb.ACTION_KIND_RECOMPOSITE, "outside_changed"] > 5
    assert sum(gain > 0 for gain in gains.values()) > 0.6 * len(gains)
    again = measure_repairs(tmp_path, count=1, seed=3, critics=("evidence",))
    assert [each.gains for each in again] == [each.gains for each in trials]
