"""The catalogue of repairs: for every kind of action, how it is carried out.

A repair is either a finished picture (no diffusion) or a candidate of the engine that is still to be run; the loop
does not care which.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.engine import Candidate, Engine
from editcritic.refine.masks import widened_to
from editcritic.refine.reprompt import reworded
from editcritic.refine.retouch import blended_border, matched_detail, recoloured, recomposited
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import ServerFault
from editcritic.v1.images import encode_image

__all__ = ["REPAIRS", "Repair", "Workpiece", "carry_out"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_BAND_PX = 12
_STRENGTHS = (0.35, 0.5, 0.7)  # for a part of the mask, one after the other
_GROW_SHARE = 0.08


@dataclass(frozen=True, eq=False)
class Workpiece:
    """What a repair works on.

    source, picture: (H, W, 3) uint8, the photograph and the edit as it is. mask, blend: (H, W) float32 in [0, 1].
    attempt: how often this kind was tried before on this edit. options: sampling options of the run.
    """

    engine: Engine
    source: Pixels
    picture: Pixels
    mask: Array
    blend: Array
    prompt: str
    seed: int
    attempt: int
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Repair:
    """Either a picture, or a candidate to run; prompt: what the candidate was asked for."""

    picture: Pixels | None = None
    candidate: Candidate | None = None
    prompt: str = ""


def carry_out(repair: Repair, name: str, source: Pixels, blend: Array) -> refine_pb2.CandidateFinished:
    """Run what is left to run; the outcome is the source bit for bit wherever `blend` is 0.

    Raises: EditCriticError when the candidate fails.
    """
    cost = 0
    if repair.candidate is not None:
        picture, cost = repair.candidate.result(), repair.candidate.evaluations
    elif repair.picture is not None:
        picture = repair.picture
    else:
        raise ServerFault("a repair has neither a picture nor a candidate")
    whole = encode_image(recomposited(source, picture, blend))
    return refine_pb2.CandidateFinished(candidate_id=name, image=whole, evaluation_count=cost)


def _recomposite(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    return Repair(recomposited(work.source, work.picture, work.blend))


def _recolour(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    return Repair(recoloured(work.source, work.picture, work.blend))


def _blend(work: Workpiece, action: pb.SuggestedAction) -> Repair:
    return Repair(blended_border(work.source, work.picture, work.blend, max(_BAND_PX, action.grow_px)))


def _match_detail(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    return Repair(matched_detail(work.source, work.picture, work.blend, work.seed))


def _reinpaint_region(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """One part of the edit again, starting from what is there, a little stronger each time."""
    if work.attempt >= len(_STRENGTHS) or not work.engine.capabilities.strength:
        return None
    part = work.mask
    if action.HasField("region"):
        part = _boxed(work.mask, action.region)
    if not part.any():
        return None
    options = {**work.options, "strength": _STRENGTHS[work.attempt]}
    candidate = work.engine.candidate(work.picture, part, work.prompt, seed=work.seed, **options)
    return Repair(candidate=candidate, prompt=work.prompt)


def _grow_mask(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """Again from the source at full strength, denoising up to the rim of the blend mask and a little beyond it."""
    if work.attempt > 0:
        return None
    radius = action.grow_px or max(4, round(_GROW_SHARE * float(work.mask.sum()) ** 0.5))
    grown = widened_to(work.mask, radius)
    candidate = work.engine.candidate(
        work.source, grown, work.prompt, seed=work.seed, blend_mask=work.blend, **work.options
    )
    return Repair(candidate=candidate, prompt=work.prompt)


def _reprompt(work: Workpiece, _action: pb.SuggestedAction) -> Repair | None:
    prompt = reworded(work.prompt, work.engine.capabilities, work.attempt)
    return None if prompt is None else _from_source(work, prompt)


def _reroll(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    return _from_source(work, work.prompt)


def _from_source(work: Workpiece, prompt: str) -> Repair:
    """A new answer to the edit itself: passes are never stacked on one another, which ghosts."""
    candidate = work.engine.candidate(
        work.source, work.mask, prompt, seed=work.seed, blend_mask=work.blend, **work.options
    )
    return Repair(candidate=candidate, prompt=prompt)


def _boxed(mask: Array, box: pb.Box) -> Array:
    part = np.zeros_like(mask)
    place = (slice(box.y, box.y + box.height), slice(box.x, box.x + box.width))
    part[place] = mask[place]
    return part


REPAIRS: dict[int, Callable[[Workpiece, pb.SuggestedAction], Repair | None]] = {
    pb.ACTION_KIND_RECOMPOSITE: _recomposite,
    pb.ACTION_KIND_RECOLOUR: _recolour,
    pb.ACTION_KIND_BLEND: _blend,
    pb.ACTION_KIND_MATCH_DETAIL: _match_detail,
    pb.ACTION_KIND_REINPAINT_REGION: _reinpaint_region,
    pb.ACTION_KIND_GROW_MASK: _grow_mask,
    pb.ACTION_KIND_REPROMPT: _reprompt,
    pb.ACTION_KIND_REROLL: _reroll,
}
"""By kind of action: carry it out, or None when it is exhausted or the engine cannot."""
