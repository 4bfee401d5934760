"""Critics in processes of their own: the same answers, and none of their faults is another critic's or the server's."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import google.protobuf
import grpc.aio
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from editcritic.server.critic_hosting import CriticHosting
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.device import Devices
from editcritic.server.executors import frames, supervisor, worker_command
from editcritic.server.executors.process import ProcessExecutor
from editcritic.server.executors.worker_command import WorkerCommand, worker_environment
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import (
    DeadlineExceeded,
    InvalidInput,
    Overloaded,
    ServerFault,
    ServerUnavailable,
)
from tests.server import odd_worker
from tests.server.speaking import Stream, refusal

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="critics have processes of their own on POSIX only"
)
ODD = Path(odd_worker.__file__)
LEVEL = 102
states = health_pb2.HealthCheckResponse


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """From now on processes have the odd critic; the folder that it knows."""
    monkeypatch.setattr(worker_command, "WORKER_SCRIPT", ODD)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE_S", 0.01)
    return tmp_path


@asynccontextmanager
async def running(folder: Path, **hosting: Any) -> AsyncIterator[ProcessExecutor]:
    command = WorkerCommand("dummy", f"dummy@{folder}", CriticHosting("process", **hosting), threads=2)
    executor = ProcessExecutor(command, Devices(2), budget_s=20)
    await executor.start()
    try:
        yield executor
    finally:
        await executor.close()


@pytest.fixture
def task(source: NDArray[np.uint8], mask: NDArray[np.float32]) -> Callable[..., Any]:
    """``await task(executor, level)``: a candidate of one brightness, its edit prepared."""
    edit = DecodedEdit("e", source, mask, prompt="a red ball")

    async def make(executor: ProcessExecutor, level: int = LEVEL) -> CritiqueTask:
        picture = np.where(mask[..., None] > 0.5, np.uint8(level), source)
        return CritiqueTask(edit, await executor.prepare(edit), DecodedCandidate("c", picture))

    return make


def overall(outcome: Outcome) -> float:
    assert isinstance(outcome, pb.Critique), outcome
    return float(outcome.scores.overall.value)


def nobody_left() -> bool:
    return False


def starts(folder: Path) -> list[int]:
    """Process ids of all that were started."""
    return [int(line) for line in (folder / "starts").read_text().split()]


async def wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        await asyncio.sleep(0.01)
    pytest.fail("the state was not reached")


def is_gone(process_id: int) -> bool:
    try:
        return psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def health(server: Any, critic: str = "") -> int:
    service = f"editcritic.v1.CriticService/{critic}" if critic else ""
    async with grpc.aio.insecure_channel(server.address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        return int((await check(health_pb2.HealthCheckRequest(service=service))).status)


# ---- the same answers


@pytest.mark.parametrize("critic", ["dummy", "evidence", "network"])
async def test_a_process_gives_the_very_numbers_of_the_server(
    serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate], critic: str
) -> None:
    crop = make_candidate("crop", 180)
    options = pb.CritiqueOptions(heat_map=True)
    progress = pb.DenoisingProgress(fraction=0.8)
    answers = []
    for hosting in ((), (f"{critic}?isolation=process",)):
        async with serving(critics=(critic,), hosting=hosting) as (_, stub):
            finished = pb.CritiqueRequest(edit=edit, candidate=crop, options=options)
            preview = pb.CritiqueRequest(edit=edit, candidate=crop, progress=progress)
            answers.append([(await stub.Critique(each)).critique for each in (finished, preview)])
    for here, there in zip(*answers, strict=True):
        assert (here.critic, here.candidate_id) == (there.critic, there.candidate_id)
        for (name, mine), (same, theirs) in zip(
            here.scores.ListFields(), there.scores.ListFields(), strict=True
        ):
            assert (name, mine.status) == (same, theirs.status)
            assert mine.value == pytest.approx(theirs.value, abs=1e-4)
            assert mine.stddev == pytest.approx(theirs.stddev, abs=1e-4)
        assert [each.kind for each in here.defects] == [each.kind for each in there.defects]
        assert len(here.heat_maps) == len(there.heat_maps)
        assert there.timings.critique_ms > 0


async def test_an_item_keeps_its_own_error(odd: Path, task: Callable[..., Any]) -> None:
    async with running(odd) as executor:
        levels = (LEVEL, odd_worker.REFUSE, odd_worker.RAISE, LEVEL)
        tasks = [await task(executor, level) for level in levels]
        first, refused, raised, last = await executor.critique(tasks, nobody_left)
        assert overall(first) == overall(last) == pytest.approx(40)
        assert isinstance(refused, InvalidInput)
        assert (refused.message, refused.field) == ("this one is not to my liking", "image")
        assert isinstance(raised, ServerFault)
        assert raised.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert "documents" not in raised.message, "an incident is told, and no text of the exception"
        assert len(starts(odd)) == 1, "none of this ends a process"


async def test_a_process_forgets_the_edits_that_the_server_let_go(
    odd: Path, task: Callable[..., Any], source: NDArray[np.uint8]
) -> None:
    async with running(odd) as executor:
        kept, dropped = await task(executor), await task(executor)
        assert kept.prepared.nbytes >= source.nbytes
        assert len(executor._supervisor.worker.edits) == 2  # type: ignore[union-attr]
        del dropped
        await wait_until(lambda: len(executor._supervisor.worker.edits) == 1)  # type: ignore[union-attr]
        assert overall((await executor.critique([kept], nobody_left))[0]) == pytest.approx(40)


# ---- processes that end


async def test_no_candidate_is_lost_with_a_process_that_is_killed_in_the_middle_of_a_batch(
    serving: Any, odd: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    critics, hosting = (f"dummy@{odd}", "evidence"), ("dummy?isolation=process",)
    async with serving(critics=critics, hosting=hosting, metrics_port=0) as (server, stub):
        stream, other = Stream(stub.CritiqueStream()), Stream(stub.CritiqueStream())
        await stream.open(edit)
        await other.open(edit, critic="evidence")
        for number in range(6):
            await stream.send(candidate=make_candidate(f"c{number}", odd_worker.SLOW))
        await wait_until((odd / "working").exists)
        os.kill(starts(odd)[0], signal.SIGKILL)
        await other.send(candidate=make_candidate("elsewhere"))
        assert (await other.next()).critique.candidate_id == "elsewhere"
        closed = (await stream.finish())[-1].closed
        assert (closed.critique_count, closed.error_count) == (6, 0)
        assert len(starts(odd)) == 2
        (host, _) = server._hosts.all()
        assert host.vitals.ends == {"died": 1}
        await other.finish()


async def test_the_candidate_that_breaks_the_process_costs_itself_alone(
    odd: Path, task: Callable[..., Any]
) -> None:
    async with running(odd) as executor:
        tasks = [await task(executor, level) for level in (LEVEL, odd_worker.DIE, LEVEL)]
        first, broken, last = await executor.critique(tasks, nobody_left)
        assert overall(first) == overall(last) == pytest.approx(40)
        assert isinstance(broken, ServerFault)
        assert broken.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert broken.metadata["incident"] in broken.message
        once = await executor.critique([await task(executor, odd_worker.DIE_ONCE)], nobody_left)
        assert overall(once[0]) == pytest.approx(odd_worker.DIE_ONCE / 2.55)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the odd critic finds its socket in /proc")
async def test_a_process_that_does_not_speak_the_language_is_ended(
    odd: Path, task: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(odd) as executor:
        (outcome,) = await executor.critique([await task(executor, odd_worker.LIE)], nobody_left)
        assert isinstance(outcome, ServerFault)
        assert outcome.reason == pb.ERROR_REASON_CRITIC_FAILED
        assert "does not make sense" in caplog.text
        assert overall((await executor.critique([await task(executor)], nobody_left))[0]) == pytest.approx(40)


async def test_a_process_that_ended_while_idle_is_there_again_before_it_is_needed(
    odd: Path, task: Callable[..., Any]
) -> None:
    async with running(odd) as executor:
        before = await task(executor)
        os.kill(starts(odd)[0], signal.SIGKILL)
        await wait_until(lambda: len(starts(odd)) == 2 and executor.info.state == pb.CRITIC_STATE_AWAKE)
        assert overall((await executor.critique([before], nobody_left))[0]) == pytest.approx(40)


async def test_a_process_that_ends_at_every_start_is_given_up_told_and_tried_again(
    serving: Any, odd: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    critics, hosting = ("evidence", f"dummy@{odd}"), ("dummy?isolation=process",)
    async with serving(critics=critics, hosting=hosting) as (server, stub):
        assert await health(server, "dummy") == states.SERVING
        (odd / "die").touch()
        os.kill(starts(odd)[0], signal.SIGKILL)
        _, host = server._hosts.all()
        await wait_until(lambda: host.info.state == pb.CRITIC_STATE_FAILING)
        await wait_until(lambda: not server._hosts._telling)
        assert await health(server, "dummy") == states.NOT_SERVING
        assert await health(server) == states.SERVING, "the other goes on"
        listed = (await stub.ListCritics(pb.ListCriticsRequest())).critics
        assert [each.state for each in listed] == [pb.CRITIC_STATE_AWAKE, pb.CRITIC_STATE_FAILING]
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", LEVEL))
        await stub.Critique(request)
        request.options.critic = "dummy"
        error = await refusal(stub.Critique(request))
        assert (error.code, error.reason) == (14, pb.ERROR_REASON_CRITIC_UNAVAILABLE)
        assert error.retry_after_s
        (odd / "die").unlink()
        await wait_until(lambda: host.info.state == pb.CRITIC_STATE_AWAKE)
        await wait_until(lambda: not server._hosts._telling)
        assert await health(server, "dummy") == states.SERVING
        assert overall((await stub.Critique(request)).critique) == pytest.approx(40)


async def test_a_server_whose_only_critic_fails_is_not_ready(serving: Any, odd: Path) -> None:
    async with serving(critics=(f"dummy@{odd}",), hosting=("dummy?isolation=process",)) as (server, _):
        assert await health(server) == states.SERVING
        (odd / "refuse").touch()
        os.kill(starts(odd)[0], signal.SIGKILL)
        (host,) = server._hosts.all()
        await wait_until(lambda: host.info.state == pb.CRITIC_STATE_FAILING)
        await wait_until(lambda: not server._hosts._telling)
        assert await health(server) == states.NOT_SERVING


async def test_what_a_process_says_about_its_loading_reaches_the_operator(
    odd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (odd / "refuse").touch()
    with pytest.raises(InvalidInput, match="the folder holds no weights"):
        async with running(odd):
            pass
    assert len(starts(odd)) == 1, "what it cannot load it cannot load a moment later"
    (odd / "refuse").unlink()
    (odd / "die").touch()
    with pytest.raises(ServerUnavailable, match="does not stay up"):
        async with running(odd):
            pass
    assert len(starts(odd)) == 1 + supervisor.GIVE_UP_AFTER
    assert "exit code 7); its last words: no such kernel image" in caplog.text


# ---- memory and time


async def test_a_process_over_its_memory_is_ended_and_its_batch_told(
    odd: Path, task: Callable[..., Any]
) -> None:
    async with running(odd) as executor:
        plain = executor.vitals.byte_count()
        assert plain > 0
    async with running(odd, memory_bytes=plain + odd_worker.HOARDED_BYTES // 2) as executor:
        tasks = [await task(executor, odd_worker.HOARD), await task(executor)]
        for outcome in await executor.critique(tasks, nobody_left):
            assert isinstance(outcome, Overloaded)
            assert outcome.reason == pb.ERROR_REASON_DEVICE_OUT_OF_MEMORY
            assert "memory" in outcome.message
        assert executor.vitals.ends == {"memory": 1}
        assert overall((await executor.critique(tasks[1:], nobody_left))[0]) == pytest.approx(40)


async def test_a_critic_that_does_not_fit_into_its_memory_is_not_loaded_again_and_again(
    odd: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (odd / "hoard").touch()
    with pytest.raises(ServerUnavailable):
        async with running(odd, memory_bytes=odd_worker.HOARDED_BYTES):
            pass
    assert len(starts(odd)) == 1
    assert "went over its memory of 256 MiB" in caplog.text


async def test_a_process_that_does_not_come_back_is_ended_and_holds_up_nobody_else(
    odd: Path, task: Callable[..., Any]
) -> None:
    async with running(odd, hang_after_s=0.2) as executor:
        hangs, patient = await task(executor, odd_worker.HANG), await task(executor, odd_worker.HANG_ONCE)
        over = asyncio.Event()
        hung = asyncio.ensure_future(executor.critique([hangs], over.is_set))
        other = asyncio.ensure_future(executor.critique([patient], nobody_left))
        await wait_until((odd / "hung").exists)
        assert not hung.done(), "as long as somebody waits it has time"
        over.set()
        (outcome,) = await hung
        assert isinstance(outcome, DeadlineExceeded)
        assert overall((await other)[0]) == pytest.approx(odd_worker.HANG_ONCE / 2.55), (
            "what the same process had in hand besides is judged by the next"
        )
        assert executor.vitals.ends == {"hung": 1}


async def test_a_callers_deadline_is_kept_while_the_process_hangs(
    serving: Any, odd: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    hosting = ("dummy?isolation=process&hang_after=0.1",)
    async with serving(critics=(f"dummy@{odd}",), hosting=hosting) as (_, stub):
        options = pb.CritiqueOptions(budget_ms=1000)
        request = pb.CritiqueRequest(
            edit=edit, candidate=make_candidate("a", odd_worker.HANG), options=options
        )
        assert (await refusal(stub.Critique(request))).reason == pb.ERROR_REASON_BUDGET_EXCEEDED
        await wait_until(lambda: len(starts(odd)) == 2)
        request.candidate.CopyFrom(make_candidate("b", LEVEL))
        request.options.budget_ms = 0
        assert overall((await stub.Critique(request)).critique) == pytest.approx(40)


# ---- what surrounds it


def interpreter(folder: Path, *, lends: tuple[str, ...]) -> Path:
    """A Python with libraries of its own: those that it is lent, an old transformers, and a hollow OpenCV."""
    libraries = folder / "libraries"
    for name in ("transformers", "cv2"):
        (libraries / name).mkdir(parents=True)
        (libraries / name / "__init__.py").write_text('__version__ = "4.37.2"\n')
    (libraries / "google").mkdir()
    google_folders = {str(Path(each)) for each in google.protobuf.__path__}
    (libraries / "google" / "protobuf").symlink_to(google_folders.pop())
    from google.rpc import status_pb2

    (libraries / "google" / "rpc").symlink_to(Path(status_pb2.__file__).parent)
    site = Path(np.__file__).parents[1]
    for name in lends:
        if (site / name).exists():
            (libraries / name).symlink_to(site / name)
    python = folder / "python"
    # Without `site`, so that nothing of this environment is on its path.
    python.write_text(f'#!/bin/sh\nPYTHONPATH={libraries} exec {sys.executable} -S "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    return python


# What every process needs, and what the dummy critic does.
BASE = ("numpy", "numpy.libs")
OF_THE_CRITIC = ("PIL", "pillow.libs")


async def test_a_critic_runs_on_the_libraries_of_another_environment(
    odd: Path, task: Callable[..., Any]
) -> None:
    import transformers

    python = interpreter(odd, lends=(*BASE, *OF_THE_CRITIC))
    async with running(odd, python=str(python)) as executor:
        (outcome,) = await executor.critique([await task(executor, odd_worker.TELL)], nobody_left)
        assert isinstance(outcome, pb.Critique)
        told = json.loads(outcome.explanation)
        assert told["transformers"] == "4.37.2" != transformers.__version__
        assert told["numpy"].startswith(str(odd / "libraries"))
        assert overall(outcome) == pytest.approx(odd_worker.TELL / 2.55)


async def test_a_critic_is_served_by_an_interpreter_that_has_never_heard_of_editcritic(
    serving: Any, tmp_path: Path, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    python = interpreter(tmp_path, lends=(*BASE, *OF_THE_CRITIC))
    hosting = (f"dummy?isolation=process&python={python}",)
    async with serving(critics=("dummy",), hosting=hosting) as (_, stub):
        request = pb.CritiqueRequest(edit=edit, candidate=make_candidate("a", LEVEL))
        assert overall((await stub.Critique(request)).critique) == pytest.approx(40)


async def test_an_environment_that_lacks_what_is_needed_is_told_what_to_install(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "GIVE_UP_AFTER", 1)
    python = interpreter(tmp_path, lends=())
    with pytest.raises(ServerUnavailable):
        async with running(tmp_path, python=str(python)):
            pass
    assert (
        "pip install numpy 'protobuf>=3.20.3' googleapis-common-protos (No module named 'numpy')"
        in caplog.text
    )


async def test_what_the_critic_itself_lacks_is_told_in_its_librarys_words(tmp_path: Path) -> None:
    python = interpreter(tmp_path, lends=BASE)
    with pytest.raises(ServerFault, match="No module named 'PIL'"):
        async with running(tmp_path, python=str(python)):
            pass


async def test_a_process_is_told_none_of_the_servers_secrets(
    odd: Path, task: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EDITCRITIC_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "s3cret")
    async with running(odd) as executor:
        (outcome,) = await executor.critique([await task(executor, odd_worker.TELL)], nobody_left)
        assert isinstance(outcome, pb.Critique)
        variables = json.loads(outcome.explanation)["variables"]
        assert "s3cret" not in variables.values()
        assert variables["PATH"] == os.environ["PATH"]


def test_another_interpreter_is_not_sent_to_the_servers_libraries() -> None:
    here = {"PYTHONPATH": "/opt/server", "VIRTUAL_ENV": "/opt/server", "PATH": "/bin", "HF_HOME": "/models"}
    assert worker_environment(sys.executable, here) == here
    assert worker_environment("/opt/other/bin/python", here) == {"PATH": "/bin", "HF_HOME": "/models"}


# ---- nothing is left behind


async def test_closing_ends_the_process_and_whoever_waits_is_told(
    odd: Path, task: Callable[..., Any]
) -> None:
    async with running(odd) as executor:
        hanging = asyncio.ensure_future(
            executor.critique([await task(executor, odd_worker.HANG)], nobody_left)
        )
        await asyncio.sleep(0.1)
        await executor.close()
        (outcome,) = await hanging
        assert isinstance(outcome, ServerUnavailable)
        assert is_gone(starts(odd)[0])
        with pytest.raises(ServerUnavailable):
            await task(executor)
    assert len(starts(odd)) == 1


LONELY_SERVER = """
import asyncio, sys
from pathlib import Path
import numpy as np
from editcritic.server.critic_hosting import CriticHosting
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit
from editcritic.server.device import Devices
from editcritic.server.executors import worker_command
from editcritic.server.executors.process import ProcessExecutor

