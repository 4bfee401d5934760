"""Spans for the steps of the loop, which knows of no traces: a step is the time until its event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from editcritic.v1 import refine_pb2, tracing

__all__ = ["traced_steps"]

_Event = TypeVar("_Event", bound=refine_pb2.RefineResponse)


def traced_steps(events: Iterator[_Event]) -> Iterator[_Event]:
    """The same events; each step has a span, in which the critic's calls of that step lie.

    Args:
        events: of a run.
    """
    if not tracing.is_on():
        yield from events
        return
    run, end = tracing.begin("refine")
    try:
        while True:
            with tracing.span("refine step", within=run) as step:
                event = next(events, None)
                kind = event.WhichOneof("event") if event is not None else None
                if step is not None:
                    step.update_name(f"refine {kind or 'end'}")
            if event is None:
                return
            yield event
    finally:
        end()
