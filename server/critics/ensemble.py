"""Critics that judge together: measured evidence keeps the network honest, the network sees what cannot be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.explain import summarise
from editcritic.server.critics.reporting import DEFAULT_MAX_DEFECTS
from editcritic.server.critics.scoring import Abstention, abstained, abstained_as, scored
from editcritic.server.critics.spec import parse_members
from editcritic.v1 import critic_pb2 as pb

__all__ = ["MEMBERS", "MOST_DISAGREEMENT", "EnsembleCritic", "open_ensemble"]

VERSION = "2"
MEMBERS: Mapping[str, float] = {"network": 0.7, "evidence": 0.3}
"""Weight of each member in every score that it gives; those that abstain have none."""
MOST_DISAGREEMENT = 30.0
"""Weighted standard deviation of the members' values from which their mean says nothing."""
_SCORES = (
    "naturalness",
    "harmony",
    "preservation",
    "visual_quality",
    "prompt_alignment",
    "overall",
)


class EnsembleCritic:
    """Weighted means of scores, disagreement as uncertainty, the gravest defect of each kind.

    Where the members disagree widely about a score, there is none: a person should look.

    Args:
        members: critics and their weights; by default those of `MEMBERS`.
    """

    def __init__(self, members: Sequence[tuple[Critic, float]] | None = None) -> None:
        self._members = tuple(members or _default_members())

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what its members judge."""
        infos = [member.info for member, _ in self._members]
        return pb.CriticInfo(
            identity=self._identity(),
            description="Joins "
            + ", ".join(f"{info.identity.name} ({weight:g})" for info, (_, weight) in self._named(infos))
            + ": weighted means, disagreement as uncertainty, the gravest defect of each kind.",
            dimensions=sorted({dimension for info in infos for dimension in info.dimensions}),
            defect_kinds=sorted({kind for info in infos for kind in info.defect_kinds}),
            judges_previews=all(info.judges_previews for info in infos),
            device=", ".join(dict.fromkeys(info.device for info in infos)),
        )

    def prepare(self, edit: DecodedEdit) -> tuple[Any, ...]:
        """What every member prepares."""
        return tuple(member.prepare(edit) for member, _ in self._members)

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task; an error of a member is the error of the item, never a middling score."""
        answers = []
        for place, (member, _) in enumerate(self._members):
            own = [
                CritiqueTask(task.edit, task.prepared[place], task.candidate, task.options) for task in tasks
            ]
            answers.append(member.critique(own, is_cancelled))
        return [self._join(task, [each[i] for each in answers]) for i, task in enumerate(tasks)]

    def _join(self, task: CritiqueTask, answers: Sequence[Outcome]) -> Outcome:
        critiques = []
        for answer in answers:
            if not isinstance(answer, pb.Critique):
                return answer
            critiques.append(answer)
        weights = [weight for _, weight in self._members]
        scores = {
            name: _joined([getattr(each.scores, name) for each in critiques], weights) for name in _SCORES
        }
        defects = _gravest(critiques, task.options.max_defect_count or DEFAULT_MAX_DEFECTS)
        joined = pb.Critique(
            candidate_id=task.candidate.candidate_id,
            critic=self._identity(),
            scores=pb.Scores(**scores),
            defects=defects,
            explanation=summarise(defects, ["all that its members look for"], []),
            measurements=[measured for each in critiques for measured in each.measurements],
            heat_maps=_maps(critiques),
        )
        joined.timings.critique_ms = sum(each.timings.critique_ms for each in critiques)
        if task.candidate.progress is not None:
            joined.progress.CopyFrom(task.candidate.progress)
        return joined

    def _named(self, infos: Sequence[pb.CriticInfo]) -> list[tuple[pb.CriticInfo, tuple[Critic, float]]]:
        return list(zip(infos, self._members, strict=True))

    def _identity(self) -> pb.CriticIdentity:
        calibrations = [member.info.identity.calibration for member, _ in self._members]
        return pb.CriticIdentity(
            name="ensemble",
            version=VERSION,
            calibration="+".join(calibrations),
            score_meaning="Weighted mean of its members' scores; their disagreement is part of stddev.",
        )


def open_ensemble(members: str = "") -> EnsembleCritic:
    """The ensemble of members and weights, "network:0.7+evidence:0.3+dual_encoder@folder:0.5".

    Raises:
        InvalidInput: a member without a weight above 0, or an ensemble in an ensemble.
        NotFound: there is no critic of that name.
    """
    from editcritic.server.critics import load_critic

    if not members:
        return EnsembleCritic()
    return EnsembleCritic([(load_critic(spec), weight) for spec, weight in parse_members(members)])


def _default_members() -> list[tuple[Critic, float]]:
    from editcritic.server.critics import load_critic

    return [(load_critic(name), weight) for name, weight in MEMBERS.items()]


def _joined(scores: Sequence[pb.Score], weights: Sequence[float]) -> pb.Score:
    told = [
        (score, weight)
        for score, weight in zip(scores, weights, strict=True)
        if score.status == pb.SCORE_STATUS_SCORED
    ]
    if not told:
        return abstained_as(scores[0])
    shares = np.array([weight for _, weight in told])
    shares = shares / shares.sum()
    values = np.array([score.value for score, _ in told])
    spreads = np.array([score.stddev for score, _ in told])
    mean = float((shares * values).sum())
    disagreement = float((shares * np.square(values - mean)).sum())
    if disagreement > MOST_DISAGREEMENT**2:
        told_values = ", ".join(f"{value:.0f}" for value in values)
        return abstained(
            Abstention(pb.ABSTENTION_REASON_DISAGREEMENT, f"The critics disagree too widely: {told_values}.")
        )
    return scored(mean, float(np.sqrt(np.square(shares * spreads).sum() + disagreement)))


def _gravest(critiques: Sequence[pb.Critique], limit: int) -> list[pb.Defect]:
    by_kind: dict[int, pb.Defect] = {}
    for critique in critiques:
        for defect in critique.defects:
            known = by_kind.get(defect.kind)
            if known is None or defect.severity > known.severity:
                by_kind[defect.kind] = defect
    return sorted(by_kind.values(), key=lambda defect: (-defect.severity, defect.kind))[:limit]


def _maps(critiques: Sequence[pb.Critique]) -> list[pb.HeatMap]:
    """The maps of the first member that has any of a kind: each covers its own part of the source."""
    maps: dict[int, pb.HeatMap] = {}
    for critique in critiques:
        for heat in critique.heat_maps:
            maps.setdefault(heat.kind, heat)
    return list(maps.values())
