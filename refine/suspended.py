"""A pipeline call that can wait: it runs in a thread of its own and stops inside `callback_on_step_end` when told to.

Rows of a running batch cannot be pruned on most pipelines (they keep a batched mask in a local variable), so a
candidate is a whole call that is suspended, resumed or abandoned. Only one call runs at a time: `advance` holds the
engine's lock until the call has stopped again. A call that paused gives the same bits (measured on diffusers 0.42).
`advance_together` moves several of them in turns, so that a `gathering.Gate` can run their denoiser in one pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from editcritic.refine.gathering import Gate, Ticket, current_call
from editcritic.refine.turns import Turns
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, InvalidInput, Overloaded, ServerFault

__all__ = ["State", "SuspendedCall", "advance_together"]

State = Literal["new", "running", "waiting", "done", "dropped", "failed"]
Change = Callable[[int, int, Any], Any]

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "defaultcpuallocator")


class _Abandoned(BaseException):
    """Raised inside a callback to leave a pipeline call at once; no pipeline catches it."""


def _told(error: BaseException) -> EditCriticError:
    """The error of a pipeline as one of ours."""
    if isinstance(error, EditCriticError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in _OUT_OF_MEMORY):
        return Overloaded(
            "the device ran out of memory while denoising; try a smaller engine, dtype float16 or bfloat16, "
            "offload='model', or fewer things running beside it",
            reason=pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY,
        )
    return ServerFault(
        f"the pipeline failed: {type(error).__name__}: {text}", reason=pb.ERROR_REASON_INTERNAL
    )


class SuspendedCall:
    """One call of a private pipeline copy.

    Args:
        pipeline: a copy that nobody else calls; its modules may be shared, its scheduler may not.
        arguments: keyword arguments of the call; the callback is added here.
        lock: held while the call runs, so that an engine has one runner at a time, in the order of asking; between
            steps it lets others have the device.
        gate: stands in for the denoiser of all calls of the engine; None where the denoiser is called directly.
        change: of (steps done, steps in all, latents), after every step: the latents to go on with. They are what
            pipelines hand to a callback that asks for nothing else.
    """

    def __init__(
        self,
        pipeline: Any,
        arguments: Mapping[str, Any],
        lock: Turns,
        gate: Gate | None = None,
        change: Change | None = None,
    ) -> None:
        self._pipeline, self._arguments, self._lock = pipeline, dict(arguments), lock
        self._gate, self._change = gate, change
        self._ticket: Ticket | None = None
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._target, self._abandon = 0.0, False
        self._thread: threading.Thread | None = None
        self._output: Any = None
        self._error: BaseException | None = None
        self.state: State = "new"
        self.steps_done, self.steps_in_all = 0, 0

    @property
    def fraction(self) -> float:
        """Share of the executed steps that are done, in [0, 1]."""
        return self.steps_done / self.steps_in_all if self.steps_in_all else 0.0

    def advance(self, fraction: float) -> None:
        """Run until at least `fraction` of the steps are done, then wait. At 1.0 it waits before decoding.

        Raises: InvalidInput for a fraction outside (0, 1] or a call that was dropped; what the pipeline
        raised, as our errors.
        """
        if self._needs(fraction):
            self._run(fraction)

    def _needs(self, fraction: float) -> bool:
        if not 0 < fraction <= 1:
            raise InvalidInput(f"advance to {fraction}: expected a share of the steps above 0 and at most 1")
        self._refuse_if_over()
        return self.state != "done" and (self.state == "new" or self.fraction < fraction - 1e-9)

    def finish(self) -> Any:
        """Run to the end and hand back the pipeline's output. Raises: as `advance`."""
        self._refuse_if_over()
        if self.state != "done":
            self._run(float("inf"))
        return self._output

    def drop(self) -> None:
        """Leave the call for good: no further step, no decode. A finished or failed call stays as it is."""
        if self.state not in ("new", "waiting"):
            return
        if self._thread is not None:
            with self._lock:
                self._abandon = True
                self._go.release()
                self._thread.join()
                # The pipeline could not do it itself: with offloading, modules would stay on the device.
                self._pipeline.maybe_free_model_hooks()
        self.state = "dropped"
        self._pipeline = self._output = self._change = None
        self._arguments.clear()

    def let_go(self) -> None:
        """Let a waiting thread end by itself. Takes no lock, so that a garbage collector may call it anywhere."""
        self._abandon = True
        self._go.release()

    def _refuse_if_over(self) -> None:
        if self.state == "dropped":
            raise InvalidInput(
                "this candidate was dropped; start a new one with the same seed to see it finished"
            )
        if self.state == "failed" and self._error is not None:
            raise _told(self._error) from self._error

    def _run(self, target: float) -> None:
        with self._lock:
            _take_turns([self], target, together=False)
        self._refuse_if_over()

    def _go_on(self, target: float) -> None:
        """Run until it stops: at the gate, after a step, or for good."""
        self._target, self.state = target, "running"
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, daemon=True, name="candidate")
            self._thread.start()
        else:
            self._go.release()
        self._stopped.acquire()

    def _wait_at_gate(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._stopped.release()
        self._go.acquire()
        if self._abandon:
            raise _Abandoned

    def _work(self) -> None:
        current_call.waits = self._wait_at_gate if self._gate is not None else None
        try:
            self._output = self._pipeline(**self._arguments, callback_on_step_end=self._after_step)
            self.state = "done"
        except _Abandoned:
            pass
        except BaseException as error:  # handed to the caller's thread by _refuse_if_over
            self._error, self.state = error, "failed"
        finally:
            self._stopped.release()

    def _after_step(
        self, pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]
    ) -> dict[str, Any]:
        self.steps_done, self.steps_in_all = index + 1, pipeline.num_timesteps
        if self._change is not None:
            tensors["latents"] = self._change(self.steps_done, self.steps_in_all, tensors["latents"])
        if self.fraction >= self._target - 1e-9:
            self.state = "waiting"
            self._stopped.release()
            self._go.acquire()
        else:
            self._lock.give_way()
        if self._abandon:
            raise _Abandoned
        return tensors


def advance_together(calls: Sequence[SuspendedCall], fraction: float) -> None:
    """Advance several calls of one engine at once. One that fails does not disturb the others: it raises when it is
    next used.

    Raises: InvalidInput for a fraction outside (0, 1].
    """
    moving = [call for call in calls if call.state not in ("dropped", "failed") and call._needs(fraction)]
    if moving:
        with moving[0]._lock:
            _take_turns(moving, fraction, together=True)


def _take_turns(calls: Sequence[SuspendedCall], target: float, *, together: bool) -> None:
    """Each runs in its turn up to the gate, then the gate answers all, until every call has stopped."""
    moving = list(calls)
    while moving:
        for call in moving:
            call._go_on(target)
        moving = [call for call in moving if call._ticket is not None]
        if moving:
            _answer(moving, together)


def _answer(calls: Sequence[SuspendedCall], together: bool) -> None:
    gate = calls[0]._gate
    if gate is not None:
        gate.answer([call._ticket for call in calls if call._ticket is not None], together)
    for call in calls:
        call._ticket = None
