"""The node Critique Inpaint: how good, where wrong, and why."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.overlay import overlay_heat_map
from editcritic.v1 import critic_pb2 as pb

from . import host
from .addresses import CriticAddress
from .judging import Batch, Outcome, read_batch
from .scoring import judge_with_progress, shown
from .segs import segments
from .telling import Critiques, as_json, defect_mask, facts, reason_of, score_of, summary
from .tensors import as_image_tensor, as_mask_tensor, pick
from .widgets import HIDDEN, edited, judged, server_inputs, widget

__all__ = ["CritiqueInpaint"]


class CritiqueInpaint:
    """Judges inpainted pictures."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Judges inpainted pictures against the source: a score, the reason in words, a heat map, and the defects as a"
        " mask and as SEGS for the detailers of Impact Pack."
    )
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("FLOAT", "STRING", "IMAGE", "MASK", "SEGS", "EDITCRITIC_CRITIQUES", "STRING")
    RETURN_NAMES = ("score", "reason", "heat_map", "defects", "segs", "critiques", "details")
    OUTPUT_IS_LIST = (True, True, False, False, True, False, False)
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = (
        "Overall score 0 to 100, one for each picture; -1 where the critic could not judge.",
        "The verdict in plain sentences, one for each picture.",
        "The pictures with the faults painted over them.",
        "Where faults of at least `severity` are.",
        "The defects for detailers, one SEGS for each picture.",
        "For Quality Gate and Best of Batch, which then need not ask again.",
        "Everything as JSON: all scores, defects with boxes, critic and version.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        own = {
            "blend_mask": widget("MASK", "How the edit was blended in, where that is another mask."),
            "severity": widget(
                "FLOAT", "Least severity for mask and SEGS.", default=0.3, min=0.0, max=1.0, step=0.05
            ),
            "crop_factor": widget(
                "FLOAT", "Side of a SEGS crop over its defect.", default=2.0, min=1.0, max=10.0, step=0.1
            ),
            "max_defects": widget(
                "INT", "Most defects of one picture, gravest first.", default=16, min=1, max=64
            ),
        }
        required = {**judged(), "edited": edited()}
        return {"required": required, "optional": {**server_inputs(), **own}, "hidden": HIDDEN}

    def run(
        self,
        source: Any,
        mask: Any,
        prompt: str,
        edited: Any,
        server: CriticAddress | None = None,
        critic: str = "",
        blend_mask: Any = None,
        severity: float = 0.3,
        crop_factor: float = 2.0,
        max_defects: int = 16,
        node_id: str | None = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        """Judge. Raises: EditCriticError for inputs that do not fit, and when no server answers."""
        batch = read_batch(source, mask, edited, prompt, blend_mask)
        outcomes = judge_with_progress(
            batch, server, node_id, critic=critic, heat_map=True, max_defects=max_defects
        )
        told = [facts(each) for each in outcomes]
        host.merged(extra_pnginfo, f"critique {node_id}", told)
        masks = [defect_mask(each, _size(batch, index), severity) for index, each in enumerate(outcomes)]
        result = (
            [score_of(each) for each in outcomes],
            [reason_of(each) for each in outcomes],
            as_image_tensor([_painted(batch, index, each) for index, each in enumerate(outcomes)]),
            as_mask_tensor(masks),
            [
                segments(each, where, severity, crop_factor)
                for each, where in zip(outcomes, masks, strict=True)
            ],
            Critiques(tuple(outcomes)),
            as_json(told),
        )
        return shown(summary(outcomes), told, result)


def _size(batch: Batch, index: int) -> tuple[int, int]:
    """Height and width of the source: boxes and maps are in its pixels."""
    height, width = pick(batch.sources, index).shape[:2]
    return height, width


def _painted(batch: Batch, index: int, outcome: Outcome) -> NDArray[np.uint8]:
    picture, mask = batch.edited[index], pick(batch.masks, index)
    if picture.shape[:2] != mask.shape:
        picture = pick(batch.sources, index)
    has_map = isinstance(outcome, pb.Critique) and outcome.heat_maps
    return overlay_heat_map(picture, outcome.heat_maps[0] if has_map else None, mask)  # type: ignore[union-attr]
