"""The table of what to do about which fault: a TOML file, read into rules. `diagnosis.toml` says how it is written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Diagnosis", "Prescription", "Rule", "default_diagnosis", "load_diagnosis"]

Range = tuple[float, float]

_VERSION = 1
_LEAST_SEVERITY = 0.15
_RULE_KEYS = frozenset({"name", "defects", "subject", "severity", "share", "scores", "repairs"})
_REPAIR_KEYS = frozenset({"kind", "strength", "grow_px", "region"})
_SCORES = tuple(field.name for field in pb.Scores.DESCRIPTOR.fields)


@dataclass(frozen=True)
class Prescription:
    """One repair of a rule. kind: what to do; strength, grow_px: as in `SuggestedAction`; region: where."""

    kind: pb.ActionKind.ValueType
    strength: float | None = None
    grow_px: int | None = None
    region: Literal["defect", "mask"] = "mask"

    def action(
        self, box: pb.Box | None, subject: pb.Subject.ValueType = pb.SUBJECT_UNSPECIFIED
    ) -> pb.SuggestedAction:
        """As an action; box, subject: of the defect."""
        here = box if self.region == "defect" else None
        shown = pb.SUBJECT_UNSPECIFIED if here is None else subject
        return pb.SuggestedAction(
            kind=self.kind, strength=self.strength, grow_px=self.grow_px, region=here, subject=shown
        )


@dataclass(frozen=True)
class Rule:
    """What to do when evidence fits. defects: kinds, empty when scores alone decide; subject: what the place shows, 0
    for anything. Ranges hold their ends."""

    name: str
    repairs: tuple[Prescription, ...]
    defects: frozenset[int] = frozenset()
    severity: Range = (_LEAST_SEVERITY, 1.0)
    share: Range = (0.0, 1.0)
    scores: tuple[tuple[str, Range], ...] = ()
    subject: int = pb.SUBJECT_UNSPECIFIED

    def fits_scores(self, scores: pb.Scores) -> bool:
        """Whether all scores that the rule names were given and lie in their ranges."""
        return all(
            getattr(scores, name).status == pb.SCORE_STATUS_SCORED
            and low <= getattr(scores, name).value <= high
            for name, (low, high) in self.scores
        )

    def fits(self, defect: pb.Defect, share: float, scores: pb.Scores) -> bool:
        """Whether the rule is about this defect; share: part of the mask that its box covers, in [0, 1]."""
        return (
            defect.kind in self.defects
            and self.subject in (pb.SUBJECT_UNSPECIFIED, defect.subject)
            and self.severity[0] <= defect.severity <= self.severity[1]
            and self.share[0] <= share <= self.share[1]
            and self.fits_scores(scores)
        )


@dataclass(frozen=True)
class Diagnosis:
    """Rules in the order in which they are tried."""

    rules: tuple[Rule, ...]

    @property
    def known(self) -> frozenset[int]:
        """Kinds of defect that some rule is about."""
        return frozenset().union(*(rule.defects for rule in self.rules))


def load_diagnosis(path: str | Path) -> Diagnosis:
    """Read a table.

    Raises: InvalidInput when there is no such file, it is no TOML, or a rule says what cannot be carried out.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"the diagnosis {path} cannot be read: {error}") from error
    if table.get("version") != _VERSION:
        raise InvalidInput(
            f"{path}: version {table.get('version')!r}; this program reads version = {_VERSION}"
        )
    _check_keys(table, {"version", "rule"}, str(path))
    rules = table.get("rule", [])
    if not isinstance(rules, list) or not rules:
        raise InvalidInput(f"{path} has no [[rule]]; expected at least one")
    return Diagnosis(tuple(_rule(each, f"{path}, rule {place + 1}") for place, each in enumerate(rules)))


@cache
def default_diagnosis() -> Diagnosis:
    """The table that comes with the package."""
    return load_diagnosis(Path(__file__).with_name("diagnosis.toml"))


def _rule(table: Mapping[str, Any], where: str) -> Rule:
    _check_keys(table, _RULE_KEYS, where)
    where += f" ({table['name']!r})" if "name" in table else ""
    repairs, scores = table.get("repairs", []), table.get("scores", {})
    if not repairs:
        raise InvalidInput(f"{where}: no repairs; expected repairs = [{{ kind = ... }}]")
    if not table.get("defects") and not scores:
        raise InvalidInput(f"{where}: fits everything; expected defects or scores")
    for name in scores:
        if name not in _SCORES:
            raise InvalidInput(f"{where}: no score {name!r}; expected one of {', '.join(_SCORES)}")
    return Rule(
        name=str(table.get("name", "")),
        repairs=tuple(_prescription(each, where) for each in repairs),
        defects=frozenset(
            _kind(pb.DefectKind, "DEFECT_KIND_", each, where) for each in table.get("defects", [])
        ),
        severity=_range(table, "severity", (_LEAST_SEVERITY, 1.0), 1.0, where),
        share=_range(table, "share", (0.0, 1.0), 1.0, where),
        scores=tuple((name, _range(scores, name, (0.0, 100.0), 100.0, where)) for name in scores),
        subject=_kind(pb.Subject, "SUBJECT_", table["subject"], where) if "subject" in table else 0,
    )


def _prescription(table: Mapping[str, Any], where: str) -> Prescription:
    _check_keys(table, _REPAIR_KEYS, where)
    strength, grow, region = table.get("strength"), table.get("grow_px"), table.get("region", "mask")
    if strength is not None and not (isinstance(strength, int | float) and 0 < strength <= 1):
        raise InvalidInput(f"{where}: strength {strength!r}; expected a number above 0 and at most 1")
    if grow is not None and not (isinstance(grow, int) and 0 <= grow <= 512):
        raise InvalidInput(f"{where}: grow_px {grow!r}; expected a whole number from 0 to 512")
    if region not in ("defect", "mask"):
        raise InvalidInput(f"{where}: region {region!r}; expected 'defect' or 'mask'")
    kind = _kind(pb.ActionKind, "ACTION_KIND_", table.get("kind"), where)
    return Prescription(kind, strength, grow, region)


def _kind(values: Any, prefix: str, name: object, where: str) -> Any:
    """The number of an enumeration's value by its name without the prefix, in lower case."""
    known = [each.removeprefix(prefix).lower() for each in values.keys()][1:]  # noqa: SIM118 (no mapping)
    if name not in known:
        raise InvalidInput(f"{where}: {name!r} is unknown; expected one of {', '.join(known)}")
    return values.Value(prefix + str(name).upper())


def _range(table: Mapping[str, Any], name: str, default: Range, most: float, where: str) -> Range:
    given = table.get(name, default)
    is_pair = isinstance(given, list | tuple) and len(given) == 2
    if not is_pair or not all(isinstance(each, int | float) for each in given):
        raise InvalidInput(f"{where}: {name} = {given!r}; expected [from, to]")
    low, high = float(given[0]), float(given[1])
    if not 0 <= low <= high <= most:
        raise InvalidInput(f"{where}: {name} = {given!r}; expected 0 <= from <= to <= {most:g}")
    return low, high


def _check_keys(table: object, known: frozenset[str] | set[str], where: str) -> None:
    if not isinstance(table, Mapping):
        raise InvalidInput(f"{where}: {table!r} is no table")
    unknown = sorted(set(table) - known)
    if unknown:
        raise InvalidInput(
            f"{where}: unknown {', '.join(unknown)}; expected some of {', '.join(sorted(known))}"
        )
