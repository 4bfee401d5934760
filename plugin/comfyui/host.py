"""ComfyUI as the nodes see it: progress, events, interrupts. The one door to its modules besides sampling.

They are imported by name when they are used: `server` and `nodes` are ComfyUI's own top-level modules, and this
package must be importable without them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = [
    "CATEGORY",
    "Progress",
    "blocked",
    "check_interrupted",
    "is_interruption",
    "merged",
    "module",
    "send",
    "wait_for",
]

CATEGORY = "editcritic"
"""Where the nodes stand in the menu."""

POLL_S = 0.05
"""How often an interrupt is looked for while a server works, in seconds."""

_Answer = TypeVar("_Answer")


def module(name: str) -> Any:
    """A module of ComfyUI."""
    return importlib.import_module(name)


def check_interrupted() -> None:
    """Raises ComfyUI's own exception when the person has pressed Cancel."""
    module("comfy.model_management").throw_exception_if_processing_interrupted()


def is_interruption(error: BaseException | None) -> bool:
    """Whether that is ComfyUI's exception of a cancelled run."""
    return isinstance(error, module("comfy.model_management").InterruptProcessingException)


def wait_for(future: Future[_Answer]) -> _Answer:
    """The result of work in another thread; looks for an interrupt while it waits."""
    while not future.done():
        check_interrupted()
        try:
            future.exception(POLL_S)
        except TimeoutError:
            continue
        except Exception:  # noqa: S112 - futures of Python 3.10 have a TimeoutError of their own
            continue
    return future.result()


def send(event: str, node_id: str | None, **data: Any) -> None:
    """Send ``editcritic.EVENT`` to the page that queued the run."""
    server = module("server").PromptServer.instance
    server.send_sync(f"editcritic.{event}", {"node": node_id, **data}, server.client_id)


def blocked() -> Any:
    """What an output gives when there is nothing for it: nodes that need it do not run."""
    return module("comfy_execution.graph_utils").ExecutionBlocker(None)


class Progress:
    """The bar of the node that runs now. total: steps in all."""

    def __init__(self, total: int) -> None:
        self._bar = module("comfy.utils").ProgressBar(total)
        self._done = 0

    def step(self, preview: Any = None, count: int = 1) -> None:
        """So many steps further. preview: ("JPEG", Pillow image, longest side), to be shown on the node."""
        self._done += count
        self._bar.update_absolute(self._done, None, preview)

    def show(self, picture: Any, most: int = 512) -> None:
        """Show a Pillow image, at most that many pixels on its longest side, without a step."""
        self._bar.update_absolute(self._done, None, ("JPEG", picture, most))


def merged(extra: Mapping[str, Any] | None, key: str, value: Any) -> None:
    """Leave something for the nodes that save pictures: they write every key of `extra_pnginfo` into the PNG."""
    if isinstance(extra, dict):
        extra.setdefault("editcritic", {})[key] = value
