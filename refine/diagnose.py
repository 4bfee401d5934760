"""From a critique to what could be done about it, cheapest first. The critic suggests, this puts in order."""

from __future__ import annotations

from editcritic.refine.acceptance import scored
from editcritic.v1 import critic_pb2 as pb

__all__ = ["action_key", "plan_actions"]

# Denoising steps are what repairs cost; those before REINPAINT_REGION cost none.
_ORDER = (
    pb.ACTION_KIND_RECOMPOSITE,
    pb.ACTION_KIND_RECOLOUR,
    pb.ACTION_KIND_BLEND,
    pb.ACTION_KIND_MATCH_DETAIL,
    pb.ACTION_KIND_REINPAINT_REGION,
    pb.ACTION_KIND_GROW_MASK,
    pb.ACTION_KIND_REPROMPT,
    pb.ACTION_KIND_REROLL,
)
_WORTH_MENDING = 0.15  # severity below which a fault is left alone
_ALIGNED = 60.0  # prompt alignment under which the prompt counts as not followed


def action_key(action: pb.SuggestedAction) -> tuple[int, int, int, int, int]:
    """What makes two actions the same attempt: kind and place."""
    box = action.region
    return action.kind, box.x, box.y, box.width, box.height


def plan_actions(critique: pb.Critique) -> list[pb.SuggestedAction]:
    """Actions that the critique calls for, cheapest first, graver faults before lighter ones; each attempt once.

    A last REROLL is always there: a new seed may help where no fault was found.
    """
    found = [
        (_ORDER.index(action.kind), -defect.severity, action)
        for defect in critique.defects
        if defect.severity >= _WORTH_MENDING
        for action in defect.actions
        if action.kind in _ORDER
    ]
    alignment = critique.scores.prompt_alignment
    if alignment.status == pb.SCORE_STATUS_SCORED and alignment.value < _ALIGNED:
        reprompt = pb.SuggestedAction(kind=pb.ACTION_KIND_REPROMPT)
        found.append((_ORDER.index(reprompt.kind), -1.0, reprompt))
    if scored(critique):
        reroll = pb.SuggestedAction(kind=pb.ACTION_KIND_REROLL, strength=1.0)
        found.append((_ORDER.index(reroll.kind), 0.0, reroll))
    found.sort(key=lambda entry: entry[:2])
    once: dict[tuple[int, ...], pb.SuggestedAction] = {}
    for _, _, action in found:
        once.setdefault(action_key(action), action)
    return list(once.values())
