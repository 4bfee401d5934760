"""An image that is open in GIMP: its pixels and selection as files, and layers that are put on top."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from editcritic.plugin.gimp.script_fu import ScriptFu, quoted, unquoted
from editcritic.v1.errors import InvalidInput, NotFound

__all__ = ["GimpImage", "find_image", "open_images"]

# Pixels of 8 bits in three channels, of a copy: the person's own image is never touched.
_COPY = """
(let* ((copy {copy}))
  (if (not (= RGB (car (gimp-image-base-type copy)))) (gimp-image-convert-rgb copy))
  (if (not (= PRECISION-U8-GAMMA (car (gimp-image-get-precision copy))))
      (gimp-image-convert-precision copy PRECISION-U8-GAMMA))
  {work})
"""
_SAVE = '(file-png-save RUN-NONINTERACTIVE copy {drawable} {path} "editcritic" 0 1 0 0 0 0 0)'
_FLATTEN = f"(let ((all (car (gimp-image-flatten copy)))) {_SAVE.replace('{drawable}', 'all')})"
_HIDE = "(gimp-item-set-visible (car (gimp-image-get-active-drawable copy)) FALSE)"
_MASK = f"""
(let* ((layer (car (gimp-layer-new copy (car (gimp-image-width copy)) (car (gimp-image-height copy))
                                   RGB-IMAGE "mask" 100 LAYER-MODE-NORMAL))))
  (gimp-image-insert-layer copy layer 0 0)
  (gimp-context-push)
  (gimp-context-set-foreground '(0 0 0))
  (gimp-drawable-fill layer FILL-FOREGROUND)
  (gimp-context-set-foreground '(255 255 255))
  (gimp-drawable-edit-fill layer FILL-FOREGROUND)
  (gimp-context-pop)
  {_SAVE.replace("{drawable}", "layer")})
"""
# Where the layer shows: its alpha, and what its mask leaves of it.
_SELECT_LAYER = """
(let* ((top (car (gimp-image-get-active-layer copy))) (mask (car (gimp-layer-get-mask top))))
  (gimp-image-select-item copy CHANNEL-OP-REPLACE top)
  (if (not (= -1 mask)) (gimp-image-select-item copy CHANNEL-OP-INTERSECT mask)))
"""
_ADD = """
(let* ((layer (car (gimp-file-load-layer RUN-NONINTERACTIVE {image} {path}))))
  (gimp-image-undo-group-start {image})
  (gimp-image-insert-layer {image} layer 0 0)
  (gimp-item-set-name layer {name})
  (gimp-layer-set-opacity layer {opacity})
  {mask}
  (gimp-image-undo-group-end {image})
  (gimp-displays-flush))
"""
_ADD_MASK = "(gimp-layer-add-mask layer (car (gimp-layer-create-mask layer ADD-MASK-SELECTION)))"


@dataclass(frozen=True)
class GimpImage:
    """One image.

    Attributes:
        gimp: where it is open. number: of GIMP's own making. name: as its window has it.
    """

    gimp: ScriptFu
    number: int
    name: str

    @property
    def has_selection(self) -> bool:
        """Whether anything is selected."""
        return self._value("(car (gimp-selection-is-empty {image}))") == "0"

    @property
    def layer_count(self) -> int:
        """Layers, groups counted as one."""
        return int(self._value("(car (gimp-image-get-layers {image}))"))

    def save_pixels(self, path: Path, *, without_active_layer: bool = False) -> None:
        """Write what is visible as a PNG.

        Args:
            path: of the file, which nobody else can read.
            without_active_layer: as if that layer were hidden.

        Raises:
            InvalidInput: nothing is visible.
        """
        self._copied((_HIDE if without_active_layer else "") + _FLATTEN, path)

    def save_selection(self, path: Path) -> None:
        """Write the selection as a PNG, white inside; without one, where the active layer shows."""
        self._copied(("" if self.has_selection else _SELECT_LAYER) + _MASK, path)

    def add_layer(self, path: Path, name: str, *, opacity: float = 100.0, masked: bool = False) -> None:
        """Put a picture of the image's size on top, as one step of undo.

        Args:
            path: of the file. name: of the layer. opacity: in percent. masked: by the selection.
        """
        self._value(
            _ADD,
            path=quoted(str(path)),
            name=quoted(name[:80]),
            opacity=f"{opacity:g}",
            mask=_ADD_MASK if masked else "",
        )

    def _copied(self, work: str, path: Path) -> None:
        # Made here, as a program may write with any rights it likes.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        copy = self._value("(car (gimp-image-duplicate {image}))")
        try:
            self._value(_COPY, copy=copy, work=work.replace("{path}", quoted(str(path))))
        finally:
            self.gimp.evaluate(f"(gimp-image-delete {copy})")
        if not path.stat().st_size:
            raise InvalidInput("GIMP wrote no picture.")

    def _value(self, code: str, **parts: str) -> str:
        # One after the other, so that a name with braces is not taken for a place.
        names = {"image": str(self.number), **parts}
        return self.gimp.evaluate(
            re.sub(r"\{(\w+)\}", lambda found: names[found[1]], code.strip()).replace("\n", " ")
        )


def open_images(gimp: ScriptFu) -> list[GimpImage]:
    """Every image that is open, the latest first."""
    found = gimp.evaluate("(vector->list (cadr (gimp-image-list)))")
    return [
        GimpImage(gimp, int(number), unquoted(gimp.evaluate(f"(car (gimp-image-get-name {number}))")))
        for number in re.findall(r"\d+", found)
    ]


def find_image(gimp: ScriptFu, name: str = "") -> GimpImage:
    """The image of that name or number; without one the only image.

    Raises:
        NotFound: there is none, or there are several and no name.
    """
    images = open_images(gimp)
    fitting = [image for image in images if name in ("", image.name, str(image.number))]
    if len(fitting) == 1:
        return fitting[0]
    told = ", ".join(f"{image.name!r} ({image.number})" for image in images) or "none"
    raise NotFound(f"name one image with --image; open in GIMP: {told}.")
