"""A critic and an engine that count the time spent in them, so that what the loop itself takes can be told."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from editcritic.refine.critic import Critic, EditJudge
from editcritic.refine.engine import Candidate, Engine
from editcritic.v1 import critic_pb2 as pb

__all__ = ["Stopwatch", "TimedCritic", "TimedEngine"]


class Stopwatch:
    """Seconds spent within its blocks."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count what the block takes."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began


class TimedCritic:
    """A critic whose openings and judgements are counted apart: starting a server is not part of an edit."""

    def __init__(self, critic: Critic) -> None:
        self._critic, self.opening, self.judging = critic, Stopwatch(), Stopwatch()

    @contextmanager
    def open(self, edit: pb.Edit) -> Iterator[EditJudge]:
        """Open an edit; see `Critic.open`."""
        opened = self._critic.open(edit)
        with self.opening.running():
            judge = opened.__enter__()
        try:
            yield _TimedJudge(judge, self.judging)
        finally:
            with self.opening.running():
                opened.__exit__(None, None, None)


class _TimedJudge:
    def __init__(self, judge: EditJudge, watch: Stopwatch) -> None:
        self._judge, self._watch, self.identity = judge, watch, judge.identity

    def critique(self, candidate: pb.Candidate, progress: pb.DenoisingProgress | None = None) -> pb.Critique:
        with self._watch.running():
            return self._judge.critique(candidate, progress)


class TimedEngine:
    """An engine whose candidates' work is counted: preparation, denoising, previews, decoding, compositing."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.watch = engine, Stopwatch()
        self.capabilities = engine.capabilities

    def candidate(self, *arguments: Any, **options: Any) -> Any:
        """Prepare one answer; see `Engine.candidate`."""
        with self.watch.running():
            return _TimedCandidate(self._engine.candidate(*arguments, **options), self.watch)

    def advance(self, candidates: Sequence[Candidate], to_fraction: float) -> None:
        """Advance several; see `Engine.advance`."""
        with self.watch.running():
            inner = [each.inner if isinstance(each, _TimedCandidate) else each for each in candidates]
            self._engine.advance(inner, to_fraction)


class _TimedCandidate:
    def __init__(self, inner: Candidate, watch: Stopwatch) -> None:
        self.inner, self._watch = inner, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in ("advance", "preview", "result", "drop"):
            return found

        def timed(*arguments: Any, **options: Any) -> Any:
            with self._watch.running():
                return found(*arguments, **options)

        return timed
