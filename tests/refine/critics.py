"""Critics that tests can reason about: the score is a plain function of the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError
from editcritic.v1.images import decode_image, decode_mask, paste_region

__all__ = ["PlainCritic", "brightness"]

Pixels = NDArray[np.uint8]


def brightness(picture: Pixels, mask: NDArray[np.float32]) -> float:
    """Mean brightness inside the mask, 0 to 100."""
    return float(picture[mask > 0.5].mean() / 2.55)


class PlainCritic:
    """Scores by a function of (picture, mask); names the given defects below `satisfied`.

    seen: candidate_id and fraction (None for a finished one) of everything that was judged, in order.
    """

    def __init__(
        self,
        score: Callable[[Pixels, NDArray[np.float32]], float | None] = brightness,
        *,
        stddev: float = 1.0,
        defects: Sequence[pb.Defect] = (),
        fails_on: Callable[[str], EditCriticError | None] = lambda _name: None,
    ) -> None:
        self.identity = pb.CriticIdentity(
            name="plain", version="1", score_meaning="a function of the picture"
        )
        self._score, self._stddev, self._defects, self._fails_on = score, stddev, defects, fails_on
        self.seen: list[tuple[str, float | None]] = []
        self._edit = pb.Edit()

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[PlainCritic]:
        self._edit = edit
        yield self

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        self.seen.append((candidate.candidate_id, progress.fraction if progress else None))
        if (error := self._fails_on(candidate.candidate_id)) is not None:
            raise error
        region = candidate.region if candidate.HasField("region") else None
        picture = paste_region(decode_image(self._edit.source), decode_image(candidate.image), region)
        value = self._score(picture, decode_mask(self._edit.denoise_mask))
        overall = pb.Score(status=pb.SCORE_STATUS_ABSTAINED, abstention_detail="it is too dark to tell")
        if value is not None:
            overall = pb.Score(status=pb.SCORE_STATUS_SCORED, value=value, stddev=self._stddev)
        return pb.Critique(
            candidate_id=candidate.candidate_id,
            critic=self.identity,
            scores=pb.Scores(overall=overall),
            defects=self._defects,
            progress=progress,
        )
