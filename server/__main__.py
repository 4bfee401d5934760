"""``python -m editcritic.server``: flags to settings, settings to a server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from editcritic.server.app import CriticServer, ServiceFactory, run
from editcritic.server.configuration import add_flags, read_configuration
from editcritic.server.critics import CRITICS
from editcritic.server.heap import limit_arenas
from editcritic.server.logs import set_up_logging
from editcritic.server.setting_keys import ENVIRONMENT_PREFIX
from editcritic.server.settings import PROTOCOL_REVISION, SettingsError
from editcritic.server.systemd import notify
from editcritic.v1.errors import EditCriticError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, services: Sequence[ServiceFactory] = ()) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start or go on.

    services: as for `CriticServer`.
    """
    arguments = _parser().parse_args(argv)
    try:
        # A server of a single command must not take what was meant for the one that runs all day.
        configuration = read_configuration(arguments, {} if arguments.embedded else os.environ)
        settings = configuration.settings()
        if arguments.print_config:
            print(configuration.as_toml())
            return 0
        set_up_logging(settings.log_format)
        limit_arenas()
        run(
            settings,
            on_ready=_announce if arguments.embedded else _greet,
            stop_when=_wait_for_parent if arguments.embedded else None,
            services=services,
        )
    except (SettingsError, EditCriticError, OSError) as error:
        print(f"editcritic: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="editcritic serve",
        description=f"Run a critic server. Settings may stand in a file (--config) or in {ENVIRONMENT_PREFIX}... too.",
        epilog=f"Critics: {', '.join(CRITICS)}",
        allow_abbrev=False,
    )
    add_flags(parser)
    parser.add_argument(
        "--print-config", action="store_true", help="print every setting, and where it came from; then end"
    )
    parser.add_argument("--embedded", action="store_true", help="print the address as JSON; end with stdin")
    return parser


def _announce(server: CriticServer) -> None:
    line = {
        "address": server.address,
        "http_address": server.http_address,
        "metrics_address": server.operations.metrics_address,
        "pid": os.getpid(),
        "server_version": metadata.version("editcritic"),
        "protocol_revision": PROTOCOL_REVISION,
    }
    print(json.dumps(line), flush=True)
    _tell_http(server)


def _greet(server: CriticServer) -> None:
    print(f"editcritic listens on {server.address} (Ctrl-C stops it)", file=sys.stderr, flush=True)
    _tell_http(server)
    notify("READY=1")


def _tell_http(server: CriticServer) -> None:
    if server.http_address:
        print(f"http address: {server.http_address}", flush=True)


def _wait_for_parent() -> None:
    # Unbuffered: the lock of a buffered stdin that is being read aborts the interpreter at its exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass


if __name__ == "__main__":
    sys.exit(main())
