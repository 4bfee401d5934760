"""A critic's own process with every fault that one can have, chosen by the brightness in the middle of a candidate.

Its full name is `dummy@FOLDER`; what it notes, and what it is told before it starts, are files of that folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import sys
import time
from pathlib import Path
from typing import Any

DIE, DIE_ONCE, HANG, HANG_ONCE, HOLD_INTERPRETER, HOARD, RAISE, REFUSE, SLOW, LIE = range(201, 211)
TELL = 220
HOARDED_BYTES = 256 * 2**20


def at_the_start(folder: Path) -> None:
    """Notes the start, and obeys the files that say how it is to go."""
    with (folder / "starts").open("a") as file:
        file.write(f"{os.getpid()}\n")
    if (folder / "die").exists():
        print("no such kernel image", file=sys.stderr, flush=True)
        os._exit(7)
    if (folder / "hoard").exists():
        misbehave(HOARD, folder)
    if (folder / "refuse").exists():
        from editcritic.v1.errors import InvalidInput

        raise InvalidInput("the folder holds no weights")


def first_time(folder: Path, what: str) -> bool:
    try:
        (folder / what).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def misbehave(what: int, folder: Path) -> None:
    if what == DIE or (what == DIE_ONCE and first_time(folder, "died")):
        os.kill(os.getpid(), signal.SIGKILL)
    while what == HANG or (what == HANG_ONCE and first_time(folder, "hung")):
        time.sleep(60)
    if what == HOLD_INTERPRETER:
        (folder / "holding").touch()
        # Backtracks for years, and holds the interpreter's lock as it does.
        re.match(r"(a+)+$", "a" * 64 + "b")
    if what == HOARD:
        # Seconds in which it holds the memory, so that whoever watches sees it.
        hoard = b"x" * HOARDED_BYTES
        time.sleep(20 + len(hoard) * 0)
    if what == RAISE:
        raise KeyError("of a kind that no library documents")
    if what == LIE:
        for file in map(int, os.listdir("/proc/self/fd")):
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.fstat(file).st_mode):
                    os.write(file, b"HTTP/1.1 200 OK\r\n\r\n")
        time.sleep(20)
    if what == SLOW:
        (folder / "working").touch()
        time.sleep(0.5)


def about_me() -> str:
    """Where this process's libraries are from, and what it was told."""
    import numpy

    try:
        import transformers

        version = str(transformers.__version__)
    except ImportError:
        version = ""
    return json.dumps({"variables": dict(os.environ), "numpy": numpy.__file__, "transformers": version})


def load(spec: str) -> Any:
    from editcritic.server.critics.dummy import DummyCritic
    from editcritic.v1.errors import InvalidInput

    folder = Path(spec.partition("@")[2])

    class OddCritic(DummyCritic):
        @property
        def info(self) -> Any:
            info = super().info
            info.batch_count = 16
            return info

        def _judge(self, task: Any) -> Any:
            height, width = task.candidate.image.shape[:2]
            what = int(task.candidate.image[height // 2, width // 2, 0])
            misbehave(what, folder)
            if what == REFUSE:
                raise InvalidInput("this one is not to my liking", field="image")
            critique = super()._judge(task)
            if what == TELL:
                critique.explanation = about_me()
            return critique

    at_the_start(folder)
    return OddCritic()


def start(argument: str) -> None:
    import importlib.util

    told = json.loads(argument)
    script = Path(told["folders"]["editcritic.server"]) / "executors" / "bootstrap.py"
    found = importlib.util.spec_from_file_location("bootstrap", script)
    assert found is not None
    assert found.loader is not None
    bootstrap = importlib.util.module_from_spec(found)
    found.loader.exec_module(bootstrap)
    bootstrap.lend(told["folders"])
    from editcritic.server.executors.worker import main

    main(told["spec"], told["threads"], told["lifeline"], load)


if __name__ == "__main__":
    del sys.path[0]
    start(sys.argv[1])
