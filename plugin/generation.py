"""Candidates as files: results, previews, a contact sheet and the parameters that reproduce them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.contact_sheet import SheetRow, close_up, contact_sheet, outlined
from editcritic.plugin.pictures import Picture, as_image, as_mask
from editcritic.refine.engine import Engine, GenerationEvent, generate
from editcritic.refine.quality_options import QualityOptions
from editcritic.v1.errors import EditCriticError, ImageError
from editcritic.v1.images import decode_image, decode_mask_at

__all__ = ["Generated", "generate_files", "read_edit"]

Pixels = NDArray[np.uint8]


@dataclass
class Generated:
    """One candidate and its files, as far as it came.

    seconds: from its start to its last event. evaluations: denoising steps executed. error: why it failed.
    """

    seed: int
    picture: Path | None = None
    previews: dict[str, Path] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    evaluations: int = 0
    seconds: float = 0.0
    error: EditCriticError | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, with the names of files in the folder."""
        return {
            "seed": self.seed,
            "picture": self.picture.name if self.picture else None,
            "previews": {share: path.name for share, path in self.previews.items()},
            "notes": list(self.notes),
            "evaluations": self.evaluations,
            "seconds": round(self.seconds, 3),
            "error": str(self.error) if self.error else None,
        }


def read_edit(
    source: Picture, mask: Picture, blend_mask: Picture | None = None
) -> tuple[Pixels, NDArray[np.float32], NDArray[np.float32] | None]:
    """Source (H, W, 3) uint8 and masks (H, W) float32 in [0, 1]; masks of another size are scaled to the source.

    Raises:
        ImageError: a file cannot be read, or a mask has another aspect ratio; `field` says which.
    """
    try:
        picture = decode_image(as_image(source))
    except ImageError as error:
        raise error.in_field("source") from error
    blend = None if blend_mask is None else _fitting_mask(blend_mask, picture, "blend_mask")
    return picture, _fitting_mask(mask, picture, "mask"), blend


def _fitting_mask(mask: Picture, source: Pixels, name: str) -> NDArray[np.float32]:
    try:
        return decode_mask_at(as_mask(mask), source.shape)
    except ImageError as error:
        raise error.in_field(name) from error


def generate_files(
    engine: Engine,
    source: Pixels,
    mask: NDArray[np.float32],
    prompt: str,
    seeds: Sequence[int],
    folder: Path,
    *,
    watch: Callable[[GenerationEvent], object] = lambda _event: None,
    previews: Sequence[float] = (0.25, 0.5, 0.75),
    **options: Any,
) -> list[Generated]:
    """Produce one candidate per seed and write each as soon as it is there.

    folder: gets ``seed-<n>.png``, ``seed-<n>-at-<percent>.png``, ``blend-mask.png``, ``contact-sheet.png`` and
    ``candidates.json``; what is done stays there when the rest is stopped or fails.
    watch: told of every event, after its files are written.
    options: as in `Engine.candidate`.

    Raises:
        InvalidInput: the edit or its options cannot be carried out; nothing is written then.
        OSError: the folder cannot be written.
    """
    done: dict[int, Generated] = {}
    started = time.monotonic()
    events = generate(engine, source, mask, prompt, seeds, previews=previews, **options)
    try:
        for event in events:
            if event.kind == "started":
                folder.mkdir(parents=True, exist_ok=True)
                done[event.index], started = Generated(event.seed), time.monotonic()
                _write_blend_mask(event, folder)
            _write(event, done[event.index], folder, time.monotonic() - started)
            watch(event)
    finally:
        if done:
            made = list(done.values())
            parameters = {"engine": engine.capabilities.name, "prompt": prompt, **_plain(options)}
            _write_index(folder / "candidates.json", parameters, made)
            _write_sheet(folder / "contact-sheet.png", source, mask, prompt, made)
    return list(done.values())


def _write(event: GenerationEvent, made: Generated, folder: Path, seconds: float) -> None:
    made.seconds = seconds
    if event.candidate is not None:
        made.notes, made.evaluations = event.candidate.notes, event.candidate.evaluations
    if event.kind == "failed":
        made.error = event.error
    if event.picture is None:
        return
    if event.kind == "finished":
        made.picture = folder / f"seed-{event.seed}.png"
        Image.fromarray(event.picture).save(made.picture)
        return
    percent = f"{100 * event.fraction:.0f}"
    made.previews[percent] = folder / f"seed-{event.seed}-at-{percent}.png"
    Image.fromarray(event.picture).save(made.previews[percent])


def _write_blend_mask(event: GenerationEvent, folder: Path) -> None:
    """Candidates differ from the photograph up to here: who judges them has to know."""
    if event.index == 0 and event.candidate is not None:
        levels = np.round(event.candidate.blend_mask * 255).astype(np.uint8)
        Image.fromarray(levels).save(folder / "blend-mask.png")


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    plain = {name: value for name, value in options.items() if isinstance(value, (str, int, float))}
    wish = options.get("quality")
    return plain if wish is None or wish == QualityOptions() else plain | {"quality": asdict(wish)}


def _write_index(path: Path, parameters: dict[str, Any], made: Sequence[Generated]) -> None:
    values = {**parameters, "candidates": [each.as_json() for each in made]}
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _write_sheet(
    path: Path, source: Pixels, mask: NDArray[np.float32], prompt: str, made: Sequence[Generated]
) -> None:
    left, top, right, bottom = close_up(mask)
    cut = (slice(top, bottom), slice(left, right))
    rows = [SheetRow(f"prompt: {prompt or '(removal)'}", [("source and mask", outlined(source, mask)[cut])])]
    for each in made:
        shown = [(f"at {share} %", _pixels(file)) for share, file in each.previews.items()]
        if each.picture is not None:
            shown.append((f"seed {each.seed}", _pixels(each.picture)[cut]))
        state = "failed" if each.error else f"{each.evaluations} steps, {each.seconds:.1f} s"
        rows.append(SheetRow(f"seed {each.seed}: {state}", shown))
    Image.fromarray(contact_sheet(rows)).save(path)


def _pixels(path: Path) -> Pixels:
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))
