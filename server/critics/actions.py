"""What would mend each kind of defect, cheapest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from editcritic.v1 import critic_pb2 as pb

__all__ = ["suggest"]

PART_OF_MASK = 1 / 3
"""Below this share of the mask a part is inpainted again; above it the whole region is rolled anew."""

_STEPS: Mapping[pb.DefectKind.ValueType, Sequence[pb.ActionKind.ValueType]] = {
    pb.DEFECT_KIND_OUTSIDE_CHANGED: (pb.ACTION_KIND_RECOMPOSITE,),
    pb.DEFECT_KIND_SEAM: (pb.ACTION_KIND_DEFRINGE, pb.ACTION_KIND_BLEND, pb.ACTION_KIND_REINPAINT_REGION),
    pb.DEFECT_KIND_COLOUR_SHIFT: (pb.ACTION_KIND_RECOLOUR, pb.ACTION_KIND_BLEND_GRADIENTS),
    pb.DEFECT_KIND_TONE_SHIFT: (
        pb.ACTION_KIND_RECOLOUR,
        pb.ACTION_KIND_RELIGHT,
        pb.ACTION_KIND_BLEND_GRADIENTS,
    ),
    pb.DEFECT_KIND_LIGHT_MISMATCH: (pb.ACTION_KIND_BLEND_GRADIENTS, pb.ACTION_KIND_RELIGHT),
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: (pb.ACTION_KIND_MATCH_DETAIL, pb.ACTION_KIND_REINPAINT_REGION),
    pb.DEFECT_KIND_NOISE_MISMATCH: (pb.ACTION_KIND_MATCH_DETAIL, pb.ACTION_KIND_DENOISE),
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: (pb.ACTION_KIND_DEBLOCK, pb.ACTION_KIND_REINPAINT_REGION),
    pb.DEFECT_KIND_TEXTURE_REPEAT: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_FLAT_FILL: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_BLACK_FILL: (pb.ACTION_KIND_REROLL,),
    pb.DEFECT_KIND_UNCHANGED: (pb.ACTION_KIND_GROW_MASK, pb.ACTION_KIND_REPROMPT, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_LEFTOVER: (pb.ACTION_KIND_UNGHOST, pb.ACTION_KIND_GROW_MASK, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_MELTED_TEXTURE: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_WARPED_GEOMETRY: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_DUPLICATED_PART: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_MISSING_PART: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REPROMPT),
    pb.DEFECT_KIND_FOREIGN_CONTENT: (pb.ACTION_KIND_REINPAINT_REGION, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_BANDING: (pb.ACTION_KIND_DEBAND, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_OVERSHARPENED: (pb.ACTION_KIND_MATCH_DETAIL, pb.ACTION_KIND_REROLL),
    pb.DEFECT_KIND_PROMPT_MISMATCH: (pb.ACTION_KIND_REPROMPT, pb.ACTION_KIND_REROLL),
}
_GROW_SHARE = 0.08
_START_STRENGTH = 0.35


def suggest(kind: pb.DefectKind.ValueType, box: pb.Box, mask_area: int) -> list[pb.SuggestedAction]:
    """The actions for a defect.

    Args:
        kind: what is wrong.
        box: where, in pixels of the source.
        mask_area: pixels of the mask in the source.
    """
    small = box.width * box.height < PART_OF_MASK * max(mask_area, 1)
    return [_fill_in(action, box, mask_area, small) for action in _STEPS.get(kind, (pb.ACTION_KIND_ASK,))]


def _fill_in(action: pb.ActionKind.ValueType, box: pb.Box, mask_area: int, small: bool) -> pb.SuggestedAction:
    if action == pb.ACTION_KIND_GROW_MASK:
        return pb.SuggestedAction(
            kind=action, strength=1.0, grow_px=max(4, round(_GROW_SHARE * mask_area**0.5))
        )
    if action == pb.ACTION_KIND_REINPAINT_REGION:
        region = box if small else None
        return pb.SuggestedAction(kind=action, strength=_START_STRENGTH if small else 0.7, region=region)
    if action == pb.ACTION_KIND_REROLL:
        return pb.SuggestedAction(kind=action, strength=1.0)
    return pb.SuggestedAction(kind=action)
