"""Asking a critic about arrays, and what its answer says as numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.base import Critic, CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["Asked", "hidden_source", "score_names"]

score_names = ("naturalness", "harmony", "preservation", "visual_quality", "prompt_alignment", "overall")


@dataclass(frozen=True, eq=False)
class Asked:
    """One edit, prepared; `scores(image)` and `critique(image)` judge candidates of it."""

    critic: Critic
    edit: DecodedEdit
    prepared: Any

    @classmethod
    def about(
        cls, critic: Critic, source: NDArray[np.uint8], mask: NDArray[np.float32], prompt: str = ""
    ) -> Asked:
        """Open an edit: source (H, W, 3) uint8, mask (H, W) float32 in [0, 1]."""
        edit = DecodedEdit("evaluation", source, mask, prompt=prompt)
        return cls(critic, edit, critic.prepare(edit))

    def critique(
        self, image: NDArray[np.uint8], *, heat_map: bool = False, progress: float | None = None
    ) -> pb.Critique:
        """The critique of a candidate (H, W, 3) uint8; raises what the critic answered when it is an error."""
        told = None if progress is None else pb.DenoisingProgress(fraction=progress)
        candidate = DecodedCandidate("candidate", image, progress=told)
        options = pb.CritiqueOptions(heat_map=heat_map, max_defect_count=64)
        outcome = self.critic.critique(
            [CritiqueTask(self.edit, self.prepared, candidate, options)], lambda: False
        )[0]
        if isinstance(outcome, EditCriticError):
            raise outcome
        return outcome

    def scores(self, image: NDArray[np.uint8], *, progress: float | None = None) -> dict[str, float | None]:
        """Values of all scores; None where the critic abstained."""
        scores = self.critique(image, progress=progress).scores
        found = {name: getattr(scores, name) for name in score_names}
        return {
            name: score.value if score.status == pb.SCORE_STATUS_SCORED else None
            for name, score in found.items()
        }


def hidden_source(image: NDArray[np.uint8], mask: NDArray[np.float32], level: int = 128) -> NDArray[np.uint8]:
    """The picture with its inside under grey: the critic learns nothing of what stood there."""
    return np.where((mask > 0)[..., None], np.uint8(level), image).astype(np.uint8)
