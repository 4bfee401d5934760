"""Where a picture has faces. A detector ships with scikit-image; OpenCV's YuNet replaces it where a model is named.

Sources: a cascade of local binary patterns (Liao et al. 2007, trained by OpenCV); YuNet (Wu et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.faces.likeness import likeness
from editcritic.server.critics.views import Bounds
from editcritic.v1.errors import InvalidInput

__all__ = ["CascadeDetector", "Face", "FaceDetector", "YuNetDetector", "open_detector", "overlap"]

MIN_FACE_PX = 24
"""Side of the smallest face that the cascade was trained on."""
_SCALE_STEP = 1.1
_SAME = 0.35
"""Overlap from which two windows see the same face."""
_MIN_WINDOWS = 3
_SURE = 2.7
"""`likeness` + 0.8 ln(windows) at which a find is as likely a face as not, on the training photographs."""
_STEEPNESS = 3.0


@dataclass(frozen=True)
class Face:
    """A find. box: in pixels of the picture; confidence: from 0 to 1, at least 0.5 for what is called a face."""

    box: Bounds
    confidence: float


class FaceDetector(Protocol):
    """Finds frontal faces. Called from several threads at once; the same picture gets the same faces."""

    @property
    def name(self) -> str:
        """What it is, with its version: a part of the critic's own."""

    def find(self, picture: NDArray[np.uint8]) -> list[Face]:
        """Faces of (H, W, 3) uint8 sRGB with a confidence of 0.5 and more, the surest first."""


class CascadeDetector:
    """OpenCV's cascade of local binary patterns, as scikit-image carries it, and a second look at what it finds.

    The cascade alone calls corn and windows faces: what it finds counts by how many windows agree and by how much
    the place is like a face (`likeness`).
    """

    name = "lbp-1"

    def find(self, picture: NDArray[np.uint8]) -> list[Face]:
        """See `FaceDetector`."""
        if min(picture.shape[:2]) <= MIN_FACE_PX:
            return []
        grey = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)
        found = []
        for box, count in _grouped(_windows(picture)):
            if count >= _MIN_WINDOWS:
                evidence = likeness(grey, box) + 0.8 * math.log(count)
                found.append(Face(box, 1 / (1 + math.exp(-_STEEPNESS * (evidence - _SURE)))))
        return sorted((face for face in found if face.confidence >= 0.5), key=lambda face: -face.confidence)


class YuNetDetector:
    """OpenCV's YuNet, with a model file of yours (`face_detection_yunet_2023mar.onnx` of OpenCV's model zoo).

    Args:
        model: the file.

    Raises:
        InvalidInput: there is no such file, it is no YuNet, or this OpenCV has no `FaceDetectorYN`.
    """

    def __init__(self, model: Path) -> None:
        if not hasattr(cv2, "FaceDetectorYN"):
            raise InvalidInput(
                "this OpenCV has no FaceDetectorYN: install opencv-python-headless 4.8 or newer"
            )
        if not model.is_file():
            raise InvalidInput(f"there is no face detector {model}; expected a YuNet model, an .onnx file")
        self._model = model
        self.name = f"yunet-{model.stem}"[:64]
        self.find(np.zeros((64, 64, 3), np.uint8))

    def find(self, picture: NDArray[np.uint8]) -> list[Face]:
        """See `FaceDetector`."""
        height, width = picture.shape[:2]
        try:
            # One for each call: a detector keeps the size of its last picture.
            detector = cv2.FaceDetectorYN.create(str(self._model), "", (width, height), 0.5)
            _, rows = detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        except cv2.error as error:
            raise InvalidInput(f"{self._model} is no YuNet model: {error.err}") from error
        faces = [_face_of(row, width, height) for row in (rows if rows is not None else [])]
        return sorted((face for face in faces if face is not None), key=lambda face: -face.confidence)


def open_detector(model: str = "") -> FaceDetector:
    """The detector that ships, or YuNet with a model file.

    Raises:
        InvalidInput: the file cannot be used.
    """
    return YuNetDetector(Path(model)) if model else CascadeDetector()


def overlap(one: Bounds, other: Bounds) -> float:
    """Intersection over union, from 0 to 1."""
    width = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
    height = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
    common = max(width, 0) * max(height, 0)
    return common / (one.width * one.height + other.width * other.height - common)


@cache
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())  # type: ignore[no-untyped-call]


def _windows(picture: NDArray[np.uint8]) -> list[Bounds]:
    """Every window that passes: a threshold above 1 keeps scikit-image from joining them."""
    side = min(picture.shape[:2])
    found = _cascade().detect_multi_scale(
        picture,
        scale_factor=_SCALE_STEP,
        step_ratio=1,
        min_size=(MIN_FACE_PX, MIN_FACE_PX),
        max_size=(side, side),
        min_neighbor_number=1,
        intersection_score_threshold=2.0,
    )
    return [Bounds(int(each["c"]), int(each["r"]), int(each["width"]), int(each["height"])) for each in found]


def _grouped(windows: Sequence[Bounds]) -> list[tuple[Bounds, int]]:
    """Windows that see the same, as their mean and how many they are."""
    groups: list[list[Bounds]] = []
    # Of one order whatever the number of threads.
    for window in sorted(windows, key=lambda each: (-each.width, each.y, each.x)):
        own = next((group for group in groups if overlap(_mean(group), window) > _SAME), None)
        if own is None:
            groups.append([window])
        else:
            own.append(window)
    return [(_mean(group), len(group)) for group in groups]


def _mean(group: Sequence[Bounds]) -> Bounds:
    x, y, width, height = np.mean([(each.x, each.y, each.width, each.height) for each in group], axis=0)
    return Bounds(round(x), round(y), round(width), round(height))


def _face_of(row: NDArray[np.float32], width: int, height: int) -> Face | None:
    """A row of YuNet's answer; None for a face that lies beyond the picture."""
    x, y = max(0, round(float(row[0]))), max(0, round(float(row[1])))
    right = min(width, round(float(row[0] + row[2])))
    bottom = min(height, round(float(row[1] + row[3])))
    if right <= x or bottom <= y:
        return None
    return Face(Bounds(x, y, right - x, bottom - y), float(row[14]))
