"""The node Refine Inpaint: the whole loop with the graph's own model."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from editcritic.plugin.client import Client
from editcritic.plugin.editing import make_refine_request
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError
from editcritic.v1.images import decode_image

from . import host
from .addresses import CriticAddress, connected
from .judging import Batch, judge
from .loop_requests import SEEDS, first_edit, whole_request
from .scoring import shown
from .telling import as_json, facts, reason_of, score_of
from .tensors import as_image_tensor, read_images
from .widgets import HIDDEN, judged, sampler_widgets, server_inputs, widget

__all__ = ["RefineInpaint"]


class RefineInpaint:
    """Samples, has it judged, mends, and hands back the best."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Inpaints with your own model: several candidates are raced, the best is mended where the critic finds fault,"
        " and every change is judged anew and kept only when it is a gain. Works on a crop round the mask and lays it"
        " over the source; outside the mask nothing changes."
    )
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING", "BOOLEAN", "STRING", "STRING")
    RETURN_NAMES = ("image", "score", "reason", "is_new", "report", "provenance")
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = (
        "The best edit; the picture at `edited` when nothing beat it.",
        "Its overall score, 0 to 100; -1 where the critic could not judge.",
        "The critic's verdict on it.",
        "False when the picture at `edited` was kept.",
        "What was tried, kept and rolled back, and why.",
        "The same as JSON, with critics and seed.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        sampler = host.module("comfy.samplers").KSampler
        required = {
            "model": widget("MODEL", "What denoises."),
            "positive": widget("CONDITIONING", "What is wanted."),
            "negative": widget("CONDITIONING", "What is not."),
            "vae": widget("VAE", "Encodes the crop and decodes the answers."),
            **judged(),
            "candidates": widget("INT", "First answers to choose from.", default=4, min=1, max=64),
            "max_tries": widget("INT", "Repairs that cost denoising, at most.", default=2, min=0, max=4),
            "max_seconds": widget(
                "FLOAT", "Time for all of it; 0 for no limit.", default=0.0, min=0.0, max=86400.0
            ),
            "target": widget("FLOAT", "Overall score at which to stop.", default=80.0, min=0.0, max=100.0),
            **sampler_widgets(sampler.SAMPLERS, sampler.SCHEDULERS),
        }
        own = {
            "edited": widget("IMAGE", "An edit that you have: it is kept unless something beats it."),
            "clip": widget("CLIP", "Lets repairs word the prompt anew."),
            "acceptance": widget(
                "STRING",
                "Critic that has to agree to every change: a name, none, or auto (`evidence` where there is one).",
                default="auto",
            ),
            "working_size": widget(
                "INT",
                "Side of the working crop in pixels; 0 by the model.",
                default=0,
                min=0,
                max=4096,
                step=16,
            ),
            "context": widget(
                "FLOAT", "Side of the crop over the mask's.", default=2.0, min=1.0, max=8.0, step=0.1
            ),
        }
        return {"required": required, "optional": {**server_inputs(), **own}, "hidden": HIDDEN}

    def run(
        self,
        model: Any,
        positive: Any,
        negative: Any,
        vae: Any,
        source: Any,
        mask: Any,
        prompt: str,
        candidates: int,
        max_tries: int,
        max_seconds: float,
        target: float,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        server: CriticAddress | None = None,
        critic: str = "",
        edited: Any = None,
        clip: Any = None,
        acceptance: str = "auto",
        working_size: int = 0,
        context: float = 2.0,
        node_id: str | None = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        """Refine. Raises: EditCriticError when no server answers or every candidate fails."""
        from .engine import ComfyEngine
        from .looping import acceptance_critic, check_installed, run_loop, story
        from .provenance import loop_provenance
        from .sampling import Knobs
        from .setups import CropSetup
        from .wording import Wording

        check_installed()
        picture, hole = first_edit(source, mask)
        asked = make_refine_request(
            picture,
            hole,
            prompt,
            candidates=candidates,
            seed=seed % SEEDS,
            steps=steps,
            rounds=max_tries,
            target=target,
            max_seconds=max_seconds,
        )
        request = whole_request(asked)
        engine = ComfyEngine(
            model,
            vae,
            Knobs(steps, cfg, sampler_name, scheduler, denoise),
            CropSetup(working_size, context),
            Wording(positive, negative, prompt, clip=clip),
            host.Progress((candidates + max_tries) * steps),
        )
        with connected(server) as client:
            before = None if edited is None else _judged(client, picture, hole, edited, prompt, critic)
            other = acceptance_critic(client, acceptance, critic)
            events = run_loop(client, engine, request, critic, other, node_id)
        told, lines = loop_provenance(picture, hole, request, events), story(events)
        result = events[-1].result
        image, critique, is_new = as_image_tensor([decode_image(result.image)]), result.critique, True
        if before is not None:
            is_new, why = _beats(before, critique)
            lines.append(f"{'replaces' if is_new else 'kept'} the edit that came: {why}")
            told["came_with"] = {**facts(before), "kept": not is_new, "why": why}
            image, critique = (image, critique) if is_new else (edited[:1], before)
        host.merged(extra_pnginfo, f"refine {node_id}", told)
        report = "\n".join(lines)
        outputs = (image, score_of(critique), reason_of(critique), is_new, report, as_json(told))
        return shown(report, [facts(critique)], outputs)


def _judged(
    client: Client,
    source: NDArray[np.uint8],
    mask: NDArray[np.float32],
    edited: Any,
    prompt: str,
    critic: str,
) -> pb.Critique:
    """The critique of the edit that came."""
    batch = Batch([source], [mask], read_images(edited)[:1], [], prompt)
    outcome = judge(client, batch, lambda _index, _outcome: None, critic=critic)[0]
    if isinstance(outcome, EditCriticError):
        raise outcome
    return outcome


def _beats(before: pb.Critique, after: pb.Critique) -> tuple[bool, str]:
    """Whether the new edit replaces the one that came: only on a gain beyond the critic's doubt."""
    from editcritic.refine.acceptance import is_better, scored

    if not scored(before):
        return True, "the critic could not judge it"
    verdict = is_better(before, after)
    return verdict.keep, verdict.reason
