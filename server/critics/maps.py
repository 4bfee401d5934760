"""Severity per pixel, as pictures on the wire."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import encode_image

__all__ = ["DEFAULT_MAX_SIDE", "heat_map"]

DEFAULT_MAX_SIDE = 256
_LIMITS = (16, 1024)


def heat_map(
    kind: pb.DefectKind.ValueType, severity: NDArray[np.floating], region: pb.Box, options: pb.CritiqueOptions
) -> pb.HeatMap:
    """A map as a message: one 8-bit channel, PNG, no side longer than the options ask for.

    Args:
        kind: the kind shown; UNSPECIFIED for all joined.
        severity: (h, w) in [0, 1]; what is not finite counts as 0.
        region: the part of the source that it covers.
        options: `heat_map_max_side` is read; 0 means 256.
    """
    limit = int(np.clip(options.heat_map_max_side or DEFAULT_MAX_SIDE, *_LIMITS))
    levels = np.round(np.clip(np.nan_to_num(severity), 0.0, 1.0) * 255).astype(np.uint8)
    height, width = levels.shape
    scale = limit / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        levels = np.asarray(cv2.resize(levels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pb.HeatMap(kind=kind, region=region, image=encode_image(levels))
