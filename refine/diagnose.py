"""From a critique to what could be done about it: what the table says, cheapest first, graver faults first."""

from __future__ import annotations

from collections.abc import Iterator

from editcritic.refine.acceptance import scored
from editcritic.refine.diagnosis import Diagnosis, default_diagnosis
from editcritic.v1 import critic_pb2 as pb

__all__ = ["action_key", "is_costly", "plan_actions", "reason_for"]

Key = tuple[int, int, float]

# By denoising: what is exact and free; nothing; a part of the mask; all of it. The others cost nothing and rank 1.
_COSTS = {
    pb.ACTION_KIND_RECOMPOSITE: 0,
    pb.ACTION_KIND_REINPAINT_REGION: 2,
    pb.ACTION_KIND_REINPAINT_MEDIUM_QUALITY: 2,
    pb.ACTION_KIND_REDRAW_LOW_QUALITY: 2,
    pb.ACTION_KIND_REINPAINT_BY_QUALITY: 2,
    pb.ACTION_KIND_GROW_MASK: 3,
    pb.ACTION_KIND_REPROMPT: 3,
    pb.ACTION_KIND_REROLL: 4,
}
_NO_REPAIR = frozenset({pb.ACTION_KIND_UNSPECIFIED, pb.ACTION_KIND_ACCEPT, pb.ACTION_KIND_ASK})
_LEAST_SEVERITY = 0.15  # of defects that the table does not know


def action_key(action: pb.SuggestedAction) -> tuple[float, ...]:
    """What makes two actions the same attempt: kind and place, and strength where a part is inpainted again."""
    box = action.region
    strength = round(action.strength, 3) if action.kind == pb.ACTION_KIND_REINPAINT_REGION else 0.0
    return action.kind, strength, box.x, box.y, box.width, box.height


def is_costly(action: pb.SuggestedAction) -> bool:
    """Whether an action takes denoising steps."""
    return _COSTS.get(action.kind, 1) > 1


def plan_actions(
    critique: pb.Critique, mask_area: int = 0, diagnosis: Diagnosis | None = None
) -> list[pb.SuggestedAction]:
    """Actions that the critique calls for, cheapest first, graver faults before lighter ones; each attempt once.

    A last REROLL is always there: a new seed may help where no fault was found. A critique without an overall score
    calls for nothing: what cannot be judged is not searched on.

    mask_area: pixels of the mask, by which a defect is small or large; 0 when unknown, then each counts as small.
    diagnosis: the table; by default the one that comes with the package.
    """
    if not scored(critique):
        return []
    found = sorted(
        _called_for(critique, mask_area, diagnosis or default_diagnosis()), key=lambda each: each[0]
    )
    once: dict[tuple[float, ...], pb.SuggestedAction] = {}
    for _, action, _ in found:
        once.setdefault(action_key(action), action)
    reroll = pb.SuggestedAction(kind=pb.ACTION_KIND_REROLL, strength=1.0)
    once.setdefault(action_key(reroll), reroll)
    return list(once.values())


def reason_for(
    critique: pb.Critique, action: pb.SuggestedAction, mask_area: int = 0, diagnosis: Diagnosis | None = None
) -> str:
    """The fault that called for an action of `plan_actions`, in the critic's words; empty when scores alone did."""
    found = sorted(
        _called_for(critique, mask_area, diagnosis or default_diagnosis()), key=lambda each: each[0]
    )
    return next((told for _, each, told in found if told and action_key(each) == action_key(action)), "")


def _called_for(
    critique: pb.Critique, mask_area: int, table: Diagnosis
) -> Iterator[tuple[Key, pb.SuggestedAction, str]]:
    """Every action with what it is ordered by, and the fault that called for it."""
    for defect in critique.defects:
        for rank, action in enumerate(_against(defect, critique.scores, mask_area, table)):
            if action.kind not in _NO_REPAIR:
                key = (_COSTS.get(action.kind, 1), rank, -defect.severity)
                yield key, action, defect.explanation
    for rule in table.rules:
        if not rule.defects and rule.fits_scores(critique.scores):
            for rank, each in enumerate(rule.repairs):
                yield (_COSTS.get(each.kind, 1), rank, 0.0), each.action(None), ""


def _against(
    defect: pb.Defect, scores: pb.Scores, mask_area: int, table: Diagnosis
) -> list[pb.SuggestedAction]:
    """What the first rule that fits says; for a kind that the table does not know, what the critic suggests."""
    if defect.kind not in table.known:
        return list(defect.actions) if defect.severity >= _LEAST_SEVERITY else []
    share = min(1.0, defect.box.width * defect.box.height / mask_area) if mask_area else 0.0
    for rule in table.rules:
        if rule.fits(defect, share, scores):
            return [each.action(defect.box, defect.subject) for each in rule.repairs]
    return []
