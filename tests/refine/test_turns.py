"""Runs on one device take turns."""

from __future__ import annotations

import itertools
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.loop import Refinement
from editcritic.refine.turns import Turns
from tests.refine.conftest import engine_of
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import request_for


def test_whoever_waits_longest_comes_next() -> None:
    turns, order = Turns(), []

    def work(name: str) -> None:
        for _ in range(20):
            with turns:
                order.append(name)
                time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    with turns:
        for thread in threads:
            thread.start()
        time.sleep(0.05)  # both are waiting now
    for thread in threads:
        thread.join(10)
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
