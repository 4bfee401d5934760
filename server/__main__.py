"""``python -m editcritic.server``: flags to settings, settings to a server."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from editcritic.server.app import CriticServer, ServiceFactory, run
from editcritic.server.critics import CRITICS
from editcritic.server.settings import PROTOCOL_REVISION, ServerSettings, SettingsError, default_verdicts_path
from editcritic.server.tokens import check_secret_file

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, services: Sequence[ServiceFactory] = ()) -> int:
    """Serve until told to stop. Returns the exit code: 0 after a drain, 1 when it cannot start.

    services: as for `CriticServer`.
    """
    arguments = _parser().parse_args(argv)
    _set_up_logging(arguments.json_logs)
    try:
        settings = _settings(arguments)
        run(
            settings,
            on_ready=_announce if arguments.embedded else _greet,
            stop_when=_wait_for_parent if arguments.embedded else None,
            services=services,
        )
    except (SettingsError, OSError) as error:
        print(f"editcritic: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = ServerSettings()
    parser = argparse.ArgumentParser(prog="editcritic serve", description="Run a critic server.")
    parser.add_argument("--host", default=defaults.host, help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=defaults.port, help="port; 0 takes a free one")
    parser.add_argument("--critics", default=",".join(defaults.critics), help=f"of {', '.join(CRITICS)}")
    parser.add_argument("--workers", type=int, default=defaults.workers, help="threads that judge")
    parser.add_argument("--verdicts", type=Path, default=default_verdicts_path(), help="file of verdicts")
    parser.add_argument("--no-verdicts", action="store_true", help="keep no verdicts")
    parser.add_argument("--grace-s", type=float, default=defaults.grace_s, help="time to finish at the end")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate chain")
    parser.add_argument("--tls-key", type=Path, help="PEM key")
    parser.add_argument(
        "--tls-client-ca", type=Path, help="PEM authorities; clients need a certificate of theirs"
    )
    parser.add_argument("--token-file", type=Path, help="file with the bearer token that calls must carry")
    parser.add_argument("--tokens", type=Path, help="file of tokens: name, token or sha256:HASH, role, quota")
    parser.add_argument(
        "--decoder-workers",
        type=int,
        help="processes that decode pictures; 0: none (default beyond loopback: 2)",
    )
    parser.add_argument("--allow-insecure-public", action="store_true", help="clear text beyond loopback")
    parser.add_argument("--json-logs", action="store_true", help="log one JSON object for each line")
    parser.add_argument("--embedded", action="store_true", help="print the address as JSON; end with stdin")
    return parser


def _settings(arguments: argparse.Namespace) -> ServerSettings:
    token = _single_token(arguments.token_file) if arguments.token_file else None
    return ServerSettings(
        host=arguments.host,
        port=arguments.port,
        critics=tuple(name.strip() for name in arguments.critics.split(",") if name.strip()),
        workers=max(1, arguments.workers),
        grace_s=arguments.grace_s,
        verdicts_path=None if arguments.no_verdicts else arguments.verdicts,
        tls_cert_path=arguments.tls_cert,
        tls_key_path=arguments.tls_key,
        tls_client_ca_path=arguments.tls_client_ca,
        token=token,
        tokens_path=arguments.tokens,
        decoder_workers=arguments.decoder_workers,
        allow_insecure_public=arguments.allow_insecure_public,
    )


def _single_token(path: Path) -> str:
    check_secret_file(path, may_be_read=True)
    token = path.read_text().strip()
    if not token:
        raise SettingsError(f"the token file {path} is empty")
    return token


def _announce(server: CriticServer) -> None:
    line = {
        "address": server.address,
        "pid": os.getpid(),
        "server_version": metadata.version("editcritic"),
        "protocol_revision": PROTOCOL_REVISION,
    }
    print(json.dumps(line), flush=True)


def _greet(server: CriticServer) -> None:
    print(f"editcritic listens on {server.address} (Ctrl-C stops it)", file=sys.stderr, flush=True)


def _wait_for_parent() -> None:
    # Unbuffered: the lock of a buffered stdin that is being read aborts the interpreter at its exit.
    while os.read(sys.stdin.fileno(), 4096):
        pass


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _set_up_logging(as_json: bool) -> None:
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter() if as_json else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


if __name__ == "__main__":
    sys.exit(main())
