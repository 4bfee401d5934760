"""What a user sets of the race and of acceptance, and what is known of previews before the first run."""

from __future__ import annotations

from pathlib import Path

import pytest

from editcritic.plugin.cli.edit import ACCEPTANCE_CRITIC, held_out
from editcritic.plugin.editing import make_refine_request
from editcritic.refine.engine import load_engine
from editcritic.refine.known_previews import known_table, pairing
from editcritic.refine.preview_table import PRIOR, PreviewTable, Rung
from editcritic.refine.race import RaceOptions
from editcritic.refine.race_replay import Record, replay
from editcritic.refine.request import completed_request, race_options
from editcritic.server.critics import DEFAULT_CRITIC, load_critic
from editcritic.v1.errors import InvalidInput


@pytest.mark.parametrize("critic", ["network", "evidence"])
def test_a_measured_table_ships_for_the_embedded_engine_and_this_version_of_each_critic(critic: str) -> None:
    engine = load_engine("tabletop").capabilities.to_info()
    table = known_table(pairing(engine, load_critic(critic).info.identity), None)
    assert table.group_count >= 40, "the critic or the engine has changed: measure its previews again"
    later = [rung.correlation for rung in table.rungs]
    assert later[-1] > 0.8
    assert later[2] < later[-1]


def test_a_pairing_that_was_never_measured_gets_the_cautious_table() -> None:
    assert known_table("some engine | some critic", None) == PRIOR


def test_the_default_critic_is_checked_by_another_one_and_others_by_nobody() -> None:
    assert held_out("", DEFAULT_CRITIC, "") == ACCEPTANCE_CRITIC
    assert held_out("", DEFAULT_CRITIC, "localhost:50551") == "", "a server need not have it"
    assert held_out("", "evidence", "") == ""
    assert held_out("none", DEFAULT_CRITIC, "") == ""
    assert held_out("ensemble", DEFAULT_CRITIC, "far:1") == "ensemble"


def test_race_and_price_reach_the_race(files: Path) -> None:
    request = make_refine_request(files / "photo.png", files / "mask.png", race="halving", price=2.5, seed=1)
    options = race_options(completed_request(request).race)
    assert (options.method, options.price) == ("halving", 2.5)
    plain = completed_request(make_refine_request(files / "photo.png", files / "mask.png", seed=1))
    assert race_options(plain.race).method == "margin"
    with pytest.raises(InvalidInput, match="margin, halving, plain"):
        make_refine_request(files / "photo.png", files / "mask.png", race="sprint")
    request.race.price = 0.0
    with pytest.raises(InvalidInput, match=r"race\.price"):
        completed_request(request)


def test_a_replayed_race_pays_for_what_it_ran_and_tells_whether_the_winner_was_lost() -> None:
    table = PreviewTable((Rung(0.0, 0.5, 0.0, 1.0, 0.5, 0.0), Rung(0.2, 0.0, 1.0, 0.1, 0.1, 0.9)))
    options = RaceOptions(rungs=(0.2,))
    honest = Record("abc", [{0.2: 50.0}, {0.2: 20.0}, {0.2: 90.0}], [50.0, 20.0, 90.0])
    outcome = replay(honest, table, options, 1)
    assert (outcome.best, outcome.is_lost) == ("c", False)
    assert outcome.cost == pytest.approx(1 + 0.2 + 1)
    fooled = Record("abc", [{0.2: 50.0}, {0.2: 60.0}, {0.2: 10.0}], [50.0, 60.0, 90.0])
    outcome = replay(fooled, table, options, 1)
    assert (outcome.best, outcome.is_lost) == ("b", True)
