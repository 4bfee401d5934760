"""Whether a critic keeps to what every critic promises: a check for critics of your own, before a server has them.

::

    assert check_critic(MyCritic()) == []
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

import numpy as np

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.critics.scoring import scores_are_sound
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["check_critic"]

_SIDE = 128
_ABSOLUTE = 1e-4  # scores of the same candidate, whatever else is in its batch


def check_critic(critic: Critic) -> list[str]:
    """Judge small edits with it, and say in what it breaks a critic's promises.

    Returns:
        One sentence for each broken promise; none when all are kept. Whether its scores mean anything is not looked at:
        `editcritic eval` measures that.
    """
    return [told for check in (_identity, _judging, _cancelling, _previews) for told in check(critic)]


def _identity(critic: Critic) -> Iterator[str]:
    identity = critic.info.identity
    for name in ("name", "version", "score_meaning"):
        if not getattr(identity, name):
            yield f"info.identity.{name} is empty"
    if not critic.info.dimensions:
        yield "info.dimensions is empty: say what it judges"


def _judging(critic: Critic) -> Iterator[str]:
    tasks = _tasks(critic)
    if isinstance(tasks, str):
        yield tasks
        return
    together = _asked(critic, tasks)
    alone = [_asked(critic, [task]) for task in tasks]
    for number, task in enumerate(tasks):
        name = task.candidate.candidate_id
        if isinstance(together, str) or isinstance(alone[number], str):
            yield together if isinstance(together, str) else str(alone[number])
            return
        yield from _sound(critic, name, together[number])
        if not _alike(together[number], alone[number][0]):  # type: ignore[arg-type]
            yield f"the candidate {name!r} has other scores alone than in a batch"


def _sound(critic: Critic, name: str, outcome: Outcome) -> Iterator[str]:
    if isinstance(outcome, EditCriticError):
        yield f"the candidate {name!r} failed: {outcome.message}"
        return
    if not scores_are_sound(outcome.scores):
        yield (
            f"the scores of {name!r} are unsound: each is SCORED with a value in 0 to 100 and a stddev, or ABSTAINED"
            " without any; overall is always there"
        )
    if outcome.critic != critic.info.identity:
        yield f"the critique of {name!r} does not name the critic as info.identity does"


def _cancelling(critic: Critic) -> Iterator[str]:
    tasks = _tasks(critic)
    outcomes = tasks if isinstance(tasks, str) else _asked(critic, tasks, is_cancelled=True)
    if isinstance(outcomes, str):
        yield f"cancelled: {outcomes}"


def _previews(critic: Critic) -> Iterator[str]:
    if not critic.info.judges_previews:
        return
    tasks = _tasks(critic, pb.DenoisingProgress(fraction=0.3))
    outcomes = tasks if isinstance(tasks, str) else _asked(critic, tasks)
    if isinstance(outcomes, str):
        yield f"previews: {outcomes}"
        return
    yield from (f"previews: {told}" for outcome in outcomes for told in _sound(critic, "preview", outcome))


def _tasks(critic: Critic, progress: pb.DenoisingProgress | None = None) -> list[CritiqueTask] | str:
    """Two edits with candidates of each, all arrays read-only; or what `prepare` did."""
    tasks, names = [], count(1)
    for edit in (_edit(48, 80, "a red ball"), _edit(0, 40, "")):
        try:
            prepared = critic.prepare(edit)
        except Exception as error:
            return f"prepare raised {type(error).__name__}: {error}"
        for picture in (edit.source, np.where(edit.denoise_mask[..., None] > 0, np.uint8(40), edit.source)):
            picture.setflags(write=False)
            candidate = DecodedCandidate(f"c{next(names)}", picture, progress=progress)
            tasks.append(CritiqueTask(edit, prepared, candidate, pb.CritiqueOptions(heat_map=True)))
    return tasks


def _edit(start: int, stop: int, prompt: str) -> DecodedEdit:
    noise = np.random.default_rng(start).normal(0, 6, (_SIDE, _SIDE, 3))
    source = np.clip(np.linspace(60, 190, _SIDE)[None, :, None] + noise, 0, 255).astype(np.uint8)
    mask = np.zeros((_SIDE, _SIDE), np.float32)
    mask[start:stop, start:stop] = 1.0
    for array in (source, mask):
        array.setflags(write=False)
    return DecodedEdit(f"edit-{start}", source, mask, prompt=prompt)


def _asked(
    critic: Critic, tasks: Sequence[CritiqueTask], *, is_cancelled: bool = False
) -> list[Outcome] | str:
    """One outcome for each task; or what was wrong with the call as a whole."""
    try:
        outcomes = critic.critique(tasks, lambda: is_cancelled)
    except Exception as error:
        return f"critique raised {type(error).__name__}: {error}; an error is the outcome of its own task"
    if len(outcomes) != len(tasks):
        return f"critique gave {len(outcomes)} outcomes for {len(tasks)} tasks"
    odd = next((each for each in outcomes if not isinstance(each, pb.Critique | EditCriticError)), None)
    return (
        outcomes
        if odd is None
        else f"an outcome is a {type(odd).__name__}: expected Critique or EditCriticError"
    )


def _alike(one: Outcome, other: Outcome) -> bool:
    if not isinstance(one, pb.Critique) or not isinstance(other, pb.Critique):
        return type(one) is type(other)
    for field in one.scores.DESCRIPTOR.fields:
        a, b = getattr(one.scores, field.name), getattr(other.scores, field.name)
        if a.status != b.status or abs(a.value - b.value) > _ABSOLUTE:
            return False
    return True
