"""What a run of the loop told, for the benchmark: scores, pictures and costs by candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from editcritic.refine.race_replay import Record
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

__all__ = ["ToldRun"]


@dataclass
class ToldRun:
    """A run and all that it told.

    Attributes:
        seconds: of the run without opening the edit, and of critic and engine in it.
        scores: of what was finished, by the critic that steers. previews: by candidate, scores by share of the steps.
        drafts: scores of drafts, by candidate. pictures: what was finished.
    """

    request: refine_pb2.RefineRequest
    events: list[refine_pb2.RefineResponse]
    seconds: dict[str, float]
    scores: dict[str, float] = field(default_factory=dict)
    previews: dict[str, dict[float, float]] = field(default_factory=dict)
    drafts: dict[str, float] = field(default_factory=dict)
    pictures: dict[str, refine_pb2.CandidateFinished] = field(default_factory=dict)

    def __post_init__(self) -> None:
        is_draft = False
        for event in self.events:
            if event.HasField("candidate_finished"):
                self.pictures[event.candidate_finished.candidate_id] = event.candidate_finished
            is_draft = event.preview.is_draft if event.HasField("preview") else is_draft
            overall = event.critique.scores.overall
            if event.critique.HasField("progress"):
                if overall.status == pb.SCORE_STATUS_SCORED:
                    self._promised(event.critique, is_draft)
            elif event.HasField("critique"):
                # The critic that steers judges first; the acceptance critic may come after it.
                self.scores.setdefault(event.critique.candidate_id, overall.value)

    def _promised(self, critique: pb.Critique, is_draft: bool) -> None:
        overall = critique.scores.overall.value
        if is_draft:
            self.drafts[critique.candidate_id] = overall
        else:
            share = round(critique.progress.fraction, 4)
            self.previews.setdefault(critique.candidate_id, {})[share] = overall

    @property
    def result(self) -> refine_pb2.RefineResult:
        """What it ended with."""
        return self.events[-1].result

    def selected(self) -> tuple[str, float]:
        """Who led when the race was over, and the denoising steps until then."""
        spent: dict[str, int] = {}
        for event in self.events:
            if event.preview.is_draft and not event.preview.goes_on:
                spent[f"{event.preview.candidate_id} draft"] = event.preview.progress.step
            elif event.HasField("preview"):
                spent[event.preview.candidate_id] = event.preview.progress.step
            elif event.HasField("candidate_finished"):
                spent[event.candidate_finished.candidate_id] = event.candidate_finished.evaluation_count
            elif event.decision.kind == refine_pb2.DECISION_KIND_SELECT:
                return event.decision.candidate_id, float(sum(spent.values()))
        return self.result.candidate_id, float(self.result.evaluation_count)

    def picture(self, name: str) -> pb.Image:
        """What was finished under that name."""
        return self.pictures[name].image

    def cost(self, name: str) -> int:
        """Denoising steps of what was finished under that name."""
        return self.pictures[name].evaluation_count

    def record(self) -> Record:
        """Previews, drafts and finals of the first answers of a run in which all were finished."""
        names = [name for name in self.pictures if name.startswith("seed-")]
        return Record(
            names,
            [self.previews.get(name, {}) for name in names],
            [self.scores[name] for name in names],
            [self.drafts.get(name, math.nan) for name in names] if self.drafts else (),
            self._rest(),
        )

    def _rest(self) -> float:
        """Share of a whole candidate's steps that finishing one took after its draft."""
        drafts = {event.preview.candidate_id: event.preview for event in self.events if event.preview.goes_on}
        ends = [self.cost(name) - seen.progress.step for name, seen in drafts.items()]
        return ends[0] / next(iter(drafts.values())).progress.step_count if ends else 1.0
