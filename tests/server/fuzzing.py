"""A small coverage-guided fuzzer for what strangers send: pictures, masks, requests and streams.

``make fuzz COUNT=100000`` runs it. Inputs that reach new lines of the code that reads them are mutated further, and
the small ones are kept in ``corpus``. The image library's own C code is not instrumented. While new lines are reached,
every input is watched; once they become rare, every eighth is, because watching takes twice the time of running.

A run fails on what a target calls a crash, on an input that takes too long, and on memory that grows. An input that
ends the process is found in the file that the first line of the output names.
"""

from __future__ import annotations

import argparse
import faulthandler
import mmap
import random
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from tests.server.fuzz_inputs import SEEDS, mutated
from tests.server.fuzz_targets import TARGETS, WATCHED

__all__ = ["CORPUS", "Broken", "Fuzzer", "is_flat", "last_input"]

CORPUS = Path(__file__).with_name("corpus")
_KEPT_BYTES = 2048
_KEPT_FILES = 120
_CALM = 2000
_SAMPLED = 8
_INPUT_CPU_S = 5.0
_HANG_S = 120.0
_HANG_EVERY = 256
_LAST_BYTES = 1 << 20
_REPORTS = 20
_FLAT = 1.05


class Broken(AssertionError):
    """A target broke on `data`."""

    def __init__(self, name: str, data: bytes) -> None:
        super().__init__(f"{name} broke on {data.hex()}")
        self.name, self.data = name, data


class Fuzzer:
    """Mutates inputs of one target, and keeps those that reach something new.

    Args:
        name: of the target. seed: of the random numbers. note: told every input before it is run.
    """

    def __init__(self, name: str, seed: int, note: Callable[[bytes], None] = lambda _data: None) -> None:
        self.name, self.run, self._note = name, TARGETS[name], note
        self.random = random.Random(f"{name}{seed}")
        self.reached: set[tuple[str, int, int]] = set()
        self.found: list[bytes] = []
        self.calm = 0
        self.pool = [*SEEDS[name], *(file.read_bytes() for file in sorted(CORPUS.glob(f"{name}-*")))]
        for data in self.pool:
            self._watched(data)

    def step(self) -> None:
        """One input. Raises: Broken."""
        data = mutated(self.random, self.random.choice(self.pool), self.pool)[:_LAST_BYTES]
        self._note(data)
        self.calm += 1
        if self.calm > _CALM and self.calm % _SAMPLED:
            self._run(data)
        elif self._watched(data):
            self.calm = 0
            self.pool.append(data)
            self.found.append(data)

    def _watched(self, data: bytes) -> bool:
        """Whether it reaches something new."""
        before, last = len(self.reached), 0

        def line(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            self.reached.add((frame.f_code.co_filename, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        sys.settrace(lambda frame, _event, _argument: line if frame.f_code.co_filename in WATCHED else None)
        try:
            self._run(data)
        finally:
            sys.settrace(None)
        return len(self.reached) > before

    def _run(self, data: bytes) -> None:
        began = time.process_time()
        try:
            self.run(data)
            taken = time.process_time() - began
            assert taken < _INPUT_CPU_S, f"took {taken:.1f} s"
        except Exception as error:
            raise Broken(self.name, data) from error


class _LastInput:
    """A file that has the input which runs, also after the process was ended by it."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="last-input-", delete=False) as file:
            file.truncate(4 + _LAST_BYTES)
            self.path, self._bytes = file.name, mmap.mmap(file.fileno(), 4 + _LAST_BYTES)

    def note(self, data: bytes) -> None:
        self._bytes[: 4 + len(data)] = struct.pack(">I", len(data)) + data


def last_input(content: bytes) -> bytes:
    """The input in the content of such a file."""
    return content[4 : 4 + struct.unpack_from(">I", content)[0]]


def _keep(fuzzer: Fuzzer) -> int:
    kept = len(list(CORPUS.glob(f"{fuzzer.name}-*")))
    small = sorted((data for data in fuzzer.found if len(data) <= _KEPT_BYTES), key=len)[
        : max(0, _KEPT_FILES // 4 - kept)
    ]
    for data in small:
        _write(fuzzer.name, data)
    return len(small)


def _write(name: str, data: bytes) -> None:
    (CORPUS / f"{name}-{zlib.crc32(data):08x}").write_bytes(data)


def _resident_bytes() -> int:
    return int(psutil.Process().memory_info().rss)


def is_flat(early: int, late: int) -> bool:
    """Whether resident memory at the end is within 5 % of that after a tenth of the inputs."""
    return late <= _FLAT * early


def main() -> None:
    """Run the number of inputs, shared among the targets, or until the seconds are over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    CORPUS.mkdir(exist_ok=True)
    last = _LastInput()
    print(f"seed {arguments.seed}; the last input is in {last.path}", flush=True)
    fuzzers = [Fuzzer(name, arguments.seed, last.note) for name in TARGETS]
    try:
        ran, early = _fuzz(fuzzers, arguments.count, arguments.seconds)
    except Broken as broken:
        _write(broken.name, broken.data)
        raise
    faulthandler.cancel_dump_traceback_later()
    for fuzzer in fuzzers:
        print(f"{fuzzer.name}: {len(fuzzer.reached)} steps of code reached, {_keep(fuzzer)} inputs kept")
    late = _resident_bytes()
    print(
        f"{ran:,} inputs, no crash, no hang; memory {early >> 10:,} KiB at 10 %, {late >> 10:,} KiB at the end"
    )
    if not is_flat(early, late):
        raise SystemExit("memory grew by more than 5 %")
    Path(last.path).unlink()


def _fuzz(fuzzers: list[Fuzzer], count: int, seconds: float) -> tuple[int, int]:
    """How many inputs were run, and the resident bytes after a tenth of them."""
    began, ran, early = time.monotonic(), 0, _resident_bytes()
    while ran < count and time.monotonic() - began < seconds:
        if ran % _HANG_EVERY == 0:
            # Of the process and not of Python's own clockwork: it also ends code that never comes back to Python.
            faulthandler.dump_traceback_later(_HANG_S, exit=True)
        fuzzers[ran % len(fuzzers)].step()
        ran += 1
        if ran == count // 10:
            early = _resident_bytes()
        if ran % max(1, count // _REPORTS) == 0:
            _report(fuzzers, ran, count, time.monotonic() - began)
    return ran, early


def _report(fuzzers: list[Fuzzer], ran: int, count: int, seconds: float) -> None:
    found = ", ".join(f"{each.name} {len(each.reached)} steps" for each in fuzzers)
    print(f"{ran:,} of {count:,} in {seconds:.0f} s; {found}; {_resident_bytes() >> 10:,} KiB", flush=True)


if __name__ == "__main__":
    main()
