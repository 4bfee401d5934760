"""The first lines of a critic's own process, run as a script by an interpreter that may know nothing of editcritic.

It lends that interpreter the server's own code, and nothing else of the server's environment: all libraries are the
interpreter's. It needs Python 3.10, numpy, protobuf 3.20.3 and googleapis-common-protos, and what the critic needs.
"""

from __future__ import annotations

import sys

__all__ = ["lend", "main"]


def lend(folders: dict[str, str]) -> None:
    """Make packages of ours importable.

    Args:
        folders: name of a package, such as editcritic.server, to its folder.
    """
    import importlib.util
    import types

    root = types.ModuleType("editcritic")
    root.__path__ = []
    sys.modules["editcritic"] = root
    for name, folder in folders.items():
        spec = importlib.util.spec_from_file_location(
            name, folder + "/__init__.py", submodule_search_locations=[folder]
        )
        assert spec is not None and spec.loader is not None  # noqa: S101, PT018 - there is a loader for .py
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        setattr(root, name.rpartition(".")[2], module)
        spec.loader.exec_module(module)


def main(argument: str) -> None:
    """Become the process that the argument, in JSON, describes."""
    import json

    told = json.loads(argument)
    lend(told["folders"])
    try:
        from editcritic.server.executors.worker import main as work
    except ImportError as error:
        sys.exit(
            f"{sys.executable} lacks what every critic's process needs: pip install numpy 'protobuf>=3.20.3'"
            f" googleapis-common-protos ({error})"
        )
    work(told["spec"], told["threads"], told["lifeline"])


if __name__ == "__main__":
    # This file's folder would give the process our modules under names of theirs.
    del sys.path[0]
    if sys.version_info < (3, 10):  # noqa: UP036 - the interpreter is not the one that this was installed for
        sys.exit(
            f"{sys.executable} is Python {sys.version.split()[0]}; a critic's process needs 3.10 or later"
        )
    main(sys.argv[1])
