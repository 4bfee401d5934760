"""The web studio: a page on the server's own HTTP face, for those without an editor open.

Plain files without a build step and without a framework: the page needs a canvas that paints masks on 20 megapixels,
candidates that change place while they are produced, and to work offline; it talks to the same calls, limits and
tokens as any other client (docs/http.md).
"""

from __future__ import annotations

import json
from importlib import metadata, resources
from io import BytesIO

from PIL import Image

from editcritic.server.http_face.registry import Page

__all__ = ["studio_pages"]

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# Nothing from elsewhere is loaded, no page may frame this one, and what a picture's name holds is never run.
_HEADERS = (
    (
        "content-security-policy",
        "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
)


def studio_pages() -> dict[str, Page]:
    """The studio's files by path, ``/`` for the page itself, with an example photograph and its mask and prompt."""
    pages = {}
    for file in (resources.files(__package__) / "static").iterdir():
        kind = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            pages[path] = Page(kind, file.read_bytes(), _HEADERS)
    return pages | _example()


def _example() -> dict[str, Page]:
    from editcritic.plugin.demo import DEMO_PROMPT, demo_edit

    photo, mask = demo_edit()
    rows, columns = mask.nonzero()
    radius = (int(columns.max()) - int(columns.min())) / 2
    place = {"x": float(columns.mean()), "y": float(rows.mean()), "radius": radius, "prompt": DEMO_PROMPT}
    config = {"version": metadata.version("editcritic"), "example": place}
    png = BytesIO()
    Image.fromarray(photo).save(png, "PNG")
    return {
        "/config.json": Page("application/json", json.dumps(config).encode(), _HEADERS),
        "/example.png": Page("image/png", png.getvalue(), _HEADERS),
    }
