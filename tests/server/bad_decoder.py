"""A decoder whose image library has every fault that one can have, chosen by the picture's first pixel."""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from typing import Any

from editcritic.server import decoder_worker

ABORT, SEGFAULT, SLEEP, ALLOCATE, RAISE, LIE, FLOOD = range(201, 208)


def decode(kind: int, message: Any, limits: Any) -> Any:
    pixels = decoder_worker.decode(kind, message, limits)
    what = int(pixels.flat[0])
    if what == ABORT:
        os.abort()
    if what == SEGFAULT:
        faulthandler._sigsegv()  # type: ignore[attr-defined]
    while what == SLEEP:
        time.sleep(60)
    hoard = []
    while what == ALLOCATE:
        hoard.append(bytearray(50_000_000))
    if what == RAISE:
        raise KeyError("of a kind that no library documents")
    if what == LIE:
        os.write(0, decoder_worker.ANSWER.pack(1, 2**31, 2**31, 3, 2**62))
    if what == FLOOD:
        os.write(0, decoder_worker.ANSWER.pack(1, 64, 64, 1, 64 * 64) + bytes(64 * 64))
    return pixels


if __name__ == "__main__":
    decoder_worker.main(sys.argv[1:], decode)
