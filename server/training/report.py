"""What was observed, as figures with intervals and as a table."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from editcritic.server.training.defects import INJECTIONS
from editcritic.v1 import critic_pb2 as pb

__all__ = [
    "EvaluationReport",
    "KindReport",
    "Observation",
    "Share",
    "pairs_of",
    "summarise_observations",
    "wilson",
]

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
        photo: name of the photograph; of further clean controls, with the number of their mask.
        injected: name of the injection; empty for the clean control.
        severity: of the injection; 0 for the control.
        scores: each score's value, None where the critic abstained.
        defects: severity of each kind that was named.
        heat_inside: share of the right kinds' heat in the injured part, and that part's share of the map.
        spreads: each score's standard deviation, None where the critic abstained.
        map_fit: IoU and area under the ROC curve of the right kind's map; None where it is not named.
        failed: the critic gave an error for this candidate, such as an answer that could not be read; no scores.
    """

    photo: str
    injected: str
    severity: float
    scores: Mapping[str, float | None]
    defects: Mapping[int, float]
    heat_inside: tuple[float, float] | None = None
    spreads: Mapping[str, float | None] = field(default_factory=dict)
    map_fit: tuple[float, float] | None = None
    failed: bool = False


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
        severities_ordered: share of all pairs of two severities in strict order on that score.
        triples_ordered: share of photographs with mild, medium and severe in strict order.
        found: share rightly flagged at each severity, the mildest first.
        flagged: share flagged with any kind at each severity.
        heat_share: mean share of the right kind's heat within the injured part; None without such a part.
        chance_share: that part's mean share of the map: what heat without aim would reach.
        map_iou: mean IoU of the right kind's map with the injured place where it is named; None if it never is.
        map_iou_all: the same over all cases, 0 where it is not named.
        map_auc: mean area under the ROC curve where it is named.
    """

    name: str
    score: str
    edits: int
    pairs_ordered: Share
    severities_ordered: Share
    triples_ordered: Share
    found: tuple[Share, ...]
    flagged: tuple[Share, ...]
    heat_share: float | None
    chance_share: float | None
    map_iou: float | None
    map_iou_all: float
    map_auc: float | None


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
        failed: share of candidates for which the critic gave an error; they count in no other figure.
    """

    critic: str
    photographs: int
    seed: int
    severities: tuple[float, ...]
    clean_flagged: Share
    clean_by_kind: Mapping[str, float]
    clean_scores: Mapping[str, tuple[float, float]]
    kinds: tuple[KindReport, ...]
    failed: Share

    @property
    def severities_ordered(self) -> Share:
        """Two severities of one kind in order, over all kinds."""
        return _joined([kind.severities_ordered for kind in self.kinds])

    @property
    def worst_kind(self) -> KindReport:
        """The kind whose severities are ordered worst, of those that were scored."""
        scored = [kind for kind in self.kinds if kind.severities_ordered.count]
        return min(scored or self.kinds, key=lambda kind: kind.severities_ordered.value)

    @property
    def faulty_flagged(self) -> Share:
        """Injected cases flagged with any kind, over all kinds and severities."""
        return _joined([share for kind in self.kinds for share in kind.flagged])

    @property
    def map_iou(self) -> tuple[float, float]:
        """Mean IoU over kinds: where the right kind is named, and over all cases."""
        named = [kind.map_iou for kind in self.kinds if kind.map_iou is not None]
        every = [kind.map_iou_all for kind in self.kinds]
        return (float(np.mean(named)) if named else 0.0), (float(np.mean(every)) if every else 0.0)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        totals = {
            "severities_ordered": asdict(self.severities_ordered),
            "worst_kind": self.worst_kind.name if self.kinds else "",
            "faulty_flagged": asdict(self.faulty_flagged),
            "map_iou_named": self.map_iou[0],
            "map_iou_all": self.map_iou[1],
        }
        return asdict(self) | {"totals": totals}

    @property
    def columns(self) -> tuple[str, ...]:
        """Heads of the table."""
        found = ("found: mild", "medium", "severe")
        flagged = ("any flag: mild", "medium", "severe")
        order = ("pairs in order", "severities in order", "triples in order")
        return ("defect", *order, *found, *flagged, "heat in place (chance)", "map IoU named (all)")

    def rows(self) -> list[tuple[str, ...]]:
        """The table: the clean controls first, then one row for each injection."""
        empty = ("",) * 6
        clean = (
            f"clean controls ({self.clean_flagged.count})",
            *empty,
            _interval(self.clean_flagged),
            *("",) * 4,
        )
        failed = (f"errors ({self.failed.count})", *empty, _interval(self.failed), *("",) * 4)
        return [clean, *([failed] if self.failed.value else []), *(_row(kind) for kind in self.kinds)]

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
    judged = [seen for seen in clean.values() if not seen.failed]
    kinds = {kind for seen in judged for kind in seen.defects}
    return EvaluationReport(
        critic=critic,
        photographs=photographs,
        seed=seed,
        severities=tuple(sorted({seen.severity for seen in observations if seen.injected})),
        clean_flagged=wilson(sum(bool(seen.defects) for seen in judged), len(judged)),
        clean_by_kind={
            _kind_name(kind): float(np.mean([kind in seen.defects for seen in judged]))
            for kind in sorted(kinds)
        },
        clean_scores=_clean_scores(judged),
        kinds=tuple(_kind_report(name, by_name[name], clean) for name in INJECTIONS if by_name[name]),
        failed=wilson(sum(seen.failed for seen in observations), len(observations)),
    )


