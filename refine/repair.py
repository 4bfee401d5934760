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

from editcritic.refine.blending import gradient_blended, multiband_blended
from editcritic.refine.cleanup import debanded, deblocked, denoised
from editcritic.refine.defringe import defringed
from editcritic.refine.detail import matched_detail
from editcritic.refine.engine import Candidate, Engine
from editcritic.refine.faces import face_prompt, restored_face
from editcritic.refine.masks import widened_to
from editcritic.refine.phrase_evidence import faulty_part
from editcritic.refine.quality_map import QualityParts, fault_map, quality_parts
from editcritic.refine.reprompt import Rewriter, WordingCase, reworded
from editcritic.refine.retouch import recomposited, unghosted
from editcritic.refine.tokens import token_counter
from editcritic.refine.tone import recoloured, relit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import ServerFault
from editcritic.v1.images import encode_image

__all__ = ["REPAIRS", "Repair", "Workpiece", "carry_out"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]

_STRENGTHS = (0.35, 0.5, 0.7)  # for a part of the mask, one after the other, where the action names none
_GROW_PX = 8  # by which a part reaches beyond the fault
_LOW_STRENGTH, _MEDIUM_STRENGTH = 0.9, 0.45
_GROW_SHARE = 0.08


@dataclass(frozen=True, eq=False)
class Workpiece:
    """What a repair works on.

    source, picture: (H, W, 3) uint8, the photograph and the edit as it is. mask, blend: (H, W) float32 in [0, 1].
    attempt: how often this kind was tried before on this edit. options: sampling options of the run.
    critique: what the critic said of the picture: its map, which phrase is missing, and where; None where it is not
    at hand. wish: the prompt in the user's words, where `prompt` was reworded. rewriter: finds wordings in place of the
    rules.
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
    critique: pb.Critique | None = None
    wish: str = ""
    rewriter: Rewriter | None = None


@dataclass(frozen=True, eq=False)
class Repair:
    """Either a picture, or a candidate to run.

    prompt: what the edit as a whole now answers. reason: one sentence on why this was done in this way, or empty.
    """

    picture: Pixels | None = None
    candidate: Candidate | None = None
    prompt: str = ""
    reason: str = ""


Carry = Callable[[Workpiece, pb.SuggestedAction], Repair | None]


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


def _retouch(change: Callable[[Pixels, Pixels, Array], Pixels]) -> Carry:
    """A repair without diffusion that takes the two pictures and the blend mask alone."""
    return lambda work, _action: Repair(change(work.source, work.picture, work.blend))


def _seeded(change: Callable[[Pixels, Pixels, Array, int], Pixels]) -> Carry:
    """The same, with grain that follows from the seed."""
    return lambda work, _action: Repair(change(work.source, work.picture, work.blend, work.seed))


def _deblock(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    """Blocks dissolved, then the detail that went with them made up for."""
    return _with_detail(work, deblocked(work.source, work.picture, work.blend))


def _deband(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    """Bands smoothed, then the detail between them made up for: few tones hold no grain."""
    return _with_detail(work, debanded(work.source, work.picture, work.blend, work.seed))


def _with_detail(work: Workpiece, smooth: Pixels) -> Repair:
    return Repair(matched_detail(work.source, smooth, work.blend, work.seed))


def _reinpaint_region(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """One part of the edit again from what is there; stronger each time, unless the action names a strength."""
    if not action.HasField("strength") and work.attempt >= len(_STRENGTHS):
        return None
    part = work.mask
    if action.HasField("region"):
        part = _boxed(work.mask, action.region, action.grow_px or _GROW_PX)
    of_face = action.subject == pb.SUBJECT_FACE
    prompt = face_prompt(work.prompt, work.engine, token_counter(work.engine)) if of_face else work.prompt
    return _again(work, part, action.strength or _STRENGTHS[work.attempt], prompt)


def _restore_region(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """A face that was to stay is the source's again; None where none was."""
    picture = restored_face(
        work.source, work.picture, work.blend, work.critique or pb.Critique(), action.region
    )
    return None if picture is None else Repair(picture, prompt=work.prompt)


