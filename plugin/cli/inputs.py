"""Options that several commands share, and the files behind them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from editcritic.plugin.channels import Endpoint
from editcritic.plugin.cli.console import stderr
from editcritic.plugin.client import Client, make_edit
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ProtocolError

__all__ = [
    "BlendMask",
    "CriticGuidance",
    "CriticName",
    "EditFiles",
    "EngineQuality",
    "Folder",
    "Json",
    "Mask",
    "Prompt",
    "QualityGuidance",
    "Server",
    "Source",
    "connected",
    "name_candidates",
    "named_endpoint",
]

Source = Annotated[Path, typer.Option("--image", "-i", help="The photograph before the edit.")]
Mask = Annotated[Path, typer.Option("--mask", "-m", help="White where the engine was free.")]
BlendMask = Annotated[Path | None, typer.Option(help="The mask of blending, when it is another one.")]
Prompt = Annotated[str, typer.Option("--prompt", "-p", help="What was asked for.")]
CriticName = Annotated[str, typer.Option("--critic", help="Critic to ask; by default the server's first.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else there.")]
Folder = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for heat maps, explanation and report.")
]
Server = Annotated[
    str,
    typer.Option(
        envvar="EDITCRITIC_SERVER", help="Server as host:port. Without one, a server starts for this command."
    ),
]
EngineQuality = Annotated[
    float | None,
    typer.Option(min=0, max=100, help="Visual quality that the engine aims at, where it can be told one."),
]
QualityGuidance = Annotated[
    float, typer.Option(min=0, max=3, help="How far it is led away from low quality; doubles its work.")
]
CriticGuidance = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="How strongly the network critic's gradient moves the last steps; flatters that critic.",
    ),
]


@dataclass(frozen=True)
class EditFiles:
    """The files that an edit is made of."""

    source: Path
    mask: Path
    blend_mask: Path | None
    prompt: str

    def edit(self) -> pb.Edit:
        """The edit as a message; raises ImageError for a file that cannot be read."""
        return make_edit(self.source, self.mask, self.prompt, blend_mask=self.blend_mask)

    def by_field(self) -> dict[str, Path | None]:
        """Which file stands behind which field of a request."""
        return {
            "edit.source": self.source,
            "edit.denoise_mask": self.mask,
            "edit.blend_mask": self.blend_mask,
        }


def named_endpoint(address: str) -> Endpoint:
    """A server by its address, with token, TLS and certificate of the environment, as `connected` has them."""
    return Endpoint(address, os.environ.get("EDITCRITIC_TOKEN"), _tls(), _identity())


@contextmanager
def connected(address: str, critics: Iterable[str] = ()) -> Iterator[Client]:
    """A client of the server at `address`, or of one that runs for as long as the block.

    The token and TLS of a named server come from EDITCRITIC_TOKEN and EDITCRITIC_TLS (a PEM file of its
    authority, or 1 for the system's), a certificate of one's own from EDITCRITIC_TLS_CERT and EDITCRITIC_TLS_KEY,
    because what stands on a command line can be read by others.

    Args:
        address: ``host:port``; empty to start a server.
        critics: critics that a started server offers.

    Raises:
        ServerUnavailable: none could be started.
    """
    if address:
        token = os.environ.get("EDITCRITIC_TOKEN")
        with Client(address, token=token, tls=_tls(), identity=_identity()) as client:
            yield client
        return
    names = [name for name in critics if name]
    with stderr.status("starting a server"):
        server = EmbeddedServer(names)
        server.start()
    with server, Client(server.address) as client, _telling_why(server):
        yield client


@contextmanager
def _telling_why(server: EmbeddedServer) -> Iterator[None]:
    """Put the log's reason in the place of a hint at the log, which nobody sees of a server of one's own."""
    try:
        yield
    except ProtocolError as error:
        if error.reason != pb.ERROR_REASON_CRITIC_UNAVAILABLE or not server.last_error:
            raise
        raise InvalidInput(server.last_error, reason=error.reason, field=error.field) from error


def _tls() -> bool | Path:
    given = os.environ.get("EDITCRITIC_TLS", "")
    return Path(given) if given not in ("", "0", "1") else given == "1"


def _identity() -> tuple[Path, Path] | None:
    cert, key = (os.environ.get(f"EDITCRITIC_TLS_{part}", "") for part in ("CERT", "KEY"))
    if bool(cert) != bool(key):
        raise InvalidInput("EDITCRITIC_TLS_CERT and EDITCRITIC_TLS_KEY belong together; set both.")
    return (Path(cert), Path(key)) if cert else None


def name_candidates(paths: list[Path]) -> dict[str, Path]:
    """A name for each file that the contract allows: its stem, and a number where two are alike."""
    named: dict[str, Path] = {}
    for path in paths:
        stem = re.sub(r"[^A-Za-z0-9._:-]", "_", path.stem)[:56] or "candidate"
        name, number = stem, 2
        while name in named:
            name, number = f"{stem}-{number}", number + 1
        named[name] = path
    return named