def pairs_of(
    observations: Sequence[Observation], score: str = "visual_quality"
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Value and standard deviation of the better and the worse of all pairs of one content and fault."""
    series: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    clean = {seen.photo: seen for seen in observations if not seen.injected}
    for seen in observations:
        injection = INJECTIONS.get(seen.injected)
        if injection is not None and injection.dimension != pb.DIMENSION_UNSPECIFIED:
            series[seen.photo, seen.injected].append(seen)
    pairs = []
    for (photo, _), graver in series.items():
        row = [clean[photo], *sorted(graver, key=lambda seen: seen.severity)]
        told = [(seen.scores[score], seen.spreads.get(score)) for seen in row]
        known = [(value, spread) for value, spread in told if value is not None and spread is not None]
        if len(known) == len(told):
            pairs += list(itertools.combinations(known, 2))
    return pairs


def _kind_report(name: str, seen: Sequence[Observation], clean: Mapping[str, Observation]) -> KindReport:
    injection = INJECTIONS[name]
    score = _SCORE_OF[injection.dimension]
    series: dict[str, list[Observation]] = defaultdict(list)
    for one in sorted(seen, key=lambda item: item.severity):
        series[one.photo].append(one)
    pairs, severities, triples = [], [], []
    for photo, graver in series.items():
        values = [one.scores[score] for one in [clean[photo], *graver]]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(values):
            falls = [before > after for before, after in itertools.pairwise(numbers)]
            pairs += falls
            severities += [one > other for one, other in itertools.combinations(numbers[1:], 2)]
            triples.append(all(falls[1:]))
    heats = [one.heat_inside for one in seen if one.heat_inside is not None]
    fits = [one.map_fit for one in seen if one.map_fit is not None]
    levels = sorted({one.severity for one in seen})
    return KindReport(
        name=name,
        score=score,
        edits=len(series),
        pairs_ordered=wilson(sum(pairs), len(pairs)),
        severities_ordered=wilson(sum(severities), len(severities)),
        triples_ordered=wilson(sum(triples), len(triples)),
        found=tuple(_share(seen, level, set(injection.kinds)) for level in levels),
        flagged=tuple(_share(seen, level, None) for level in levels),
        heat_share=float(np.mean([heat[0] for heat in heats])) if heats else None,
        chance_share=float(np.mean([heat[1] for heat in heats])) if heats else None,
        map_iou=float(np.mean([fit[0] for fit in fits])) if fits else None,
        map_iou_all=float(sum(fit[0] for fit in fits)) / max(len(seen), 1),
        map_auc=float(np.mean([fit[1] for fit in fits])) if fits else None,
    )


def _share(seen: Sequence[Observation], level: float, kinds: set[pb.DefectKind.ValueType] | None) -> Share:
    chosen = [one for one in seen if one.severity == level and not one.failed]
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
    order = [kind.pairs_ordered, kind.severities_ordered, kind.triples_ordered]
    fit = "" if kind.map_iou is None else f"{kind.map_iou:.2f} ({kind.map_iou_all:.2f})"
    return (kind.name, *(_percent(share.value) for share in [*order, *kind.found, *kind.flagged]), heat, fit)


def _joined(shares: Sequence[Share]) -> Share:
    count = sum(share.count for share in shares)
    return wilson(round(sum(share.value * share.count for share in shares)), count)


def _interval(share: Share) -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _kind_name(kind: int) -> str:
    return pb.DefectKind.Name(pb.DefectKind.ValueType(kind)).removeprefix("DEFECT_KIND_").lower()
