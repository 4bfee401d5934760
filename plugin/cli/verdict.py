"""`editcritic verdict`: tell the critic what you did with a candidate."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from editcritic.plugin.cli.console import command, stdout
from editcritic.plugin.cli.inputs import Server, connected
from editcritic.v1 import critic_pb2 as pb

__all__ = ["VerdictWord", "verdict"]


class VerdictWord(str, Enum):
    """What a person does with a candidate."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    PREFERRED = "preferred"
    REVERTED = "reverted"


@command
def verdict(
    edit: Annotated[str, typer.Option(help="Name of the edit, as the JSON of `rank` has it.")],
    candidate: Annotated[str, typer.Option("--candidate", "-c", help="Name of the candidate.")],
    what: Annotated[VerdictWord, typer.Argument(help="What you did with it.")],
    rating: Annotated[float | None, typer.Option(help="Your own score, 0 to 100.")] = None,
    comment: Annotated[str, typer.Option(help="Anything worth keeping.")] = "",
    server: Server = "",
) -> None:
    """Keep what you did with a candidate, for calibration to learn from."""
    kind = pb.VerdictKind.Value(f"VERDICT_KIND_{what.name}")
    with connected(server) as client:
        client.record_verdict(edit, candidate, kind, rating=rating, comment=comment)
    stdout.print("kept")
