"""Work beside Krita's thread: blocking calls in threads, and long doings on Krita's own thread in small steps."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any, Callable, Generator

from .qt import QtCore, Signal
from .stopwatch import timed, timing

__all__ = ["Background", "Steps"]

Steps = Generator[int, None, Any]
"""A doing on Krita's thread: every `yield` hands the thread back, for as many milliseconds as it says at least."""


class Background(QtCore.QObject):
    """Runs what must not hold Krita's thread."""

    _posted = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._posted.connect(self._call)

    def post(self, function: Callable[[], Any]) -> None:
        """Have a function run on Krita's thread soon. Safe from any thread."""
        with suppress(RuntimeError):  # Krita is closing and the widgets are gone
            self._posted.emit(function)

    def run(
        self, work: Callable[[], Any], on_done: Callable[[Any], Any], on_error: Callable[[Exception], Any]
    ) -> None:
        """Run `work` in a thread of its own, then one of the others, with what came of it, on Krita's thread."""

        def in_thread() -> None:
            try:
                result = work()
            except Exception as error:  # told to the user by on_error
                failure = error
                self.post(lambda: on_error(failure))
            else:
                self.post(lambda: on_done(result))

        threading.Thread(target=in_thread, daemon=True, name="editcritic").start()

    def steps(
        self, steps: Steps, on_done: Callable[[Any], Any], on_error: Callable[[Exception], Any]
    ) -> None:
        """Run a doing on Krita's thread, step by step, with Krita's own work in between."""

        def step() -> None:
            try:
                with timing(getattr(steps, "__qualname__", "steps")):
                    wait_ms = next(steps)
            except StopIteration as end:
                on_done(end.value)
            except Exception as error:  # told to the user by on_error
                on_error(error)
            else:
                QtCore.QTimer.singleShot(wait_ms, step)

        QtCore.QTimer.singleShot(0, step)

    @timed
    def _call(self, function: Callable[[], Any]) -> None:
        function()
