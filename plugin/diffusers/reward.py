"""The critic as a reward: for trainers that ask for numbers for a batch of pictures and prompts.

::

    reward = CriticReward(Client("localhost:50551"))
    rewards, details = reward(images, prompts, metadata)     # DDPO, flow-GRPO: metadata holds "source" and "mask"
    trainer = GRPOTrainer(reward_funcs=[reward.of_completions], ...)   # TRL: columns "source" and "mask"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.client import Client
from editcritic.plugin.pictures import make_candidate, make_edit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput

__all__ = ["CriticReward", "Reward", "RewardMissing"]

_DIMENSIONS = tuple(field.name for field in pb.Scores.DESCRIPTOR.fields)


@dataclass(frozen=True)
class Reward:
    """One picture's.

    value: in [0, 1], or None when there is none. critique: where it comes from, when it was judged.
    reason: why there is no value; empty when there is.
    """

    value: float | None
    critique: pb.Critique | None = None
    reason: str = ""


class RewardMissing(EditCriticError):
    """Some pictures of a batch have no reward. `rewards` holds all of the batch, in order."""

    def __init__(self, rewards: Sequence[Reward]) -> None:
        missing = [f"{i}: {each.reason}" for i, each in enumerate(rewards) if each.value is None]
        super().__init__(
            f"{len(missing)} of {len(rewards)} pictures have no reward ({'; '.join(missing[:3])}). Leave them out of "
            "the update: missing='nan' marks them in the answer instead"
        )
        self.rewards = list(rewards)


class CriticReward:
    """Rewards by a critic server, in the forms that trainers take.

    Args:
        client: connected to the server, which batches what is asked at once.
        critic: name; by default the server's first.
        dimension: the number that counts: overall, visual_quality, prompt_alignment, naturalness, harmony or
            preservation.
        at_once: pictures that are under way together.
        missing: what `__call__` does when a picture cannot be judged or the critic abstains. "raise": RewardMissing;
            "nan": NaN in its place. Never a number: one in the middle would teach the generator to be unjudgeable.
    """

    def __init__(
        self,
        client: Client,
        critic: str = "",
        *,
        dimension: str = "overall",
        at_once: int = 16,
        missing: str = "raise",
    ) -> None:
        if dimension not in _DIMENSIONS:
            raise InvalidInput(f"dimension {dimension!r}: expected one of {', '.join(_DIMENSIONS)}")
        if missing not in ("raise", "nan") or at_once < 1:
            raise InvalidInput(
                f"missing {missing!r}, at_once {at_once}: expected raise or nan, and at least 1"
            )
        self._client, self._critic, self._dimension = client, critic, dimension
        self._at_once, self._missing = at_once, missing

    def rewards(
        self, images: Any, prompts: Sequence[str], sources: Sequence[Any], masks: Sequence[Any]
    ) -> list[Reward]:
        """A reward, or the reason why there is none, for each picture in order.

        Args:
            images: a tensor (N, 3, H, W) in [0, 1], an array (N, H, W, 3) uint8, or N pictures of any kind.
            prompts, sources, masks: what each was asked for; a source or mask is anything that `make_edit` takes.

        Raises:
            InvalidInput: the numbers of pictures, prompts, sources and masks differ.
        """
        pictures = _pictures(images)
        if not len(pictures) == len(prompts) == len(sources) == len(masks):
            raise InvalidInput(
                f"{len(pictures)} images, {len(prompts)} prompts, {len(sources)} sources and {len(masks)} masks: "
                "expected as many of each"
            )
        with ThreadPoolExecutor(min(self._at_once, len(pictures) or 1)) as pool:
            return list(pool.map(self._reward, pictures, prompts, sources, masks))

    def __call__(
        self, images: Any, prompts: Sequence[str], metadata: Sequence[Mapping[str, Any]]
    ) -> tuple[NDArray[np.float32], dict[str, list[Any]]]:
        """The form of DDPO and flow-GRPO: (N,) float32 in [0, 1], and what else is known of each picture.

        Args:
            metadata: for each picture a mapping with "source" and "mask".

        Raises:
            RewardMissing: as `missing` says. InvalidInput: a source or mask is not there.
        """
        sources, masks = ([_entry(each, name) for each in metadata] for name in ("source", "mask"))
        found = self.rewards(images, prompts, sources, masks)
        if self._missing == "raise" and any(each.value is None for each in found):
            raise RewardMissing(found)
        values = np.array([np.nan if each.value is None else each.value for each in found], np.float32)
        explained = [each.critique.explanation if each.critique else "" for each in found]
        return values, {"reason": [each.reason for each in found], "explanation": explained}

    def of_completions(
        self,
        prompts: Sequence[str],
        completions: Any,
        source: Sequence[Any],
        mask: Sequence[Any],
        **_others: Any,
    ) -> list[float | None]:
        """The form of TRL's reward functions, where None says that there is no reward; source and mask are columns."""
        return [each.value for each in self.rewards(completions, prompts, source, mask)]

    def _reward(self, picture: Any, prompt: str, source: Any, mask: Any) -> Reward:
        try:
            critique = self._client.critique(
                make_edit(source, mask, prompt), make_candidate(picture), critic=self._critic, bulk=True
            )
        except EditCriticError as error:
            return Reward(None, None, str(error))
        score = getattr(critique.scores, self._dimension)
        if score.status != pb.SCORE_STATUS_SCORED:
            return Reward(None, critique, f"the critic abstained: {score.abstention_detail or 'no score'}")
        return Reward(score.value / 100, critique)


def _pictures(images: Any) -> list[Any]:
    """One entry for each picture, of any kind that `make_candidate` takes."""
    if hasattr(images, "detach"):
        # Trainers hold batches as (N, 3, H, W) in [0, 1], often in half precision.
        images = (
            images.detach().float().cpu().clamp(0, 1).mul(255).round().movedim(1, -1).numpy().astype(np.uint8)
        )
    return list(images)


def _entry(metadata: Mapping[str, Any], name: str) -> Any:
    if name not in metadata:
        raise InvalidInput(f"metadata without {name!r}: expected 'source' and 'mask' for each picture")
    return metadata[name]
