"""A real ComfyUI process for the tests: its own folder, our node pack beside others, queue, events and pictures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKS = Path(__file__).with_name("comfyui_nodes")

_STUBS = {
    "torchvision/__init__.py": "from . import transforms\n",
    "torchvision/transforms.py": (
        "class _Unused:\n    def __init__(self, *rest, **named):\n        pass\n\n\n"
        "Compose = Normalize = Resize = ToTensor = _Unused\n\n\n"
        "class InterpolationMode:\n    BICUBIC = BILINEAR = NEAREST = 'unused'\n"
    ),
    "torchaudio/__init__.py": "from . import functional, transforms\n",
    "torchaudio/functional.py": "",
    "torchaudio/transforms.py": "class MelScale:\n    def __init__(self, *rest, **named):\n        pass\n",
}
"""Packages that ComfyUI imports for models which no test loads; only where its Python lacks them."""

_OF_REPAIRS = ("skimage", "lazy_loader", "packaging", "imageio", "tifffile", "networkx")


@dataclass
class Run:
    """What one queued graph came to. events: (time, type, data) in order. previews: pictures that came meanwhile."""

    prompt_id: str
    events: list[tuple[float, str, dict[str, Any]]] = field(default_factory=list)
    previews: int = 0

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for _, kind, data in self.events if kind == name]

    @property
    def ending(self) -> str:
        return self.events[-1][1] if self.events else "nothing"

    @property
    def error(self) -> str:
        return "".join(each["exception_message"] for each in self.named("execution_error"))

    def text(self, node: str) -> str:
        return next(each["output"]["text"][0] for each in self.named("executed") if each["node"] == node)


class ComfyProgram:
    """ComfyUI on a free port, with all its state in a folder of the test's.

    program: ComfyUI's folder. python: its interpreter. folder: the test's. environment: more variables.
    """

    def __init__(self, program: Path, python: str, folder: Path, environment: dict[str, str]) -> None:
        self.program, self.python, self.folder = program, python, folder
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "comfyui.log").read_text(errors="replace")

    def prepare(self) -> None:
        """The folder: testing packs, our own by its own command, and stubs for what this ComfyUI lacks."""
        for name in ("nodes.py", "folder_paths.py"):
            link = self.folder / name
            if not link.exists():
                link.symlink_to(self.program / name)
        packs = self.folder / "custom_nodes"
        shutil.copytree(PACKS, packs, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
        checkpoints = self.folder / "models" / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        for name in ("field", "unet"):
            (checkpoints / f"{name}.safetensors").write_bytes(b"")
        install = [
            sys.executable,
            "-c",
            "from editcritic.plugin.cli import main; main()",
            "install",
            "comfyui",
        ]
        subprocess.run([*install, str(self.folder)], check=True, capture_output=True)
        self._write_stubs()

    def _write_stubs(self) -> None:
        import importlib.util

        stubs = self.folder / "stubs"
        for name, text in _STUBS.items():
            if not self._has(name.split("/")[0]):
                (stubs / name).parent.mkdir(parents=True, exist_ok=True)
                (stubs / name).write_text(text)
        for name in _OF_REPAIRS:
            spec = importlib.util.find_spec(name)
            if spec and spec.origin and not self._has(name) and not (stubs / name).exists():
                stubs.mkdir(exist_ok=True)
                (stubs / name).symlink_to(Path(spec.origin).parent)

    def _has(self, name: str) -> bool:
        check = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is None)"
        return subprocess.run([self.python, "-c", check], env={"PATH": ""}, check=False).returncode == 0

    def start(self, *flags: str) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        paths = [str(self.folder / "stubs"), str(ROOT / ".ci" / "src")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "TESTING_STEPS": str(self.folder / "steps.log"),
            "EDITCRITIC_PYTHON": sys.executable,
            **self._environment,
        }
        command = [self.python, "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.folder), "--database-url", "sqlite:///:memory:"]
        command += ["--disable-api-nodes", "--preview-method", "latent2rgb", *flags]
        with (self.folder / "comfyui.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.program, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log[-3000:]
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.2)
        raise AssertionError(f"ComfyUI did not answer: {self.log[-3000:]}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            return json.loads(answer.read())

    def post(self, path: str, data: Any) -> Any:
        body = json.dumps(data).encode()
        request = urllib.request.Request(
            self.url + path, body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def refused(self, graph: dict[str, Any]) -> dict[str, Any]:
        """What ComfyUI says to a graph that it will not queue."""
        try:
            self.post("/prompt", {"prompt": graph})
        except urllib.error.HTTPError as error:
            told: dict[str, Any] = json.loads(error.read())
            return told
        raise AssertionError("the graph was queued")

    def picture(self, run: Run, node: str) -> list[bytes]:
        """The files that a saving node wrote."""
        shown = next(each["output"]["images"] for each in run.named("executed") if each["node"] == node)
        found = []
        for image in shown:
            with urllib.request.urlopen(
                f"{self.url}/view?{urllib.parse.urlencode(image)}", timeout=30
            ) as answer:
                found.append(answer.read())
        return found

    def run(
        self,
        graph: dict[str, Any],
        on_event: Callable[[str, dict[str, Any]], object] = lambda _kind, _data: None,
        **extra_pnginfo: Any,
    ) -> Run:
        """Queue a graph and follow it to its end."""
        from websockets.sync.client import connect

        client = uuid.uuid4().hex
        with connect(f"ws://127.0.0.1:{self.port}/ws?clientId={client}", max_size=None) as socket_:
            queued = {"prompt": graph, "client_id": client, "extra_data": {"extra_pnginfo": extra_pnginfo}}
            run = Run(self.post("/prompt", queued)["prompt_id"])
            for kind, data in self._events(socket_, run):
                run.events.append((time.monotonic(), kind, data))
                on_event(kind, data)
                if kind in ("execution_success", "execution_error", "execution_interrupted"):
                    return run
        raise AssertionError("the socket was closed")

    @staticmethod
    def _events(socket_: Any, run: Run) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            message = socket_.recv(timeout=150)
            if isinstance(message, bytes):
                run.previews += 1
                continue
            told = json.loads(message)
            if told["type"].startswith("editcritic.") or told["data"].get("prompt_id") == run.prompt_id:
                yield told["type"], told["data"]

    def step_times(self) -> list[float]:
        """When the testing models' denoisers were called."""
        log = self.folder / "steps.log"
        return [float(line) for line in log.read_text().split()] if log.exists() else []


@contextmanager
def running(
    program: Path, python: str, folder: Path, environment: dict[str, str], flags: Sequence[str] = ()
) -> Iterator[ComfyProgram]:
    """A ComfyUI for as long as the block."""
    comfy = ComfyProgram(program, python, folder, environment)
    comfy.prepare()
    comfy.start(*flags)
    try:
        yield comfy
    finally:
        comfy.stop()
