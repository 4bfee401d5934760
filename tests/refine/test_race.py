"""The race: who goes on, who is dropped and on what evidence, by candidates whose final scores are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from editcritic.refine.preview_table import (
    PRIOR,
    Group,
    PreviewTable,
    Rung,
    fit_table,
    from_log_odds,
    rank_correlation,
    table_from_message,
    to_log_odds,
)
from editcritic.refine.race import Advance, Drop, MakeDrafts, Move, Race, RaceOptions

SHARES = (0.2, 0.3, 0.4, 0.6)


def telling_table(error: float = 0.1, correlation: float = 0.95) -> PreviewTable:
    """Previews that are the final score plus an error, in log-odds."""
    start = Rung(0.0, 0.5, 0.0, 1.0, 0.5, 0.0)
    return PreviewTable((start, *(Rung(share, 0.0, 1.0, error, 0.1, correlation) for share in SHARES)))


def run(race: Race, finals: Sequence[float], previews: Sequence[float] | None = None) -> list[Move]:
    """Carry a race out; previews and drafts are the final scores unless given."""
    shown, moves = previews or finals, []
    names = [str(number) for number in range(len(finals))]
    while (move := race.next()) is not None:
        moves.append(move)
        assert len(moves) < 200, "the race does not end"
        if isinstance(move, MakeDrafts):
            for name in move.names:
                race.drafted(name, shown[names.index(name)])
        if isinstance(move, Advance):
            for name in move.names:
                number = names.index(name)
                if move.fraction >= 1:
                    race.finished(name, finals[number])
                else:
                    race.seen(name, move.fraction, shown[number])
    return moves


def finished(moves: Sequence[Move]) -> set[str]:
    return {name for move in moves if isinstance(move, Advance) and move.fraction >= 1 for name in move.names}


def cost(moves: Sequence[Move]) -> float:
    """Denoising in units of whole candidates."""
    reached: dict[str, float] = {}
    for move in moves:
        if isinstance(move, Advance):
            reached |= dict.fromkeys(move.names, move.fraction)
    return sum(reached.values())


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def test_the_first_candidate_is_finished_before_any_other_starts() -> None:
    race = Race(names(3), telling_table())
    for share in (*SHARES, 1.0):
        assert race.next() == Advance(("0",), share)
        race.seen("0", share, 99.0) if share < 1 else race.finished("0", 99.0)


def test_the_winner_is_found_at_less_than_half_of_the_cost_when_previews_tell() -> None:
    finals = [50.0, 30.0, 90.0, 40.0, 20.0, 55.0, 35.0, 45.0]
    moves = run(Race(names(8), telling_table()), finals)
    assert {"0", "2"} <= finished(moves)
    assert cost(moves) < 4
    dropped = [move for move in moves if isinstance(move, Drop)]
    assert dropped
    assert all(move.probability is not None and move.probability < 0.05 for move in dropped)
    worst = next(move for move in dropped if move.name == "4")
    assert "20.0" in worst.reason


def test_nobody_starts_when_the_first_result_can_hardly_be_beaten() -> None:
    table = telling_table()
    sure = replace(
        table, rungs=(replace(table.rungs[0], error=0.1, shift=0.1, intercept=0.0), *table.rungs[1:])
    )
    moves = run(Race(names(8), sure), [97.0, *[50.0] * 7])
    assert finished(moves) == {"0"}
    assert cost(moves) == 1


def test_a_higher_price_spends_less() -> None:
    finals = list(np.random.default_rng(3).uniform(20, 90, 12))
    costs = [
        cost(run(Race(names(12), telling_table(0.4), RaceOptions(price=each)), finals))
        for each in (0.2, 2, 8)
    ]
    assert costs[0] > costs[1] > costs[2]


def test_an_audit_drops_nobody_and_notes_who_would_have_been() -> None:
    finals = [50.0, 30.0, 90.0, 40.0]
    audit = Race(names(4), telling_table(), RaceOptions(is_audit=True))
    moves = run(audit, finals)
    assert finished(moves) == set(names(4))
    assert not [move for move in moves if isinstance(move, Drop)]
    race = Race(names(4), telling_table())
    dropped = {move.name for move in run(race, finals) if isinstance(move, Drop)}
    assert dropped <= set(audit.would_drop)
    assert "2" not in audit.would_drop


def test_previews_that_tell_nothing_are_not_looked_at_and_drop_nobody() -> None:
    finals = [60.0, 10.0, 95.0, 20.0]
    moves = run(Race(names(4), telling_table(correlation=0.39)), finals, previews=[60.0, 90.0, 5.0, 80.0])
    assert {move.fraction for move in moves if isinstance(move, Advance)} == {1.0}
    assert not [move for move in moves if isinstance(move, Drop)]
    assert finished(moves) == set(names(4))


def test_a_candidate_whose_previews_the_critic_cannot_judge_is_never_dropped_on_them() -> None:
    race = Race(names(2), telling_table())
    while (move := race.next()) is not None:
        assert isinstance(move, Advance)
        for name in move.names:
            if move.fraction >= 1:
                race.finished(name, 55.0)
            else:
                race.seen(name, move.fraction, None if name == "1" else 55.0)
    assert race.would_drop == {}


def test_a_veto_counts_from_two_fifths_of_the_steps_on() -> None:
    race = Race(names(2), telling_table(1.5))
    moves: list[Move] = []
    while (move := race.next()) is not None:
        moves.append(move)
        if isinstance(move, Advance):
            for name in move.names:
                if move.fraction >= 1:
                    race.finished(name, 40.0)
                else:
                    race.seen(name, move.fraction, 60.0, "nothing has happened" if name == "1" else "")
    assert Advance(("1",), 0.4) in moves
    assert moves[-1] == Drop("1", None, "nothing has happened")


def test_one_that_fails_is_out_and_the_others_go_on() -> None:
    race = Race(names(3), telling_table())
    for name in ("0", "1"):
        race.failed(name)
    assert race.next() == Advance(("2",), SHARES[0])


def test_candidates_start_in_waves_that_an_engine_can_denoise_together() -> None:
    moves = run(Race(names(8), telling_table(), RaceOptions("plain", wave=3)), [50.0] * 8)
    groups = [move.names for move in moves if isinstance(move, Advance) and move.fraction == 1]
    assert groups == [("0",), ("1", "2", "3"), ("4", "5", "6"), ("7",)]


def test_halving_keeps_half_a_quarter_and_one_at_its_shares() -> None:
    moves = run(Race(names(8), PRIOR, RaceOptions("halving")), [float(each) for each in range(10, 90, 10)])
    assert [move.name for move in moves if isinstance(move, Drop)] == names(7)
    assert finished(moves) == {"7"}
    assert cost(moves) == pytest.approx(0.4 * 8)


def drawn_groups(slope: float, error: float, shift: float, count: int, seed: int) -> list[Group]:
    """Edits of eight candidates that obey the model with these figures at a fifth of the steps."""
    rng = np.random.default_rng(seed)
    groups = []
    for _ in range(count):
        own, previews = rng.normal(0, shift), rng.normal(0, 1, 8)
        finals = 0.3 + slope * previews + own + rng.normal(0, error, 8)
        groups.append(Group({0.2: list(from_log_odds(previews))}, list(from_log_odds(finals))))
    return groups


def test_a_table_of_many_edits_has_the_figures_that_they_were_drawn_with() -> None:
    rung = fit_table(drawn_groups(0.8, 0.3, 0.6, 600, 1)).at(0.2)
    assert (rung.slope, rung.error, rung.shift) == pytest.approx((0.8, 0.3, 0.6), abs=0.07)
    assert rung.correlation > 0.85


def test_a_table_of_no_edits_is_the_prior_and_of_few_lies_between() -> None:
    assert fit_table([]) == PRIOR
    few, many = (fit_table(drawn_groups(0.8, 0.3, 0.6, count, 1)).at(0.2).slope for count in (4, 400))
    assert PRIOR.at(0.2).slope < few < many


def test_an_edit_of_which_all_candidates_are_alike_teaches_no_order() -> None:
    assert rank_correlation([1.0, 2.0, 3.0], [50.0, 50.0, 50.0]) is None
    assert rank_correlation([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0
    assert rank_correlation([1.0, float("nan"), 2.0, 3.0], [9.0, 1.0, 20.0, 30.0]) == pytest.approx(1.0)


def test_the_stated_chance_of_dropping_the_winner_is_the_true_one() -> None:
    # Candidates drawn from the very model: of those stated to win with some probability, as many have to win.
    table = PreviewTable((Rung(0.0, 0.3, 0.0, 1.0, 0.6, 0.0), Rung(0.2, 0.3, 0.8, 0.5, 0.6, 0.8)))
    rng, stated, lost = np.random.default_rng(5), 0.0, 0
    for seed in range(400):
        own, previews = rng.normal(0, 0.6), rng.normal(0, 1, 6)
        finals = from_log_odds(0.3 + 0.8 * previews + own + rng.normal(0, 0.5, 6))
        race = Race(names(6), table, RaceOptions(rungs=(0.2,), is_audit=True, draft=False), seed)
        run(race, list(finals), list(from_log_odds(previews)))
        stated += sum(race.would_drop.values())
        best = int(np.argmax(finals))
        lost += str(best) in race.would_drop and finals[best] > np.delete(finals, best).max() + 1
    assert stated > 10
    assert lost == pytest.approx(stated, rel=0.4)


def test_a_table_survives_the_wire_and_odds_their_scale() -> None:
    table = fit_table(drawn_groups(0.8, 0.3, 0.6, 20, 2))
    assert table_from_message(table.to_message()) == table
    scores = np.array([0.0, 12.0, 50.0, 99.0, 100.0])
    np.testing.assert_allclose(from_log_odds(to_log_odds(scores)), scores, atol=1e-9)
