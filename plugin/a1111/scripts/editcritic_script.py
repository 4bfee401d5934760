"""Judges every inpainted image of img2img and writes score and reason among its parameters.

By the interface of `modules.scripts.Script` (AUTOMATIC1111 wiki, "Developing custom scripts"). Written
against that interface and tested with a stand-in for it; not tried in the program.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import scripts

from editcritic.plugin.channels import DEFAULT_ADDRESS
from editcritic.plugin.client import Client, make_edit
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError

__all__ = ["EditCriticScript"]

_SCORE, _REASON = "Edit critic score", "Edit critic"


class EditCriticScript(scripts.Script):
    """Always visible in img2img; does nothing without a mask."""

    def title(self) -> str:
        """Name of the section."""
        return "Edit critic"

    def show(self, is_img2img: bool) -> Any:
        """Below img2img alone: there is nothing to compare a text-to-image picture with."""
        return scripts.AlwaysVisible if is_img2img else False

    def ui(self, is_img2img: bool) -> list[Any]:
        """The controls: whether to judge, and where the server is."""
        del is_img2img
        with gr.Accordion(self.title(), open=False):
            is_on = gr.Checkbox(label="Judge every inpainted image", value=False)
            address = gr.Textbox(label="Critic server (editcritic serve)", value=DEFAULT_ADDRESS)
        return [is_on, address]

    def process(self, p: Any, is_on: bool, address: str) -> None:
        """Forget what was said of an earlier job."""
        del is_on, address
        self.told: list[str] = []
        for name in (_SCORE, _REASON):
            p.extra_generation_params.pop(name, None)

    def postprocess_image(self, p: Any, pp: Any, is_on: bool, address: str) -> None:
        """Judge one finished image; a judge that fails is told and costs no image."""
        mask = getattr(p, "image_mask", None)
        if not is_on or mask is None:
            return
        try:
            critique = _critique(p, pp.image, mask, address)
        except EditCriticError as error:
            self._tell(p, None, f"not judged: {error}")
            return
        overall = critique.scores.overall
        is_scored = overall.status == pb.SCORE_STATUS_SCORED
        self._tell(p, overall.value if is_scored else None, critique.explanation)

    def postprocess(self, p: Any, processed: Any, is_on: bool, address: str) -> None:
        """Show below the gallery what was said of each image, in their order."""
        del p, address
        if is_on and self.told:
            lines = "\n".join(f"{number}. {line}" for number, line in enumerate(self.told, 1))
            processed.comments = "\n".join(filter(None, [getattr(processed, "comments", ""), lines]))

    def _tell(self, p: Any, score: float | None, reason: str) -> None:
        """Among the parameters that are saved with this image; a number of the image before never stays."""
        p.extra_generation_params.pop(_SCORE, None)
        if score is not None:
            p.extra_generation_params[_SCORE] = round(score, 1)
        p.extra_generation_params[_REASON] = reason
        self.told.append(reason if score is None else f"{score:.0f}: {reason}")


def _critique(p: Any, image: Any, mask: Any, address: str) -> pb.Critique:
    """Raises: EditCriticError."""
    # The web UI resizes the source to the working size as the picture is; so does this.
    source = p.init_images[0].convert("RGB").resize(image.size)
    marked = mask.convert("L").resize(image.size)
    if getattr(p, "inpainting_mask_invert", 0):
        marked = marked.point([255 - level for level in range(256)])
    with Client(address) as client:
        return client.critique(make_edit(source, marked, p.prompt), image.convert("RGB"))
