"""What was observed, as figures with intervals and as a table."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from editcritic.server.training.defects import INJECTIONS
from editcritic.v1 import critic_pb2 as pb

__all__ = ["EvaluationReport", "KindReport", "Observation", "Share", "summarise_observations", "wilson"]

_Z95 = 1.959964
_SCORE_OF: Mapping[int, str] = {
    pb.DIMENSION_NATURALNESS: "naturalness",
    pb.DIMENSION_HARMONY: "harmony",
    pb.DIMENSION_PRESERVATION: "preservation",
    pb.DIMENSION_UNSPECIFIED: "overall",
}


@dataclass(frozen=True)
class Observation:
    """One judged candidate.

    Attributes:
        photo: name of the photograph.
        injected: name of the injection; empty for the clean control.
        severity: of the injection; 0 for the control.
        scores: each score's value, None where the critic abstained.
        defects: severity of each kind that was named.
        heat_inside: share of the right kinds' heat in the injured part, and that part's share of the map.
    """

    photo: str
    injected: str
    severity: float
    scores: Mapping[str, float | None]
    defects: Mapping[int, float]
    heat_inside: tuple[float, float] | None = None


@dataclass(frozen=True)
class Share:
    """A share of `count` cases with its 95 % Wilson interval."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class KindReport:
    """One injection.

    Attributes:
        name: of the injection.
        score: the score that has to fall.
        edits: photographs on which it applied and was scored.
        pairs_ordered: share of neighbours in clean > mild > medium > severe in strict order on that score.
        triples_ordered: share of photographs with mild, medium and severe in strict order.
        found: share rightly flagged at each severity, the mildest first.
        flagged: share flagged with any kind at each severity.
        heat_share: mean share of the right kind's heat within the injured part; None without such a part.
        chance_share: that part's mean share of the map: what heat without aim would reach.
    """

    name: str
    score: str
    edits: int
    pairs_ordered: Share
    triples_ordered: Share
    found: tuple[Share, ...]
    flagged: tuple[Share, ...]
    heat_share: float | None
    chance_share: float | None


@dataclass(frozen=True)
class EvaluationReport:
    """How well a critic did.

    Attributes:
        critic: its name.
        photographs: how many.
        seed: of masks and faults.
        severities: mild, medium, severe.
        clean_flagged: share of clean controls with any defect named.
        clean_by_kind: share of clean controls flagged with each kind, by its name.
        clean_scores: mean and standard deviation of each score over clean controls.
        kinds: one entry for each injection.
    """

    critic: str
    photographs: int
    seed: int
    severities: tuple[float, ...]
    clean_flagged: Share
    clean_by_kind: Mapping[str, float]
    clean_scores: Mapping[str, tuple[float, float]]
    kinds: tuple[KindReport, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return asdict(self)

    @property
    def columns(self) -> tuple[str, ...]:
        """Heads of the table."""
        found = ("found: mild", "medium", "severe")
        flagged = ("any flag: mild", "medium", "severe")
        return ("defect", "pairs in order", "triples in order", *found, *flagged, "heat in place (chance)")

    def rows(self) -> list[tuple[str, ...]]:
        """The table: the clean controls first, then one row for each injection."""
        empty = ("",) * 5
        clean = (
            f"clean controls ({self.clean_flagged.count})",
            *empty,
            _interval(self.clean_flagged),
            "",
            "",
            "",
        )
        return [clean, *(_row(kind) for kind in self.kinds)]

    def to_markdown(self) -> str:
        """The table as Markdown."""
        lines = ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in self.rows())]) + "\n"


def wilson(hits: int, count: int) -> Share:
    """A share with its 95 % interval; Source: Wilson (1927)."""
    if count == 0:
        return Share(0.0, 0.0, 1.0, 0)
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 * np.sqrt(share * (1 - share) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return Share(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)), count)


def summarise_observations(
    critic: str, observations: Sequence[Observation], *, photographs: int, seed: int
) -> EvaluationReport:
    """Figures of all observations."""
    clean = {seen.photo: seen for seen in observations if not seen.injected}
    by_name: dict[str, list[Observation]] = defaultdict(list)
    for seen in observations:
        if seen.injected:
            by_name[seen.injected].append(seen)
    kinds = {kind for seen in clean.values() for kind in seen.defects}
    return EvaluationReport(
        critic=critic,
        photographs=photographs,
        seed=seed,
        severities=tuple(sorted({seen.severity for seen in observations if seen.injected})),
        clean_flagged=wilson(sum(bool(seen.defects) for seen in clean.values()), len(clean)),
        clean_by_kind={
            _kind_name(kind): float(np.mean([kind in seen.defects for seen in clean.values()]))
            for kind in sorted(kinds)
        },
        clean_scores=_clean_scores(list(clean.values())),
        kinds=tuple(_kind_report(name, by_name[name], clean) for name in INJECTIONS if by_name[name]),
    )


def _kind_report(name: str, seen: Sequence[Observation], clean: Mapping[str, Observation]) -> KindReport:
    injection = INJECTIONS[name]
    score = _SCORE_OF[injection.dimension]
    series: dict[str, list[Observation]] = defaultdict(list)
    for one in sorted(seen, key=lambda item: item.severity):
        series[one.photo].append(one)
    pairs, triples = [], []
    for photo, graver in series.items():
        values = [one.scores[score] for one in [clean[photo], *graver]]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(values):
            falls = [before > after for before, after in itertools.pairwise(numbers)]
            pairs += falls
            triples.append(all(falls[1:]))
    heats = [one.heat_inside for one in seen if one.heat_inside is not None]
    levels = sorted({one.severity for one in seen})
    return KindReport(
        name=name,
        score=score,
        edits=len(series),
        pairs_ordered=wilson(sum(pairs), len(pairs)),
        triples_ordered=wilson(sum(triples), len(triples)),
        found=tuple(_share(seen, level, set(injection.kinds)) for level in levels),
        flagged=tuple(_share(seen, level, None) for level in levels),
        heat_share=float(np.mean([heat[0] for heat in heats])) if heats else None,
        chance_share=float(np.mean([heat[1] for heat in heats])) if heats else None,
    )


def _share(seen: Sequence[Observation], level: float, kinds: set[pb.DefectKind.ValueType] | None) -> Share:
    chosen = [one for one in seen if one.severity == level]
    hits = [bool(one.defects) if kinds is None else bool(kinds & set(one.defects)) for one in chosen]
    return wilson(sum(hits), len(hits))


def _clean_scores(clean: Sequence[Observation]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in ("naturalness", "harmony", "preservation", "visual_quality", "overall"):
        values = [value for seen in clean if (value := seen.scores[name]) is not None]
        if values:
            found[name] = (float(np.mean(values)), float(np.std(values)))
    return found


def _row(kind: KindReport) -> tuple[str, ...]:
    heat = (
        ""
        if kind.heat_share is None
        else f"{_percent(kind.heat_share)} ({_percent(kind.chance_share or 0.0)})"
    )
    shares = [kind.pairs_ordered, kind.triples_ordered, *kind.found, *kind.flagged]
    return (kind.name, *(_percent(share.value) for share in shares), heat)


def _interval(share: Share) -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _kind_name(kind: int) -> str:
    return pb.DefectKind.Name(pb.DefectKind.ValueType(kind)).removeprefix("DEFECT_KIND_").lower()
