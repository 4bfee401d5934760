"""The figures at which a finding is called a defect, found on the training photographs.

Together the thresholds let about one clean control in twenty pass as faulty where half of the masks are object masks
drawn by people, and one in a hundred with boxes, ellipses and strokes: an object differs from its background in
sharpness and grain, and its contour steps, although nobody edited it. Within that, each kind got the share of false
alarms that buys it the most detections. docs/evidence.md has the figures on photographs that no threshold was chosen
on; `editcritic.server.training.thresholds` shows where the thresholds stand.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BAND_LEVELS",
    "BLOCKINESS_Z",
    "BLUR_NEPERS",
    "CALIBRATION",
    "COLOUR_STEP_Z",
    "FILL_SHARE",
    "GRAIN_NEPERS",
    "LEFTOVER_Z",
    "LIGHT_STEP_Z",
    "OUTSIDE_LEAK",
    "OUTSIDE_LOCAL",
    "REPEAT_SIDE_PX",
    "SEAM_Z",
    "SHARPEN_NEPERS",
    "TONE_STEP_Z",
    "UNCHANGED_SHARE",
]

CALIBRATION: Final = "train-5"

SEAM_Z: Final = 7.2
TONE_STEP_Z: Final = 10.5
COLOUR_STEP_Z: Final = 14.0
LIGHT_STEP_Z: Final = 8.5
BLUR_NEPERS: Final = 0.6
SHARPEN_NEPERS: Final = 0.82
GRAIN_NEPERS: Final = 0.44
BLOCKINESS_Z: Final = 5.0
LEFTOVER_Z: Final = 7.5
REPEAT_SIDE_PX: Final = 24.0
FILL_SHARE: Final = 0.24
UNCHANGED_SHARE: Final = 0.3
BAND_LEVELS: Final = 2.0
OUTSIDE_LEAK: Final = 0.25
OUTSIDE_LOCAL: Final = 3.0
