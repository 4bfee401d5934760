"""A critic without weights or mathematics, which runs the whole stack in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.server.critics.maps import heat_map
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import Cancelled, InvalidInput

__all__ = ["DummyCritic"]

STDDEV = 1.0
_SCORED = ("naturalness", "harmony", "preservation", "visual_quality", "overall")


class DummyCritic:
    """Scores the mean brightness inside the mask: 0 for black, 100 for white. It means nothing.

    Args:
        service: milliseconds that a batch takes, "4" or "4+1": for the batch, and for each candidate in it. The time
            is slept, so that what a benchmark measures is the server. A critic that takes any gains by batches.

    Raises:
        InvalidInput: it is neither.
    """

    def __init__(self, service: str = "") -> None:
        try:
            times = [float(each) / 1000 for each in service.split("+")] if service else [0.0]
            self._batch_s, self._each_s = (*times, 0.0)[:2]
        except ValueError as error:
            raise InvalidInput(
                f"the dummy's times are milliseconds as in 4+1, not {service[:64]!r}"
            ) from error
        if len(times) > 2 or min(times) < 0:
            raise InvalidInput(f"the dummy's times are milliseconds as in 4+1, not {service[:64]!r}")

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version and what it claims to judge."""
        return pb.CriticInfo(
            identity=pb.CriticIdentity(
                name="dummy", version="1", score_meaning="Mean brightness inside the mask, in percent."
            ),
            description="Judges nothing. It is there to try clients and servers with.",
            dimensions=[pb.DIMENSION_NATURALNESS, pb.DIMENSION_HARMONY, pb.DIMENSION_PRESERVATION],
            judges_previews=True,
            device="cpu",
            batch_count=16 if self._batch_s else 0,
        )

    def prepare(self, edit: DecodedEdit) -> None:
        """Nothing is worth preparing."""

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """The mean brightness of each candidate's inside as every score."""
        if self._batch_s or self._each_s:
            time.sleep(self._batch_s + self._each_s * len(tasks))
        return [Cancelled("nobody waits any more") if is_cancelled() else self._judge(task) for task in tasks]

    def _judge(self, task: CritiqueTask) -> pb.Critique:
        image, inside = task.candidate.image, task.edit.denoise_mask > 0.5
        value = float(image[inside].mean()) / 2.55 if inside.any() else 0.0
        score = pb.Score(value=min(value, 100.0), stddev=STDDEV, status=pb.SCORE_STATUS_SCORED)
        scores = pb.Scores(**dict.fromkeys(_SCORED, score))
        scores.prompt_alignment.status = pb.SCORE_STATUS_ABSTAINED
        scores.prompt_alignment.abstention_reason = pb.ABSTENTION_REASON_NOT_JUDGED
        scores.prompt_alignment.abstention_detail = "the dummy critic does not read prompts"
        critique = pb.Critique(
            critic=self.info.identity,
            scores=scores,
            explanation=f"the inside has a mean brightness of {value:.0f} %",
        )
        if task.options.heat_map:
            height, width = inside.shape
            region = pb.Box(width=width, height=height)
            darkness = np.where(inside, 1.0 - image.mean(axis=2) / 255.0, 0.0)
            critique.heat_maps.append(heat_map(pb.DEFECT_KIND_UNSPECIFIED, darkness, region, task.options))
        return critique
