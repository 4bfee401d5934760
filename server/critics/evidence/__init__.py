"""Measured evidence: a critic without weights.

One module for each family of measurements; each knows what the same photograph does elsewhere::

    scene          crop, regions, references: once for an edit
    preservation   pixels outside the mask
    border, steps, seam   profiles across the border: seam, tone, colour, light
    detail         sharpness and grain
    compression    blocks
    repeats        patches that stand twice
    fill           flat, black, unchanged
    leftovers      structure of the source
    finding, calibration, verdict, actions   figures -> severity -> scores and advice
"""

from editcritic.server.critics.evidence.critic import EvidenceCritic

__all__ = ["EvidenceCritic"]
