"""One forward pass for several suspended calls: rows of equal shape that wait at the denoiser are run together.

A small denoiser on a CPU is bound by reading its weights, not by its rows: sixteen rows cost little more than two.
Large ones at a megapixel should be bound by arithmetic, and gain little. Whether it pays is the engine's to say.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Gate", "Ticket", "current_call"]

# Positions of tokens, without a batch axis.
_SHARED = frozenset({"img_ids", "txt_ids"})

current_call = threading.local()
"""Its attribute `waits` is set in a suspended call's thread: takes a ticket, and comes back when it was answered."""


@dataclass(eq=False)
class Ticket:
    """One call of the denoiser that waits. answer: what it returned; error: what it raised."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    answer: Any = None
    error: BaseException | None = None

    @property
    def rows(self) -> int:
        """Size of its batch."""
        first = self.args[0] if self.args else next(iter(self.kwargs.values()))
        return len(first)


class Gate(nn.Module):
    """Stands in for a denoiser and is called like it.

    Args:
        denoiser: the module itself. places: calls in one pass of several.
    """

    def __init__(self, denoiser: nn.Module, places: int) -> None:
        super().__init__()
        self.denoiser, self.places = denoiser, places

    def __getattr__(self, name: str) -> Any:
        """Whatever else a pipeline asks of its denoiser: config, dtype, device."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("denoiser"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for company in the thread of a suspended call; anywhere else, run at once."""
        wait = getattr(current_call, "waits", None)
        if wait is None:
            return self.denoiser(*args, **kwargs)
        ticket = Ticket(args, kwargs)
        wait(ticket)
        if ticket.error is not None:
            raise ticket.error
        return ticket.answer

    def answer(self, tickets: Sequence[Ticket], together: bool) -> None:
        """Run the tickets; sets `answer` or `error` of each.

        together: in full passes, filled up with copies where places are left, so that a candidate's bits depend on
        whether it ran in company and never on whose. Otherwise one by one.
        """
        left, size = list(tickets), self.places if together else 1
        while left:
            party = [ticket for ticket in left if _fit(left[0], ticket)][:size]
            left = [ticket for ticket in left if ticket not in party]
            try:
                self._run(party, size)
            except BaseException as error:  # raised again in the thread of each call
                for ticket in party:
                    ticket.error = error

    @torch.no_grad()
    def _run(self, party: Sequence[Ticket], size: int) -> None:
        filled = [*party, *[party[0]] * (size - len(party))]
        args = _joined([ticket.args for ticket in filled], party[0].rows)
        kwargs = _joined([ticket.kwargs for ticket in filled], party[0].rows)
        answer, start = self.denoiser(*args, **kwargs), 0
        for ticket in party:
            ticket.answer = _part(answer, start, start + ticket.rows)
            start += ticket.rows


def _joined(values: Sequence[Any], rows: int, name: str = "") -> Any:
    """Values of all calls as one: what has a batch axis is put end to end, what is shared is taken once."""
    first = values[0]
    if isinstance(first, Tensor):
        has_batch = first.ndim > 0 and len(first) == rows and name not in _SHARED
        return torch.cat(list(values)) if has_batch else first
    if isinstance(first, dict):
        return {key: _joined([value[key] for value in values], rows, key) for key in first}
    if isinstance(first, tuple):
        return tuple(_joined(part, rows, name) for part in zip(*values, strict=True))
    if isinstance(first, list):
        return [each for value in values for each in value] if len(first) == rows else first
    return first


def _part(answer: Any, start: int, stop: int) -> Any:
    """One call's rows of an answer."""
    if isinstance(answer, Tensor | list):
        return answer[start:stop]
    if isinstance(answer, dict):  # also the output classes of diffusers
        return type(answer)(**{key: _part(value, start, stop) for key, value in answer.items()})
    if isinstance(answer, tuple):
        return tuple(_part(value, start, stop) for value in answer)
    return answer


def _fit(first: Ticket, second: Ticket) -> bool:
    """Whether two calls differ in nothing but the contents of their rows."""
    if first is second:
        return True
    rows = first.rows
    return rows == second.rows and _alike([first.args, first.kwargs], [second.args, second.kwargs], rows)


def _alike(first: Any, second: Any, rows: int, name: str = "") -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, Tensor):
        if first.shape != second.shape or first.dtype != second.dtype:
            return False
        has_batch = first.ndim > 0 and len(first) == rows and name not in _SHARED
        return has_batch or torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(
            _alike(first[key], second[key], rows, key) for key in first
        )
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(
            _alike(*pair, rows, name) for pair in zip(first, second, strict=True)
        )
    return bool(first == second)
