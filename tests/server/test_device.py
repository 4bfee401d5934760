"""One arbiter for each device: judging, preparing and refining share its time."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from concurrent.futures import Future

import pytest

from editcritic.server.device import Device, Devices, Flow, Place


class Clock:
    """Seconds that the test lets pass."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def worked_off(device: Device, clock: Clock, seconds: dict[Flow, float], count: int) -> list[Flow]:
    """Who had the only place, in order, while every flow always waits; `seconds` is what each does with it."""
    waiting: dict[Flow, Future[Place]] = {flow: device.request(flow) for flow in seconds}
    order: list[Flow] = []
    for _ in range(count):
        flow = next(flow for flow, asked in waiting.items() if asked.done())
        order.append(flow)
        place = waiting[flow].result()
        waiting[flow] = device.request(flow)
        clock.now += seconds[flow]
        place.leave()
    return order


def test_a_flow_of_long_turns_gets_no_more_time_than_one_of_short_turns() -> None:
    clock = Clock()
    order = worked_off(Device(1, clock), clock, {"refine": 1.0, "judge": 0.1}, 220)
    turns = Counter(order)
    assert turns["judge"] == pytest.approx(10 * turns["refine"], rel=0.1)


def test_places_are_granted_up_to_their_number_and_then_in_order() -> None:
    device = Device(2)
    first, second, third, fourth = (device.request("judge") for _ in range(4))
    assert [each.done() for each in (first, second, third, fourth)] == [True, True, False, False]
    assert device.is_wanted
    assert not device.is_free
    third.cancel()
    second.result().leave()
    assert fourth.done()
    assert not device.is_wanted
    for each in (first, fourth):
        each.result().leave()
    assert device.is_free


async def test_a_wait_that_is_cancelled_costs_no_place() -> None:
    device = Device(1)
    held = await device.enter("judge")
    waiting = asyncio.create_task(device.enter("judge"))
    await asyncio.sleep(0)
    # Granted and given up in one turn of the loop: the place must come back all the same.
    held.leave()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert device.is_free


def test_threads_of_an_engine_and_the_server_share_one_device() -> None:
    devices = Devices(cpu_places=1)
    turns, device = devices.refining("cpu"), devices.device("cpu")
    inside = threading.Event()

    def refine() -> None:
        with turns:
            inside.set()

    held = device.request("judge").result(5)
    engine = threading.Thread(target=refine)
    engine.start()
    assert not inside.wait(0.05)
    held.leave()
    assert inside.wait(5)
    engine.join(5)
    assert device.is_free


def test_a_device_has_one_arbiter_whatever_it_is_called() -> None:
    devices = Devices(cpu_places=3)
    assert devices.device("cuda") is devices.device("cuda:0")
    assert devices.device("cuda:1") is not devices.device("cuda:0")
    assert (devices.device("cpu").places, devices.device("cuda").places) == (3, 1)