script, folder, level = sys.argv[1:]
worker_command.WORKER_SCRIPT = Path(script)

async def main():
    command = worker_command.WorkerCommand("dummy", "dummy@" + folder, CriticHosting("process"), threads=1)
    executor = ProcessExecutor(command, Devices(1), budget_s=600)
    await executor.start()
    picture = np.full((32, 32, 3), int(level), np.uint8)
    edit = DecodedEdit("e", picture, np.ones((32, 32), np.float32))
    task = CritiqueTask(edit, await executor.prepare(edit), DecodedCandidate("c", picture))
    print("judging", flush=True)
    await executor.critique([task], lambda: False)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize(
    "level",
    [
        LEVEL,
        odd_worker.HANG,
        pytest.param(
            odd_worker.HOLD_INTERPRETER,
            marks=pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's signals of pipes"),
        ),
    ],
    ids=["idle", "busy", "holding the interpreter"],
)
def test_a_server_that_is_killed_leaves_no_process_behind(tmp_path: Path, level: int) -> None:
    command = [sys.executable, "-c", LONELY_SERVER, str(ODD), str(tmp_path), str(level)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "judging\n"
        if level == odd_worker.HOLD_INTERPRETER:
            wait_here((tmp_path / "holding").exists)
        (process_id,) = starts(tmp_path)
        assert not is_gone(process_id)
        server.kill()
    wait_here(lambda: is_gone(process_id))


def wait_here(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    pytest.fail("it never came to that")


def test_a_server_that_is_told_to_stop_takes_its_processes_along(tmp_path: Path) -> None:
    flags = ["--critics=dummy", "--hosting=dummy?isolation=process", "--port=0", "--no-verdicts"]
    command = [sys.executable, "-m", "editcritic.server", *flags]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True) as server:
        assert server.stderr is not None
        assert any("editcritic listens on" in line for line in server.stderr)
        (worker,) = psutil.Process(server.pid).children()
        assert "bootstrap.py" in worker.cmdline()[1]
        server.terminate()
        assert "Traceback" not in server.stderr.read()
    assert server.returncode == 0
    assert is_gone(worker.pid)


# ---- the way there and back


async def test_arrays_travel_as_they_are() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (ours, theirs):
            each.setblocking(False)
        pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
        mask = np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)[:, ::-1]
        arrays = (pixels, mask)
        told = {"shapes": [frames.shape_of(each) for each in arrays]}
        sent = frames.Frame("x", 7, told, [*map(frames.bytes_of, arrays), b"\x08\x01"])
        _, got = await asyncio.gather(frames.send(ours, sent), frames.receive(theirs, 2**20))
        assert (got.kind, got.number, bytes(got.parts[2])) == ("x", 7, b"\x08\x01")
        for part, shape, array in zip(got.parts, got.told["shapes"], arrays, strict=False):
            assert np.array_equal(frames.array_of(part, shape), array)


async def test_what_is_no_frame_is_refused() -> None:
    for bad in (b"GET / HTTP/1.1\r\n\r\n", b"ecw1" + b"\xff" * 12):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            ours.sendall(bad)
            with pytest.raises(ValueError, match="no frame"):
                await frames.receive(theirs, 2**20)
    with pytest.raises(ValueError, match="uint8 or float32"):
        frames.array_of(b"\0" * 8, {"dtype": "object", "shape": [1]})
    with pytest.raises(ValueError, match="reshape"):
        frames.array_of(b"\0" * 8, {"dtype": "uint8", "shape": [3, 3]})
