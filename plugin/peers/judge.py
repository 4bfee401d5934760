"""The critic behind every peer, and the pictures as peers send them: whole ones in every request, as files or arrays.

The answer is the same everywhere: the scores by name, or what went wrong.
"""

from __future__ import annotations

import argparse
import base64
import functools
import hashlib
import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["PICTURES", "Judge", "Settings", "pictures_of_json", "scores_of", "settings"]

PICTURES = ("source", "mask", "candidate")
"""Names of the pictures of a request."""
_MOST_TOGETHER = 16

Pictures = Mapping[str, NDArray[np.uint8]]


class Settings(NamedTuple):
    """What a peer is told: the critic's full name, the port to listen on, and how many may judge at a time."""

    critic: str
    port: int
    workers: int


def settings() -> Settings:
    """From the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--critic", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    return Settings(**vars(parser.parse_args()))


class Judge:
    """A critic that takes pictures and gives scores. Safe to use from threads.

    An edit is prepared once while the same one comes again, as by our own server; so all of them do the same work.

    Args:
        critic: its full name in the registry.
    """

    def __init__(self, critic: str) -> None:
        self._critic = load_critic(critic)
        self._guard = threading.Lock()
        self._known: tuple[bytes, DecodedEdit, Any] | None = None

    @property
    def batch_count(self) -> int:
        """How many to hand it together."""
        return min(_MOST_TOGETHER, max(1, self._critic.info.batch_count))

    def scores(self, requests: Sequence[Pictures]) -> list[dict[str, float]]:
        """The scores of each, by name.

        Args:
            requests: by `PICTURES`; (H, W, 3) uint8, the mask (H, W) uint8 with 255 where the engine was free.

        Raises:
            EditCriticError: one of them cannot be judged.
        """
        outcomes = self._critic.critique([self._task(each) for each in requests], _never)
        for each in outcomes:
            if isinstance(each, EditCriticError):
                raise each
        return [scores_of(each) for each in outcomes if isinstance(each, pb.Critique)]

    def _task(self, pictures: Pictures) -> CritiqueTask:
        edit, prepared = self._edit(pictures["source"], pictures["mask"])
        if pictures["candidate"].shape != edit.source.shape:
            raise ValueError(f"the candidate has the shape {pictures['candidate'].shape}")
        return CritiqueTask(edit, prepared, DecodedCandidate("", pictures["candidate"]))

    def _edit(self, source: NDArray[np.uint8], mask: NDArray[np.uint8]) -> tuple[DecodedEdit, Any]:
        digest = hashlib.sha256(source.tobytes() + mask.tobytes()).digest()
        with self._guard:
            if self._known is None or self._known[0] != digest:
                edit = DecodedEdit("", source, mask.astype(np.float32) / np.float32(255))
                self._known = digest, edit, self._critic.prepare(edit)
            return self._known[1:]


def scores_of(critique: pb.Critique) -> dict[str, float]:
    """The values of those scores that are no abstentions, by name, in [0, 100]."""
    told = critique.scores.ListFields()
    return {field.name: each.value for field, each in told if each.status == pb.SCORE_STATUS_SCORED}


def pictures_of_json(body: Mapping[str, str]) -> dict[str, NDArray[np.uint8]]:
    """Pixels of base64 files by `PICTURES`, those of an edit decoded once while the same one comes again.

    Raises:
        KeyError: one is missing.
        OSError, ValueError: and whatever else Pillow raises for a broken file.
    """
    source, mask = _kept_pixels(body["source"], "RGB"), _kept_pixels(body["mask"], "L")
    return {"source": source, "mask": mask, "candidate": _pixels(body["candidate"], "RGB")}


@functools.lru_cache(maxsize=4)
def _kept_pixels(text: str, mode: str) -> NDArray[np.uint8]:
    return _pixels(text, mode)


def _pixels(text: str, mode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as opened:
        return np.asarray(opened.convert(mode))


def _never() -> bool:
    return False
