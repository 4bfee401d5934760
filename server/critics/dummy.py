"""A critic without weights or mathematics, which runs the whole stack in milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome
from editcritic.v1 import critic_pb2 as pb

__all__ = ["DummyCritic"]

_DIMENSIONS = ("naturalness", "harmony", "preservation", "visual_quality", "overall")


class DummyCritic:
    """Scores the mean brightness inside the mask: 0 for black, 100 for white. It means nothing."""

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
        )

    def prepare(self, edit: DecodedEdit) -> None:
        """Nothing is to be prepared."""

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """The mean brightness of each candidate's inside as every score."""
        return [self._critique(task) for task in tasks]

    def _critique(self, task: CritiqueTask) -> pb.Critique:
        inside = task.candidate.image[task.edit.denoise_mask > 0.5]
        value = float(np.mean(inside)) / 2.55
        score = pb.Score(value=value, stddev=1.0, status=pb.SCORE_STATUS_SCORED)
        scores = pb.Scores(**{name: score for name in _DIMENSIONS})
        scores.prompt_alignment.status = pb.SCORE_STATUS_ABSTAINED
        scores.prompt_alignment.abstention_reason = pb.ABSTENTION_REASON_NOT_JUDGED
        scores.prompt_alignment.abstention_detail = "the dummy critic does not read prompts"
        return pb.Critique(
            critic=self.info.identity,
            scores=scores,
            explanation=f"the inside has a mean brightness of {value:.0f} %",
        )
