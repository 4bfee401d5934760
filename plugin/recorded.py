"""An engine whose candidates are kept in a folder: what was denoised once is read the next time, and its time told.

Judging anew what an engine once produced, with another critic say, then takes no denoising; a run that was killed
goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.engine import Candidate, Engine, Preview
from editcritic.refine.race import RaceOptions
from editcritic.refine.solvers import step_places
from editcritic.refine.suspended import State
from editcritic.v1.errors import InvalidInput

__all__ = ["RecordedEngine"]

_RUNGS = RaceOptions().rungs
_Takes = dict[str, NDArray[Any]]


class RecordedEngine:
    """Stands in for an engine, for measurements: candidates stop only at the rungs of the race and at the end.

    A candidate with large steps stops after those instead.

    Args:
        engine: produces what is not there yet. folder: where it is kept; made when it does not exist.

    Attributes:
        seconds: what the engine took, or had taken when it was recorded, for all that was asked of it until now.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._engine, self._folder = engine, folder
        self.capabilities = engine.capabilities
        self.seconds = 0.0

    def candidate(
        self, source: NDArray[np.uint8], mask: NDArray[Any], prompt: str, *, seed: int, **options: Any
    ) -> Any:
        """Prepare one answer; see `Engine.candidate`."""
        made = self._engine.candidate(source, mask, prompt, seed=seed, **options)
        key = _key(self.capabilities.name, source, mask, prompt, seed, options)
        rungs = _RUNGS
        if large := int(options.get("large_steps") or 0):
            steps = int(options.get("steps") or self.capabilities.default_steps)
            rungs = (large / len(step_places(steps, large)),)
        return _RecordedCandidate(self, made, self._folder / f"{key}.npz", rungs)

    def advance(self, candidates: Sequence[Candidate], to_fraction: float) -> None:
        """Advance several; those that are not there yet are made together."""
        own = [each for each in candidates if isinstance(each, _RecordedCandidate)]
        for rungs in {each.rungs for each in own}:
            self.record([each for each in own if each.takes is None and each.rungs == rungs], rungs)
        for each in own:
            each.advance(to_fraction)

    def record(self, candidates: Sequence[_RecordedCandidate], rungs: Sequence[float]) -> None:
        """Read what is kept, make the rest, and keep it."""
        for each in candidates:
            each.takes = _read(each.path)
        missing = [each for each in candidates if each.takes is None]
        inner, seconds = [each.inner for each in missing], 0.0
        takes: list[_Takes] = [{} for _ in missing]
        for number, share in enumerate((*rungs, 1.0)):
            began = time.perf_counter()
            if len(inner) > 1:
                self._engine.advance(inner, share)
            pictures = [_look(each, share, in_full=rungs != _RUNGS) for each in inner]
            seconds += (time.perf_counter() - began) / max(1, len(inner))
            for taken, (picture, place) in zip(takes, pictures, strict=True):
                taken[f"picture{number}"], taken[f"place{number}"] = picture, place
                taken[f"seconds{number}"] = np.array(seconds)
        for each, taken in zip(missing, takes, strict=True):
            each.takes = {**taken, "shares": np.array((*rungs, 1.0))}
            _write(each.path, each.takes)


class _RecordedCandidate:
    """One answer that was finished before, told as if it were running now."""

    def __init__(self, engine: RecordedEngine, inner: Any, path: Path, rungs: tuple[float, ...]) -> None:
        self.inner, self.path, self.rungs = inner, path, rungs
        self.seed, self.notes = inner.seed, inner.notes
        self.denoise_mask, self.blend_mask = inner.denoise_mask, inner.blend_mask
        self.takes: _Takes | None = None
        self._engine, self._at = engine, -1

    @property
    def state(self) -> State:
        """See `Candidate.state`."""
        return "new" if self._at < 0 else "done" if self.fraction >= 1 else "waiting"

    @property
    def fraction(self) -> float:
        """See `Candidate.fraction`."""
        return float(self._of("place")[4]) if self._at >= 0 else 0.0

    @property
    def evaluations(self) -> int:
        """See `Candidate.evaluations`."""
        return int(self._of("place")[5]) if self._at >= 0 else 0

    def advance(self, to_fraction: float) -> None:
        """Stand at that share of the steps. Raises: InvalidInput for one that was not recorded."""
        if self.takes is None:
            self._engine.record([self], self.rungs if to_fraction < 1 else ())
        shares = [round(float(each), 4) for each in self.takes["shares"]] if self.takes else []
        if round(to_fraction, 4) not in shares:
            raise InvalidInput(f"{to_fraction:g} of the steps was not recorded; recorded are {shares}")
        before = self._of("seconds") if self._at >= 0 else 0.0
        self._at = max(self._at, shares.index(round(to_fraction, 4)))
        self._engine.seconds += float(self._of("seconds") - before)

    def preview(self, in_full: bool = False) -> Preview:
        """See `Candidate.preview`; those of large steps were decoded in full, the others as the engine does."""
        del in_full
        place = self._of("place")
        left, top, right, bottom = (int(each) for each in place[:4])
        return Preview(self._of("picture"), (left, top, right, bottom), self.fraction)

    def result(self) -> NDArray[np.uint8]:
        """See `Candidate.result`."""
        self.advance(1.0)
        found: NDArray[np.uint8] = self._of("picture")
        return found

    def drop(self) -> None:
        """Give up; what was recorded stays."""
        self.inner.drop()

    def _of(self, name: str) -> NDArray[Any]:
        assert self.takes is not None  # noqa: S101 - narrows the type
        return self.takes[f"{name}{self._at}"]


def _look(candidate: Any, share: float, in_full: bool) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """What a candidate shows at a share of its steps, and where it stands: box, fraction, evaluations."""
    if share >= 1:
        picture = candidate.result()
        return picture, np.array([0, 0, picture.shape[1], picture.shape[0], 1.0, candidate.evaluations])
    candidate.advance(share)
    seen = candidate.preview(in_full=in_full)
    return seen.picture, np.array([*seen.region, seen.fraction, candidate.evaluations])


def _key(
    name: str, source: NDArray[Any], mask: NDArray[Any], prompt: str, seed: int, options: dict[str, Any]
) -> str:
    """The same for the same answer."""
    digest = hashlib.sha256()
    told: dict[str, Any] = {"engine": name, "prompt": prompt, "seed": seed}
    for key, value in {"source": source, "mask": mask, **options}.items():
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
            told[key] = [str(value.dtype), value.shape]
        elif value:
            told[key] = value
    digest.update(json.dumps(told, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:32]


def _read(path: Path) -> _Takes | None:
    if not path.exists():
        return None
    with np.load(path) as kept:
        return dict(kept)


def _write(path: Path, takes: _Takes) -> None:
    """All of it or nothing, should the process end half-way."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **takes)
    part.replace(path)
