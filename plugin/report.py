"""One self-contained HTML page for an edit: candidates, maps, scores, reasons.

The page loads nothing: pictures, style and script are within it, and its content security policy forbids the rest.
Without script everything but the sliders works.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from editcritic.plugin.overlay import heat_layer, heat_of, mask_outline
from editcritic.plugin.report_parts import Markup, critique_column, escaped, failure_text, heading
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_image, decode_mask, paste_region

__all__ = ["Stage", "candidate_card", "footer", "judged_picture", "page", "write_report"]

# Enough for a sharp picture in a column of the page, and for a file that can be mailed.
MAX_SIDE_PX = 900
_CONTEXT = 2.2


def write_report(
    path: Path,
    *,
    edit: pb.Edit,
    candidates: Mapping[str, pb.Candidate],
    ranking: Sequence[pb.RankedCandidate],
    title: str = "editcritic report",
) -> Path:
    """Write the page.

    Args:
        path: file to write.
        edit: what the user asked for.
        candidates: by name; one that could not be read may be missing.
        ranking: the candidates in their order, with critiques or errors.
        title: of the page.

    Returns:
        The path.

    Raises:
        ImageError: the edit's pictures cannot be decoded.
        OSError: the file cannot be written.
    """
    stage = Stage(edit)
    sections = [_introduction(edit, stage, ranking, title)]
    sections += [candidate_card(entry, candidates.get(entry.candidate_id), stage) for entry in ranking]
    body = "".join([*sections, footer(edit)])
    path.write_text(page(escaped(title), body), encoding="utf-8")
    return path


Before: TypeAlias = "tuple[str, NDArray[np.uint8]]"


class Stage:
    """The part of the edit that is shown, at the size at which it is shown."""

    def __init__(self, edit: pb.Edit) -> None:
        self.source = decode_image(edit.source)
        self.mask = _fit_mask(decode_mask(edit.denoise_mask), self.source.shape[:2])
        self.crop = _context_box(self.mask)

    def picture(self, image: NDArray[np.uint8]) -> str:
        """A picture's shown part as a data address."""
        return _data_address(self._shown(PillowImage.fromarray(image)), "WEBP", quality=90, method=4)

    def heat(self, heat_map: pb.HeatMap) -> str:
        """A map's shown part as a transparent layer."""
        layer = heat_layer(heat_of(heat_map, self.source.shape))
        return _data_address(self._shown(PillowImage.fromarray(layer, "RGBA")), "WEBP", quality=80)

    def outline(self) -> NDArray[np.uint8]:
        """The source with the mask's outline on it."""
        outlined = self.source.copy()
        outer, inner = mask_outline(self.mask)
        outlined[outer], outlined[inner] = 255, 0
        return outlined

    def box(self, box: pb.Box) -> tuple[float, float, float, float]:
        """A box in percent of the shown part."""
        left, top, right, bottom = self.crop
        width, height = right - left, bottom - top
        return (
            100 * (box.x - left) / width,
            100 * (box.y - top) / height,
            100 * box.width / width,
            100 * box.height / height,
        )

    def _shown(self, image: PillowImage.Image) -> PillowImage.Image:
        part = image.crop(self.crop)
        part.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), PillowImage.Resampling.LANCZOS)
        return part


def _introduction(edit: pb.Edit, stage: Stage, ranking: Sequence[pb.RankedCandidate], title: str) -> Markup:
    judged = [entry for entry in ranking if entry.HasField("critique")]
    identity = judged[0].critique.critic if judged else pb.CriticIdentity(name="no critic")
    prompt = f"“{escaped(edit.prompt)}”" if edit.prompt else "<i>no prompt: a removal</i>"
    version = f"{escaped(identity.name)} {escaped(identity.version)} {escaped(identity.calibration)}"
    return Markup(
        f"<h1>{escaped(title)}</h1><p class=soft>{prompt}</p>"
        "<section class=card><h2>The edit</h2><div class=columns>"
        f'<div class=stage><img alt="the source with the mask outlined" src="{stage.picture(stage.outline())}"></div>'
        f"<div><p>{len(ranking)} candidates, {len(judged)} judged by <b>{version}</b>.</p>"
        f"<p class=soft>{escaped(identity.score_meaning)}</p>"
        f"<p class='soft small'>The whole picture has {stage.source.shape[1]} × {stage.source.shape[0]} pixels;"
        " the part around the mask is shown. The outline is the mask.</p></div></div></section>"
    )


