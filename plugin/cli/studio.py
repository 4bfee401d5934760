"""`editcritic studio`: the web page, with a server behind it that judges and edits."""

from __future__ import annotations

import threading
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from editcritic.plugin.cli.console import BAD_INPUT, fail, stdout

__all__ = ["studio"]

_WARM_S = 120.0


def studio(
    engine: Annotated[
        list[str] | None, typer.Option("--engine", "-e", help="Engine to offer; may be repeated.")
    ] = None,
    critics: Annotated[str, typer.Option("--critics", help="Critics to offer, the default first.")] = "",
    port: Annotated[int, typer.Option("--port", help="Port of the page on this machine.")] = 8650,
    journal: Annotated[Path | None, typer.Option("--journal", help="File of the edits.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
) -> None:
    """Open a page that edits a photograph and shows candidates while they are produced and judged; Ctrl-C ends it."""
    try:
        from editcritic.plugin.studio import studio_pages
        from editcritic.server.__main__ import main
    except ModuleNotFoundError as error:
        fail(f"the studio needs {error.name}. Install it: pip install 'editcritic[server,refine]'", BAD_INPUT)
    from editcritic.plugin.cli.serve import refining

    refine = refining(engine or ["tabletop"], journal)

    def add(hosts: Any, registry: Any) -> str:
        registry.pages.update(studio_pages())
        return str(refine(hosts, registry))

    url = f"http://127.0.0.1:{port}/"
    threading.Thread(target=_announce, args=(url, browser), daemon=True).start()
    offered = [f"--critics={critics}"] if critics else []
    raise typer.Exit(main(["--port=0", f"--http=127.0.0.1:{port}", *offered], [add]))


def _announce(url: str, browser: bool) -> None:
    """Name the page, and open it, once it answers."""
    deadline = time.monotonic() + _WARM_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}v1/health", timeout=5):  # noqa: S310 - our own address
                break
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    else:
        return
    stdout.print(f"studio: {url}", markup=False)
    if browser:
        webbrowser.open(url)
