"""A candidate of a run that can be made again: killed runs are resumed, and dropped candidates taken up again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from editcritic.refine.engine import Candidate, Engine
from editcritic.v1.errors import EditCriticError

__all__ = ["Lane"]


@dataclass
class Lane:
    """One candidate of the race, and how it was moved.

    It is made when something is left to do: a resumed run often needs no engine. It then takes the same moves again,
    because in company a step may round differently from a step alone.

    Attributes:
        engine, seed: of the candidate. make: prepares it. total: steps that it takes. large_steps: how many of them are
            gone large, at its beginning.
        previews: scores, by share of the steps. draft, final: score of its draft and its end.
        is_over: nothing more is to be done. moves: shares that it was moved to, and whether in company.
        done: moves that `made`, the candidate, has taken.
    """

    engine: Engine
    seed: int
    make: Callable[[], Candidate]
    total: int
    large_steps: int = 0
    previews: dict[float, float] = field(default_factory=dict)
    draft: float | None = None
    final: float | None = None
    is_over: bool = False
    moves: list[tuple[float, bool]] = field(default_factory=list)
    done: int = 0
    made: Candidate | None = None

    def __call__(self) -> Candidate:
        """The candidate, after all of its moves."""
        return self.after(len(self.moves))

    def after(self, count: int) -> Candidate:
        """The candidate, after so many of its moves."""
        self.made = self.made or self.make()
        for share, in_company in self.moves[self.done : count]:
            if in_company:
                self.engine.advance([self.made], share)
            else:
                self.made.advance(share)
            self.done += 1
        return self.made

    def is_ready(self) -> bool:
        """Whether it could be brought to its newest move; one that was not raises when it is next used."""
        with suppress(EditCriticError):
            self.after(len(self.moves) - 1)
            return True
        return False

    def begin_anew(self, make: Callable[[], Candidate], total: int, large_steps: int = 0) -> None:
        """Forget the moves, and make another candidate of so many steps, some of them large."""
        self.drop()
        self.make, self.total, self.large_steps, self.is_over = make, total, large_steps, False
        self.moves.clear()
        self.done = 0

    def drop(self) -> None:
        """Give the candidate up; it can be made again."""
        self.is_over = True
        if self.made is not None:
            self.made.drop()
            self.made, self.done = None, 0
