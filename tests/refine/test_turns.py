"""Runs on one device take turns."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.loop import Refinement
from editcritic.refine.turns import Turns
from tests.refine.conftest import engine_of
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import request_for


def wait_until(is_so: Callable[[], bool]) -> None:
    """For a minute at most, so that a lock that is broken fails the test and does not hang it."""
    end = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < end, "the state was not reached"
        time.sleep(0.001)


def test_whoever_waits_longest_comes_next() -> None:
    turns, order = Turns(), []

    def work(name: str, other: str) -> None:
        for _ in range(20):
            with turns:
                order.append(name)
                # Nobody lets go before the other one has asked again.
                wait_until(lambda: len(turns._waiting) == 1 or order.count(other) == 20)

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in ("ab", "ba")]
    with turns:
        for thread in threads:
            thread.start()
        wait_until(lambda: len(turns._waiting) == 2)
    for thread in threads:
        thread.join(120)
    assert sorted(order) == ["a"] * 20 + ["b"] * 20
    assert all(first != second for first, second in itertools.pairwise(order)), "".join(order)


def test_an_error_inside_lets_the_next_one_in() -> None:
    turns = Turns()
    try:
        with turns:
            raise ValueError
    except ValueError:
        pass
    entered = []
    waiting = threading.Thread(target=lambda: entered.append(turns.__enter__()), daemon=True)
    waiting.start()
    waiting.join(5)
    assert entered, "the lock was never let go of"


def test_two_runs_on_one_engine_share_it_step_by_step(photo: NDArray[np.uint8]) -> None:
    engine, order = engine_of("sd-inpaint"), []
    began = threading.Barrier(2)

    def refine(seed: int) -> None:
        request = request_for(f"run-{seed}", seed=seed, count=3, repair_round_count=0)
        began.wait(10)
        events = Refinement(engine, PlainCritic(), request).run()
        order.extend(seed for event in events if event.HasField("preview"))

    threads: list[Any] = [threading.Thread(target=refine, args=(seed,)) for seed in (10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert order.count(10) == order.count(20) > 6
    half = order[: len(order) // 2]
    assert min(half.count(10), half.count(20)) >= 3, f"one run waited for the other: {order}"


class WatchedDevice:
    """A device that others want all the time; counts who holds it."""

    is_wanted = True

    def __init__(self) -> None:
        self.entered, self.holders = 0, 0

    def __enter__(self) -> None:
        self.entered, self.holders = self.entered + 1, self.holders + 1

    def __exit__(self, *_raised: object) -> None:
        self.holders -= 1


def test_a_shared_device_is_held_while_an_engine_computes_and_let_go_between_steps(
    photo: NDArray[np.uint8], hole: NDArray[np.float32]
) -> None:
    device = WatchedDevice()
    engine, alone = engine_of("sd-inpaint", shared=device), engine_of("sd-inpaint")
    pictures = []
    for each in (engine, alone):
        candidate = each.candidate(photo, hole, "", seed=3)
        candidate.advance(0.5)
        assert device.holders == 0
        pictures.append(candidate.result())
    # Two calls of advance and result, and three steps of four after which it may go on.
    assert device.entered >= 4
    assert device.holders == 0
    np.testing.assert_array_equal(*pictures)


def test_a_device_that_nobody_else_wants_is_kept() -> None:
    device = WatchedDevice()
    device.is_wanted = False
    turns = Turns(device)
    with turns:
        turns.give_way()
        assert (device.entered, device.holders) == (1, 1)
        device.is_wanted = True
        turns.give_way()
        assert (device.entered, device.holders) == (2, 1)
    assert device.holders == 0


def test_a_device_that_cannot_be_had_leaves_the_turn_to_the_next() -> None:
    class Broken(WatchedDevice):
        def __enter__(self) -> None:
            raise RuntimeError("gone")

    turns = Turns(Broken())
    for _ in range(2):
        with pytest.raises(RuntimeError), turns:
            pass
