"""Photographs from a folder."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

__all__ = ["read_photos"]

_SMALLEST = 96


def read_photos(folder: Path) -> list[Image.Image]:
    """Every JPEG and PNG photograph in `folder` as RGB, sorted by name; those under 96 px are left out.

    Raises: FileNotFoundError when none is left, because an empty training set would only show up as noise.
    """
    names = sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    photos = [Image.open(name).convert("RGB") for name in names]
    photos = [photo for photo in photos if min(photo.size) >= _SMALLEST]
    if not photos:
        raise FileNotFoundError(
            f"no photograph of at least {_SMALLEST} px in {folder}; expected .jpg or .png files there"
        )
    return photos
