"""What a run was asked for, checked and with every default filled in."""

from __future__ import annotations

import secrets
import uuid

import numpy as np

from editcritic.refine.masks import check_mask, feathered
from editcritic.refine.race import Method, RaceOptions
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_image, decode_mask_at, encode_mask

__all__ = ["completed_request", "race_options"]

_DEFAULT_CANDIDATES, _DEFAULT_ROUNDS, _DEFAULT_TARGET = 4, 2, 80.0
_MAX_CANDIDATES, _MAX_ROUNDS, _MAX_STEPS = 64, 4, 1000
_AUDITED_SHARE = 0.05  # runs in which nobody is dropped; else the table of previews would only see survivors
_METHODS: dict[refine_pb2.RaceMethod.ValueType, Method] = {
    refine_pb2.RACE_METHOD_MARGIN: "margin",
    refine_pb2.RACE_METHOD_HALVING: "halving",
    refine_pb2.RACE_METHOD_PLAIN: "plain",
}


def completed_request(request: refine_pb2.RefineRequest) -> refine_pb2.RefineRequest:
    """A copy with its defaults filled in: edit_id, seed, counts, target, and the blend mask when there is none.

    Raises: InvalidInput and ImageError for what cannot be carried out.
    """
    if not request.HasField("edit"):
        raise InvalidInput("the request has no edit.", reason=pb.ERROR_REASON_FIELD_MISSING, field="edit")
    full = refine_pb2.RefineRequest()
    full.CopyFrom(request)
    full.edit.edit_id = request.edit.edit_id or uuid.uuid4().hex[:12]
    _complete_sampling(full.sampling)
    _complete_budget(full.budget)
    _complete_race(full.race, full.sampling.seed)
    _complete_masks(full.edit)
    return full


def race_options(race: refine_pb2.RaceOptions) -> RaceOptions:
    """The options of a completed request as the race takes them."""
    draft = race.draft if race.HasField("draft") else None
    return RaceOptions(_METHODS[race.method], race.price, is_audit=race.audit, draft=draft)


def _complete_sampling(sampling: refine_pb2.SamplingOptions) -> None:
    sampling.candidate_count = sampling.candidate_count or _DEFAULT_CANDIDATES
    _check("sampling.candidate_count", sampling.candidate_count, 1, _MAX_CANDIDATES)
    _check("sampling.step_count", sampling.step_count, 0, _MAX_STEPS)
    if not sampling.HasField("seed"):
        sampling.seed = secrets.randbelow(2**31)
    _check("sampling.seed", sampling.seed, 0, 2**62)


def _complete_budget(budget: refine_pb2.RefineBudget) -> None:
    if not budget.HasField("repair_round_count"):
        budget.repair_round_count = _DEFAULT_ROUNDS
    if not budget.HasField("target_score"):
        budget.target_score = _DEFAULT_TARGET
    _check("budget.repair_round_count", budget.repair_round_count, 0, _MAX_ROUNDS)
    _check("budget.target_score", budget.target_score, 0, 100)
    _check("budget.evaluation_count", budget.evaluation_count, 0, 2**62)
    _check("budget.time_ms", budget.time_ms, 0, 2**62)


def _complete_race(race: refine_pb2.RaceOptions, seed: int) -> None:
    race.method = race.method or refine_pb2.RACE_METHOD_MARGIN
    if race.method not in _METHODS:
        raise InvalidInput(
            f"race.method is {race.method}; expected one of {', '.join(_METHODS.values())}.",
            reason=pb.ERROR_REASON_FIELD_INVALID,
            field="race.method",
        )
    if not race.HasField("price"):
        race.price = RaceOptions().price
    _check("race.price", race.price, 1e-3, 100)
    if not race.HasField("audit"):
        race.audit = bool(np.random.default_rng((seed, 20)).random() < _AUDITED_SHARE)


def _complete_masks(edit: pb.Edit) -> None:
    """Both masks at the source's size. Critic and engine must agree on how far the edit may reach."""
    size = decode_image(edit.source).shape[:2]
    mask = check_mask(decode_mask_at(edit.denoise_mask, size), size)
    edit.denoise_mask.CopyFrom(encode_mask(mask))
    blend = decode_mask_at(edit.blend_mask, size) if edit.HasField("blend_mask") else feathered(mask)
    edit.blend_mask.CopyFrom(encode_mask(check_mask(blend, size, "blend_mask")))


def _check(field: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidInput(
            f"{field} is {value}; expected {low} to {high}.",
            reason=pb.ERROR_REASON_FIELD_INVALID,
            field=field,
        )
