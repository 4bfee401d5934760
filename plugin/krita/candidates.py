"""The candidates of one run and what has become of each: the state behind the list, without a widget."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from .messages import picture_of, reason_of, score_of, summary_of

__all__ = ["ABSTAINED", "APPLIED", "DROPPED", "FAILED", "REJECTED", "RUNNING", "SCORED", "Board", "Candidate"]

Json = Dict[str, Any]

RUNNING, SCORED, ABSTAINED = "running", "scored", "abstained"
DROPPED, FAILED, REJECTED, APPLIED = "dropped", "failed", "rejected", "applied"

_ORDER = {APPLIED: 0, SCORED: 0, ABSTAINED: 1, RUNNING: 2, DROPPED: 3, FAILED: 4, REJECTED: 5}
_REPAIRS = {
    "ACTION_KIND_REINPAINT_REGION": "part redone",
    "ACTION_KIND_GROW_MASK": "wider mask",
    "ACTION_KIND_REPROMPT": "other words",
    "ACTION_KIND_REROLL": "other seed",
}


@dataclass
class Candidate:
    """One answer to the edit.

    Attributes:
        state: one of the constants of this module. score: 0 to 100; of the latest preview while it is running, None
        without one. fraction: share of its steps done. picture: the finished crop's file bytes; empty before.
        origin: how it was made, in a few words. reason: one line. details: for a tooltip. critique: as it came.
    """

    candidate_id: str
    origin: str = ""
    seed: Optional[int] = None
    state: str = RUNNING
    score: Optional[float] = None
    fraction: float = 0.0
    reason: str = ""
    details: str = ""
    picture: bytes = b""
    critique: Json = field(default_factory=dict)

    @property
    def can_be_shown(self) -> bool:
        """Whether there is a finished picture of it."""
        return bool(self.picture)


class Board:
    """Follows the events of `RefineService.Refine`.

    Attributes:
        best_id: the candidate that the server hands back; empty until the run is over. note: the latest decision,
        or how the run ended, in one line. is_over: the result has come. critic, engine: names, once told.
    """

    def __init__(self) -> None:
        self._all: Dict[str, Candidate] = {}
        self.best_id, self.note, self.edit_id = "", "", ""
        self.critic: Json = {}
        self.engine, self.is_over, self.has_failed, self.expected_count = "", False, False, 0

    def __getitem__(self, candidate_id: str) -> Candidate:
        return self._all[candidate_id]

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, candidate_id: str) -> bool:
        return candidate_id in self._all

    def ordered(self) -> List[Candidate]:
        """Best first: scored ones by score, then those without one, running, dropped, failed, rejected."""
        return sorted(self._all.values(), key=self._rank)

    def _rank(self, candidate: Candidate) -> Any:
        return (
            _ORDER[candidate.state],
            -(candidate.score if candidate.score is not None else -1.0),
            candidate.candidate_id != self.best_id,
        )

    @property
    def progress(self) -> float:
        """Share of the candidates' steps that are done or saved, in [0, 1]; it steps back when a repair begins."""
        done = [each.fraction if each.state == RUNNING else 1.0 for each in self._all.values()]
        return sum(done) / max(len(done), self.expected_count, 1)

    def add(self, candidate: Candidate) -> None:
        """A candidate that comes from elsewhere, such as a layer that was judged."""
        self._all[candidate.candidate_id] = candidate

    def apply_event(self, event: Json) -> None:
        """Take one `RefineResponse` in; an event of a kind that is not known here changes nothing."""
        for name, take in (
            ("started", self._on_started),
            ("candidateStarted", self._on_candidate_started),
            ("preview", self._on_preview),
            ("critique", self._on_critique),
            ("candidateFinished", self._on_candidate_finished),
            ("decision", self._on_decision),
            ("candidateError", self._on_candidate_error),
            ("result", self._on_result),
        ):
            if name in event:
                take(event[name])

    def cut_off(self, note: str) -> None:
        """The run ended before its result: what has a picture stays, the rest is marked as dropped."""
        self.is_over, self.note = True, note
        for candidate in self._all.values():
            if candidate.state == RUNNING:
                candidate.state = ABSTAINED if candidate.picture else DROPPED
                candidate.reason = "finished, not judged" if candidate.picture else "not finished"
                candidate.score = None  # it was a preview's

    def toggle_rejected(self, candidate_id: str) -> bool:
        """Mark a candidate as rejected, or take the mark back; it is kept either way. True when it is marked now."""
        candidate = self._all[candidate_id]
        if candidate.state == REJECTED:
            candidate.state = SCORED if candidate.score is not None else ABSTAINED
        elif candidate.picture:
            candidate.state = REJECTED
        return candidate.state == REJECTED

    def mark_applied(self, candidate_id: str) -> None:
        """The candidate has become a layer."""
        self._all[candidate_id].state = APPLIED

    def _candidate(self, candidate_id: str) -> Candidate:
        return self._all.setdefault(candidate_id, Candidate(candidate_id))

    def _on_started(self, started: Json) -> None:
        self.edit_id = started.get("editId", "")
        self.critic = started.get("searchCritic", {})
        self.engine = started.get("engine", {}).get("name", "")
        self.expected_count = int(started.get("sampling", {}).get("candidateCount", 0))

    def _on_candidate_started(self, started: Json) -> None:
        candidate = self._candidate(started["candidateId"])
        candidate.seed = int(started.get("seed", 0))
        action = started.get("action", "")
        if started.get("parentCandidateId"):
            told = _REPAIRS.get(action) or action.replace("ACTION_KIND_", "").replace("_", " ").lower()
            candidate.origin = f"mended: {told}"
        else:
            candidate.origin = f"seed {candidate.seed}"

    def _on_preview(self, preview: Json) -> None:
        candidate = self._candidate(preview["candidateId"])
        candidate.fraction = float(preview.get("progress", {}).get("fraction", 0.0))
        candidate.reason = f"{candidate.fraction:.0%} of its steps"

    def _on_critique(self, critique: Json) -> None:
        candidate = self._candidate(critique["candidateId"])
        candidate.score, candidate.critique = score_of(critique), critique
        candidate.details = summary_of(critique)
        if "progress" in critique:
            candidate.fraction = float(critique["progress"].get("fraction", 0.0))
            candidate.reason = f"{candidate.fraction:.0%} of its steps"
        elif candidate.state in (RUNNING, SCORED, ABSTAINED):
            candidate.state = ABSTAINED if candidate.score is None else SCORED
            candidate.reason = reason_of(critique)

    def _on_candidate_finished(self, finished: Json) -> None:
        candidate = self._candidate(finished["candidateId"])
        candidate.picture, candidate.fraction = picture_of(finished.get("image")), 1.0
        if candidate.state == RUNNING:
            candidate.reason = "finished; being judged"

    def _on_decision(self, decision: Json) -> None:
        self.note = str(decision.get("reason", ""))
        candidate = self._all.get(decision.get("candidateId", ""))
        if candidate is not None and decision.get("kind") == "DECISION_KIND_DROP":
            candidate.state, candidate.reason = DROPPED, self.note or "dropped early"
        if candidate is not None and decision.get("kind") == "DECISION_KIND_RECALL":
            candidate.state, candidate.reason = RUNNING, "taken up again"

    def _on_candidate_error(self, error: Json) -> None:
        candidate = self._candidate(error["candidateId"])
        candidate.state = FAILED
        candidate.reason = str(error.get("status", {}).get("message", "")) or "it failed"

    def _on_result(self, result: Json) -> None:
        self.best_id, self.is_over = result.get("candidateId", ""), True
        stop = result.get("stopReason", "")
        if stop == "STOP_REASON_FAILED":
            self.has_failed = True
            self.cut_off(result.get("error", {}).get("message", "") or "no candidate could be produced")
            return
        if self.best_id in self._all and not self._all[self.best_id].picture:
            self._all[self.best_id].picture = picture_of(result.get("image"))
        self.cut_off(_ENDS.get(stop, "done"))
        if not self.best_id:
            self.note += "; no candidate is better than the picture as it was"


_ENDS = {
    "STOP_REASON_TARGET_REACHED": "done: the target score is reached",
    "STOP_REASON_BUDGET_SPENT": "done: the budget is spent",
    "STOP_REASON_NO_ACTION_LEFT": "done: nothing is left to mend",
    "STOP_REASON_NO_GAIN": "done: further mending did not help",
    "STOP_REASON_CANCELLED": "cancelled; what was finished is kept",
    "STOP_REASON_ASK": "the critic cannot decide; have a look yourself",
}