def _redraw_low_quality(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """The worst parts of the critic's map drawn anew; None when they are all of the edit: that is a reroll's."""
    parts = _parts(work)
    return _again(work, parts.low, action.strength or _LOW_STRENGTH) if parts.is_uneven else None


def _reinpaint_medium_quality(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """The middling parts of the critic's map inpainted again from what is there."""
    parts = _parts(work)
    return _again(work, parts.medium, action.strength or _MEDIUM_STRENGTH) if parts.is_uneven else None


def _reinpaint_by_quality(work: Workpiece, action: pb.SuggestedAction) -> Repair | None:
    """The worst and the middling parts again in one pass, each pixel at its own strength; None where the engine has one
    strength for all."""
    parts = _parts(work)
    strongest = action.strength or _LOW_STRENGTH
    milder = strongest * _MEDIUM_STRENGTH / _LOW_STRENGTH
    strengths = np.maximum(strongest * parts.low, milder * parts.medium)
    if not work.engine.capabilities.strength_map or not parts.is_uneven:
        return None
    options = {**work.options, "strength": None, "strength_map": strengths}
    part = np.maximum(parts.low, parts.medium)
    candidate = work.engine.candidate(work.picture, part, work.prompt, seed=work.seed, **options)
    return Repair(candidate=candidate, prompt=work.prompt)


def _parts(work: Workpiece) -> QualityParts:
    critique = work.critique or pb.Critique()
    return quality_parts(fault_map(critique, work.mask.shape[:2]), work.mask)


def _again(work: Workpiece, part: Array, strength: float, prompt: str | None = None) -> Repair | None:
    """A part of the edit from what is there; None for an empty part, or an engine without strengths.

    prompt: for the part alone; by default that of the edit.
    """
    if not work.engine.capabilities.strength or not (part > 0).any():
        return None
    options = {**work.options, "strength": strength}
    told = work.prompt if prompt is None else prompt
    candidate = work.engine.candidate(work.picture, part, told, seed=work.seed, **options)
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
    """The wish in other words: from the source, or over the part of the edit in which something is missing."""
    able, critique = work.engine.capabilities, work.critique or pb.Critique()
    # An engine of few words was taught whole things, one at a time.
    part = None if work.attempt or able.words else faulty_part(critique, work.mask)
    case = WordingCase(
        work.wish or work.prompt,
        able,
        critique,
        work.attempt,
        part=part is not None,
        negative_prompt=work.options.get("negative_prompt") or "",
        guidance=work.options.get("guidance"),
        count_tokens=token_counter(work.engine),
    )
    wording = (work.rewriter or reworded)(case)
    if wording is None:
        return None
    options = work.options | {"negative_prompt": wording.negative_prompt}
    if wording.guidance is not None:
        options["guidance"] = wording.guidance
    picture, mask = (work.source, work.mask) if part is None else (work.picture, part)
    blend = work.blend if part is None else None
    candidate = work.engine.candidate(
        picture, mask, wording.prompt, seed=work.seed, blend_mask=blend, **options
    )
    prompt = wording.prompt if part is None else work.prompt
    return Repair(candidate=candidate, prompt=prompt, reason=wording.reason)


def _reroll(work: Workpiece, _action: pb.SuggestedAction) -> Repair:
    return _from_source(work, work.prompt)


def _from_source(work: Workpiece, prompt: str) -> Repair:
    """A new answer to the edit itself: passes are never stacked on one another, which ghosts."""
    candidate = work.engine.candidate(
        work.source, work.mask, prompt, seed=work.seed, blend_mask=work.blend, **work.options
    )
    return Repair(candidate=candidate, prompt=prompt)


def _boxed(mask: Array, box: pb.Box, margin: int) -> Array:
    """The mask within a box that is grown by a margin, in pixels."""
    part = np.zeros_like(mask)
    rows = slice(max(0, box.y - margin), box.y + box.height + margin)
    place = (rows, slice(max(0, box.x - margin), box.x + box.width + margin))
    part[place] = mask[place]
    return part


REPAIRS: dict[int, Carry] = {
    pb.ACTION_KIND_RECOMPOSITE: _retouch(recomposited),
    pb.ACTION_KIND_RECOLOUR: _retouch(recoloured),
    pb.ACTION_KIND_RELIGHT: _retouch(relit),
    pb.ACTION_KIND_DEFRINGE: _retouch(defringed),
    pb.ACTION_KIND_BLEND: _retouch(multiband_blended),
    pb.ACTION_KIND_BLEND_GRADIENTS: _retouch(gradient_blended),
    pb.ACTION_KIND_MATCH_DETAIL: _seeded(matched_detail),
    pb.ACTION_KIND_DENOISE: _retouch(denoised),
    pb.ACTION_KIND_DEBLOCK: _deblock,
    pb.ACTION_KIND_DEBAND: _deband,
    pb.ACTION_KIND_UNGHOST: _retouch(unghosted),
    pb.ACTION_KIND_RESTORE_REGION: _restore_region,
    pb.ACTION_KIND_REINPAINT_REGION: _reinpaint_region,
    pb.ACTION_KIND_REDRAW_LOW_QUALITY: _redraw_low_quality,
    pb.ACTION_KIND_REINPAINT_MEDIUM_QUALITY: _reinpaint_medium_quality,
    pb.ACTION_KIND_REINPAINT_BY_QUALITY: _reinpaint_by_quality,
    pb.ACTION_KIND_GROW_MASK: _grow_mask,
    pb.ACTION_KIND_REPROMPT: _reprompt,
    pb.ACTION_KIND_REROLL: _reroll,
}
"""By kind of action: carry it out, or None when it is exhausted or the engine cannot."""