def candidate_card(
    entry: pb.RankedCandidate,
    candidate: pb.Candidate | None,
    stage: Stage,
    *,
    extra: str = "",
    before: Before | None = None,
) -> Markup:
    """One candidate with its picture, scores and faults; `extra` stands below. before: as in `judged_picture`."""
    if not entry.HasField("critique") or candidate is None:
        return Markup(f"<section class=card>{heading(entry)}{failure_text(entry)}</section>")
    return Markup(
        f"<section class=card>{heading(entry)}<div class=columns>"
        f"<div>{judged_picture(entry, candidate, stage, before)}</div>"
        f"<div>{critique_column(entry, candidate)}</div></div>{extra}</section>"
    )


def judged_picture(
    entry: pb.RankedCandidate, candidate: pb.Candidate, stage: Stage, before: Before | None = None
) -> Markup:
    """The picture under its heat map, boxes and before/after slider.

    before: name and picture that the slider compares with; by default the source.
    """
    region = candidate.region if candidate.HasField("region") else None
    image = paste_region(stage.source, decode_image(candidate.image), region)
    name = escaped(entry.candidate_id)
    layers = [f'<img alt="candidate {name}" src="{stage.picture(image)}">']
    maps = entry.critique.heat_maps
    if maps:
        layers.append(f'<img class="over heat" alt="heat map of the faults" src="{stage.heat(maps[0])}">')
    layers.append(_boxes(entry.critique.defects, stage))
    other, other_picture = before or ("the source", stage.source)
    shown = stage.picture(other_picture)
    layers.append(f'<img class="over before" alt="{escaped(other)}" src="{shown}"><span class=bar></span>')
    heat = _slider(f"heat-{name}", "heat map", "--heat", 0, 1, 0.05, 0.55, "") if maps else ""
    label = "before / after" if before is None else escaped(f"{other} / {entry.candidate_id}")
    split = _slider(f"split-{name}", label, "--split", 0, 100, 1, 0, "%")
    return Markup(f'<div class="stage judged">{"".join(layers)}</div><div class=controls>{heat}{split}</div>')


def _slider(
    name: str, label: str, sets: str, low: float, high: float, step: float, value: float, unit: str
) -> Markup:
    return Markup(
        f'<label class="soft small" for="{name}">{label}</label><input type=range id="{name}" min={low} max={high}'
        f' step={step} value={value} data-sets="{sets}" data-unit="{unit}">'
    )


def _boxes(defects: Sequence[pb.Defect], stage: Stage) -> Markup:
    shapes = []
    for number, defect in enumerate(defects, start=1):
        x, y, width, height = stage.box(defect.box)
        # Faults often share a box; their numbers stand side by side.
        label_x = max(x, 0) + 1 + 4 * sum(other.box == defect.box for other in defects[: number - 1])
        shapes.append(
            f'<svg class=over aria-hidden=true><rect x="{x:.2f}%" y="{y:.2f}%" width="{width:.2f}%"'
            f' height="{height:.2f}%" fill=none stroke="#fff" stroke-width=3 />'
            f'<rect x="{x:.2f}%" y="{y:.2f}%" width="{width:.2f}%" height="{height:.2f}%" fill=none'
            f' stroke="#c2402f" stroke-width=1.5 /><text x="{label_x:.2f}%" y="{max(y, 0) + 5:.2f}%"'
            f' fill="#fff" stroke="#000" stroke-width=3 paint-order=stroke font-weight=700>{number}</text></svg>'
        )
    return Markup("".join(shapes))


def footer(edit: pb.Edit) -> Markup:
    """Version and name of the edit."""
    return Markup(
        f"<footer>editcritic {metadata.version('editcritic')} · edit <code>{escaped(edit.edit_id or 'unnamed')}</code>"
        " · the same edit, candidate and critic version give the same numbers.</footer>"
    )


def page(title: str, body: str) -> str:
    """The whole page round its body; both are HTML already."""
    files = resources.files("editcritic.plugin")
    style, script = ((files / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><title>{title}</title>'
        f"<style>{style}</style></head><body><main>{body}</main><script>{script}</script></body></html>\n"
    )


def _context_box(mask: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the mask's surroundings; the whole picture when that is little more."""
    rows, columns = np.nonzero(mask > 0.5)
    height, width = mask.shape
    if rows.size == 0:
        return 0, 0, width, height
    half = max(int(np.ptp(rows)), int(np.ptp(columns)), 48) * _CONTEXT / 2
    x, y = (columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2
    return (
        max(0, int(x - half * 1.3)),
        max(0, int(y - half)),
        min(width, int(x + half * 1.3) + 1),
        min(height, int(y + half) + 1),
    )


def _fit_mask(mask: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    if mask.shape == shape:
        return mask
    size = (shape[1], shape[0])
    return np.asarray(PillowImage.fromarray(mask).resize(size, PillowImage.Resampling.BILINEAR), np.float32)


def _data_address(image: PillowImage.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
