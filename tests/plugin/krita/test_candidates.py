"""The board: what becomes of candidates as a run's events come in."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from editcritic.plugin.krita.candidates import Board, Candidate

Json = dict[str, Any]


def scores(value: float | None) -> Json:
    if value is None:
        detail = "the masked region is too small"
        return {"overall": {"status": "SCORE_STATUS_ABSTAINED", "abstentionDetail": detail}}
    return {
        name: {"status": "SCORE_STATUS_SCORED", "value": each}
        for name, each in (("overall", value), ("harmony", 61.2))
    }


def critique(name: str, value: float | None, *faults: str, fraction: float | None = None) -> Json:
    defects = [{"severity": 0.7, "explanation": fault} for fault in faults]
    told: Json = {"candidateId": name, "scores": scores(value), "defects": defects}
    if fraction is not None:
        told["progress"] = {"fraction": fraction}
    return {"critique": told}


def started(name: str, seed: int, parent: str = "", action: str = "") -> Json:
    told = {"candidateId": name, "seed": str(seed), "parentCandidateId": parent, "action": action}
    return {"candidateStarted": {key: value for key, value in told.items() if value}}


def finished(name: str, picture: bytes = b"file") -> Json:
    image = {"encoded": {"data": base64.b64encode(picture).decode()}}
    return {"candidateFinished": {"candidateId": name, "image": image}}


def played(*events: Json) -> Board:
    board = Board()
    for event in events:
        board.apply_event(event)
    return board


RUN = (
    {
        "started": {
            "sampling": {"candidateCount": 4},
            "editId": "e1",
            "engine": {"name": "tabletop"},
            "searchCritic": {"name": "network", "version": "3"},
        }
    },
    started("a", 7),
    started("b", 8),
    started("c", 9),
    critique("a", 30.0, fraction=0.4),
    critique("b", 70.0, fraction=0.4),
    {"decision": {"kind": "DECISION_KIND_DROP", "candidateId": "a", "reason": "12 % odds of ending best"}},
    finished("b"),
    critique("b", 74.0, "seam on the left edge"),
    finished("c"),
    critique("c", 81.5),
)


def test_candidates_are_sorted_best_first_and_dropped_ones_stay_below() -> None:
    board = played(*RUN)
    assert [(each.candidate_id, each.state) for each in board.ordered()] == [
        ("c", "scored"),
        ("b", "scored"),
        ("a", "dropped"),
    ]


def test_a_dropped_one_that_is_taken_up_again_is_one_of_them_again() -> None:
    recalled = {
        "decision": {"kind": "DECISION_KIND_RECALL", "candidateId": "a", "reason": "the others were refused"}
    }
    board = played(*RUN, recalled)
    assert (board["a"].state, board["a"].reason) == ("running", "taken up again")
    board = played(*RUN, recalled, finished("a"), critique("a", 90.0))
    assert [each.candidate_id for each in board.ordered()] == ["a", "c", "b"]


def test_each_says_why_in_one_line() -> None:
    board = played(*RUN)
    assert board["b"].reason == "seam on the left edge"
    assert board["c"].reason == "no fault found"
    assert board["a"].reason == "12 % odds of ending best"
    assert board["b"].details.splitlines() == ["harmony 61", "0.70  seam on the left edge"]


def test_progress_counts_the_candidates_that_are_still_to_come() -> None:
    board = played(*RUN[:4], critique("a", 30.0, fraction=0.4), finished("b"), critique("b", 74.0))
    assert board.progress == pytest.approx((0.4 + 1.0) / 4)


def test_a_preview_moves_the_candidate_along_without_finishing_it() -> None:
    preview = {"preview": {"candidateId": "a", "progress": {"fraction": 0.4}}}
    board = played(started("a", 7), preview, critique("a", 55.0, fraction=0.4))
    assert (board["a"].state, board["a"].fraction, board["a"].score) == ("running", 0.4, 55.0)
    assert not board["a"].can_be_shown
    assert board.progress == pytest.approx(0.4)


def test_an_abstention_has_no_number_and_says_why() -> None:
    board = played(started("a", 7), finished("a"), critique("a", None))
    assert (board["a"].state, board["a"].score) == ("abstained", None)
    assert board["a"].reason == "the masked region is too small"


def test_a_failed_candidate_is_kept_below_all_others() -> None:
    failed = played(*RUN, {"candidateError": {"candidateId": "b", "status": {"message": "out of memory"}}})
    assert [each.candidate_id for each in failed.ordered()] == ["c", "a", "b"]
    assert failed["b"].reason == "out of memory"


def test_a_mended_candidate_says_how_it_was_made() -> None:
    board = played(*RUN, started("c-1", 9, parent="c", action="ACTION_KIND_BLEND"))
    assert board["c-1"].origin == "mended: blend"
    assert board["a"].origin == "seed 7"


def test_the_result_ends_the_run_and_names_the_best() -> None:
    board = played(*RUN, {"result": {"candidateId": "c", "stopReason": "STOP_REASON_TARGET_REACHED"}})
    assert (board.is_over, board.best_id) == (True, "c")
    assert board.note == "done: the target score is reached"


def test_a_result_that_is_the_source_says_so() -> None:
    board = played(*RUN, {"result": {"stopReason": "STOP_REASON_NO_GAIN"}})
    assert "no candidate is better than the picture as it was" in board.note


def test_a_failed_run_says_what_failed() -> None:
    failure = {"stopReason": "STOP_REASON_FAILED", "error": {"message": "the engine is broken"}}
    board = played(RUN[0], started("a", 7), {"result": failure})
    assert board.has_failed
    assert board.note == "the engine is broken"


def test_when_the_connection_breaks_what_is_finished_stays() -> None:
    board = played(*RUN[:8])
    board.cut_off("the connection broke off")
    states = {each.candidate_id: each.state for each in board.ordered()}
    assert states == {"b": "abstained", "c": "dropped", "a": "dropped"}
    assert board["b"].can_be_shown
    assert board["b"].score is None, "that of its preview is not its own"


def test_rejecting_marks_and_keeps_and_can_be_taken_back() -> None:
    board = played(*RUN)
    assert board.toggle_rejected("c")
    assert [each.candidate_id for each in board.ordered()] == ["b", "a", "c"]
    assert board["c"].picture == b"file"
    assert not board.toggle_rejected("c")
    assert [each.candidate_id for each in board.ordered()] == ["c", "b", "a"]


def test_what_was_dropped_cannot_be_rejected() -> None:
    board = played(*RUN)
    assert not board.toggle_rejected("a")
    assert board["a"].state == "dropped"


def test_an_event_of_a_later_contract_changes_nothing() -> None:
    board = played(*RUN, {"sequence": "99", "somethingNew": {"candidateId": "z"}})
    assert len(board) == 3


def test_a_judged_layer_stands_among_the_candidates() -> None:
    board = Board()
    board.add(Candidate("layer", "layer sky", state="scored", score=50.0, picture=b"x"))
    assert "layer" in board
    assert board.ordered()[0].origin == "layer sky"
