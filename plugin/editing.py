"""Everything that a face of the loop (command, drop-in, page) needs to start one: request, journal, result."""

from __future__ import annotations

import os
from pathlib import Path

from editcritic.plugin.pictures import Picture, make_edit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput

__all__ = ["default_journal_path", "make_refine_request"]


def default_journal_path() -> Path:
    """``~/.local/share/editcritic/journal.sqlite3``, or below XDG_DATA_HOME."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "editcritic" / "journal.sqlite3"


def make_refine_request(
    source: Picture,
    mask: Picture,
    prompt: str = "",
    *,
    blend_mask: Picture | None = None,
    negative_prompt: str = "",
    edit_id: str = "",
    engine: str = "",
    candidates: int = 0,
    seed: int | None = None,
    steps: int = 0,
    strength: float | None = None,
    guidance: float | None = None,
    quality: float | None = None,
    quality_guidance: float = 0.0,
    critic_guidance: float = 0.0,
    rounds: int | None = None,
    target: float | None = None,
    max_steps: int = 0,
    max_seconds: float = 0.0,
    acceptance: str = "",
    race: str = "",
    price: float | None = None,
    draft: bool | None = None,
) -> refine_pb2.RefineRequest:
    """What is asked of the loop; zeros and None leave its defaults.

    Args:
        quality, quality_guidance, critic_guidance: as in `refine.quality_options.QualityOptions`.
        candidates: first answers. rounds: repairs, 0 to 4. target: overall score at which to stop.
        max_steps: denoising steps in all. max_seconds: time in all.
        acceptance: critic that decides whether repairs are kept; empty: the one that steers the search.
        race: how the best of the candidates is found: margin, halving or plain. price: points of score that a candidate
        must promise for the steps of a whole one. draft: make drafts first; None where they are known to tell.

    Raises:
        InvalidInput: there is no such race.
        ImageError: a file cannot be read, or an array is no picture.
    """
    edit = make_edit(
        source, mask, prompt, blend_mask=blend_mask, negative_prompt=negative_prompt, edit_id=edit_id
    )
    sampling = refine_pb2.SamplingOptions(
        engine=engine,
        candidate_count=candidates,
        seed=seed,
        step_count=steps,
        strength=strength,
        guidance_scale=guidance,
        quality_target=quality,
        quality_guidance=quality_guidance or None,
        critic_guidance=critic_guidance or None,
    )
    budget = refine_pb2.RefineBudget(
        evaluation_count=max_steps,
        time_ms=round(1000 * max_seconds),
        repair_round_count=rounds,
        target_score=target,
    )
    held_out = pb.CritiqueOptions(critic=acceptance) if acceptance else None
    options = refine_pb2.RaceOptions(method=_race_method(race), price=price, draft=draft)
    return refine_pb2.RefineRequest(
        edit=edit, sampling=sampling, budget=budget, acceptance=held_out, race=options
    )


def _race_method(name: str) -> refine_pb2.RaceMethod.ValueType:
    known = {key.removeprefix("RACE_METHOD_").lower(): value for key, value in refine_pb2.RaceMethod.items()}
    if name and name not in list(known)[1:]:
        raise InvalidInput(f"there is no race {name!r}: expected {', '.join(list(known)[1:])}")
    return known[name or "unspecified"]
