"""The commands that people type: `editcritic generate`, `score`, `rank`, `serve` and so on.

Exit codes
    0  done
    1  a fault of editcritic itself, or of the server
    2  wrong usage or bad input
    3  there is no server at the address, or it is no editcritic
    4  some candidates could not be produced or judged; the others were
    5  judged, and below ``--fail-under``
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["main"]


def main() -> None:
    """Run the command line; ends the process with an exit code."""
    try:
        from editcritic.plugin.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("editcritic: the commands need one more package. Install it: pip install 'editcritic[cli]'")
    _trace()
    app()


def _trace() -> None:
    """Send traces where OpenTelemetry's own variable says, if it can be done."""
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint:
        return
    from editcritic.v1 import tracing

    with suppress(ModuleNotFoundError):
        tracing.start(endpoint, "editcritic")
