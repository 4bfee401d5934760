"""What starts a critic's own process: its command line, and the few variables that it is given."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import editcritic.server
import editcritic.v1
from editcritic.server.critic_hosting import CriticHosting

__all__ = ["WorkerCommand", "worker_environment"]

WORKER_SCRIPT = Path(__file__).with_name("bootstrap.py")
_FOLDERS = {
    module.__name__: str(Path(str(module.__file__)).parent) for module in (editcritic.server, editcritic.v1)
}
# What a model library needs to find its files and devices. Everything else, tokens of hubs and of this server among it,
# stays here.
_KEPT_VARIABLES = (
    *("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "HOME", "TMPDIR"),
    *(
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "XDG_CACHE_HOME",
        "TORCH_HOME",
        "CUDA_HOME",
    ),
    *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_CUDA_ALLOC_CONF", "NVIDIA_VISIBLE_DEVICES"),
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
)
# Only to the server's own interpreter: another one must find its own libraries, not the server's.
_OWN_VARIABLES = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


@dataclass(frozen=True)
class WorkerCommand:
    """What to start.

    Attributes:
        name: of the critic, for the log.
        spec: its full name.
        hosting: which interpreter, and how much memory.
        threads: on which it judges.
    """

    name: str
    spec: str
    hosting: CriticHosting
    threads: int

    def arguments(self, lifeline: int) -> list[str]:
        """The command line; `lifeline` is a file descriptor of the process."""
        told = {"folders": _FOLDERS, "spec": self.spec, "threads": self.threads, "lifeline": lifeline}
        return [self.hosting.python, str(WORKER_SCRIPT), json.dumps(told)]


def worker_environment(python: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that a critic's process is given.

    Args:
        python: its interpreter.
        variables: of this process.
    """
    kept = (*_KEPT_VARIABLES, *(_OWN_VARIABLES if python == sys.executable else ()))
    return {name: variables[name] for name in kept if name in variables}
