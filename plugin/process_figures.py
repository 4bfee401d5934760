"""What a process holds, as the system tells it: memory, open files, threads."""

from __future__ import annotations

from pathlib import Path

__all__ = ["process_figures"]

_NAMES = {"VmRSS": "resident_kib", "Threads": "threads"}


def process_figures(pid: int | None) -> dict[str, int]:
    """`resident_kib`, `threads` and open `descriptors` of a process; empty where there is no /proc to tell."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "status").read_text().splitlines()
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return {}
    told = dict(line.split(":", 1) for line in lines)
    figures = {name: int(told[key].split()[0]) for key, name in _NAMES.items()}
    return {**figures, "descriptors": descriptors}
