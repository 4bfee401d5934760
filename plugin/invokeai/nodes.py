"""The node *Critique Inpaint*, by InvokeAI's invocation API (https://invoke-ai.github.io/InvokeAI/nodes/invocation-api).

Written against the documented interface and tested with a stand-in for it; not tried in the program.
"""

from __future__ import annotations

import numpy as np
from invokeai.invocation_api import (
    BaseInvocation,
    BaseInvocationOutput,
    ImageField,
    InputField,
    InvocationContext,
    OutputField,
    WithBoard,
    WithMetadata,
    invocation,
    invocation_output,
)
from PIL import Image

from editcritic.plugin.channels import DEFAULT_ADDRESS
from editcritic.plugin.client import Client, make_edit
from editcritic.plugin.overlay import overlay_heat_map
from editcritic.v1 import critic_pb2 as pb

__all__ = ["CritiqueInpaintInvocation", "CritiqueInpaintOutput"]


@invocation_output("editcritic_critique_output")
class CritiqueInpaintOutput(BaseInvocationOutput):
    """What the critic says of one inpaint."""

    image: ImageField = OutputField(description="The judged image, its scores among the metadata")
    heat_map: ImageField = OutputField(description="The judged image with its faults marked")
    score: float | None = OutputField(description="Overall score, 0 to 100; empty when the critic abstained")
    accepted: bool = OutputField(
        description="Whether the score reaches the threshold; false on an abstention"
    )
    reason: str = OutputField(description="Why, in words")


@invocation(
    "editcritic_critique",
    title="Critique Inpaint",
    tags=["inpaint", "quality", "score"],
    category="image",
    version="1.0.0",
)
class CritiqueInpaintInvocation(BaseInvocation, WithMetadata, WithBoard):
    """Judges an inpainted region against its source: a score, where it is wrong, and why."""

    source: ImageField = InputField(description="The image before the edit")
    mask: ImageField = InputField(description="White where the engine was free")
    candidate: ImageField = InputField(description="The inpainted image")
    prompt: str = InputField(default="", description="What was asked for; empty for a removal")
    threshold: float = InputField(
        default=60.0, ge=0, le=100, description="Score from which on it is accepted"
    )
    address: str = InputField(default=DEFAULT_ADDRESS, description="host:port of `editcritic serve`")

    def invoke(self, context: InvocationContext) -> CritiqueInpaintOutput:
        """Ask the server. Raises: EditCriticError, whose text InvokeAI shows."""
        names = (self.source.image_name, self.mask.image_name, self.candidate.image_name)
        source, mask, candidate = (context.images.get_pil(name) for name in names)
        with Client(self.address) as client:
            edit = make_edit(source.convert("RGB"), mask.convert("L"), self.prompt)
            critique = client.critique(edit, candidate.convert("RGB"), heat_map=True)
        overall = critique.scores.overall
        is_scored = overall.status == pb.SCORE_STATUS_SCORED
        heat_map = next(iter(critique.heat_maps), None)
        painted = overlay_heat_map(np.asarray(candidate.convert("RGB")), heat_map)
        if self.metadata is not None:
            # InvokeAI embeds these in whatever the node saves.
            self.metadata.root["editcritic"] = _told(critique)
        kept, marked = (context.images.save(each) for each in (candidate, Image.fromarray(painted)))
        return CritiqueInpaintOutput(
            image=ImageField(image_name=kept.image_name),
            heat_map=ImageField(image_name=marked.image_name),
            score=overall.value if is_scored else None,
            accepted=is_scored and overall.value >= self.threshold,
            reason=critique.explanation,
        )


def _told(critique: pb.Critique) -> dict[str, object]:
    overall = critique.scores.overall
    return {
        "critic": critique.critic.name,
        "version": critique.critic.version,
        "score": overall.value if overall.status == pb.SCORE_STATUS_SCORED else None,
        "reason": critique.explanation,
    }
