"""What the client alone costs: its import in a fresh interpreter, and the disk that it and its dependencies take."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["measure_client"]

_DEPENDENCIES = ("googleapis-common-protos", "grpcio", "numpy", "pillow", "protobuf", "typing_extensions")
_HEAVY = ("torch", "diffusers", "transformers", "scipy", "skimage", "cv2")
_PROBE = f"""
import json, sys, time
began = time.perf_counter()
import editcritic.plugin.client
took = time.perf_counter() - began
own = [m.__file__ for n, m in sys.modules.items() if n.startswith("editcritic.") and getattr(m, "__file__", None)]
print(json.dumps({{"s": took, "heavy": [n for n in {_HEAVY!r} if n in sys.modules], "own": own}}))
"""


def measure_client(rounds: int = 7) -> dict[str, Any]:
    """Import the client in fresh interpreters and add up its files.

    Returns:
        import_s: median seconds of the import. heavy_modules: model libraries that it loaded, which should be none.
        own_bytes: of the modules of this package that it loads. dependency_bytes: installed, by name.
    """
    found = [json.loads(_fresh()) for _ in range(rounds)]
    return {
        "import_s": median(each["s"] for each in found),
        "heavy_modules": found[0]["heavy"],
        "own_bytes": sum(Path(file).stat().st_size for file in found[0]["own"]),
        "dependency_bytes": {name: _installed_bytes(name) for name in _DEPENDENCIES},
    }


def _fresh() -> bytes:
    return subprocess.check_output([sys.executable, "-c", _PROBE])  # noqa: S603 - our own words


def _installed_bytes(name: str) -> int:
    files = metadata.distribution(name).files or []
    paths = [Path(str(file.locate())) for file in files]
    return sum(path.stat().st_size for path in paths if path.is_file())
