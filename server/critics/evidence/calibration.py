"""The figures at which a finding is called a defect, found on the training photographs.

Together the thresholds let one clean control in twenty-five pass as faulty; within that, each kind got the share
of false alarms that buys it the most detections. The steps' thresholds look high for z-scores because human
object masks follow real contours, where a clean photograph steps as well. docs/evidence.md has the figures on
photographs that no threshold was chosen on; `editcritic.server.training.thresholds` shows where they stand.
"""

from __future__ import annotations

from typing import Final

__all__ = [
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

CALIBRATION: Final = "train-2"

SEAM_Z: Final = 7.2
TONE_STEP_Z: Final = 20.0
COLOUR_STEP_Z: Final = 28.0
LIGHT_STEP_Z: Final = 8.5
BLUR_NEPERS: Final = 0.6
SHARPEN_NEPERS: Final = 0.78
GRAIN_NEPERS: Final = 0.75
BLOCKINESS_Z: Final = 5.0
LEFTOVER_Z: Final = 7.5
REPEAT_SIDE_PX: Final = 24.0
FILL_SHARE: Final = 0.24
UNCHANGED_SHARE: Final = 0.3
OUTSIDE_LEAK: Final = 0.25
OUTSIDE_LOCAL: Final = 3.0
