"""The node Sampler with Race: best of N, and whoever promises too little is stopped half-way."""

from __future__ import annotations

from typing import Any, ClassVar

from editcritic.plugin.editing import make_refine_request
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image

from . import host
from .addresses import CriticAddress, connected
from .loop_requests import SEEDS, first_edit, whole_request
from .scoring import shown
from .telling import as_json, facts, score_of
from .tensors import as_image_tensor
from .widgets import HIDDEN, judged, sampler_widgets, server_inputs, widget

__all__ = ["RaceSampler"]


class RaceSampler:
    """KSampler for several candidates that are judged while they form."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Samples several candidates and has their previews judged while they form. The first is always finished; of the"
        " others whoever promises too little is stopped half-way. Candidate i gets the noise that KSampler gives the"
        " i-th latent of a batch."
    )
    FUNCTION = "run"
    RETURN_TYPES = ("LATENT", "IMAGE", "LATENT", "FLOAT", "INT", "INT", "STRING", "STRING")
    RETURN_NAMES = ("best", "image", "finished", "score", "steps", "saved_steps", "report", "provenance")
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = (
        "The latent of the best candidate.",
        "The best candidate, decoded and laid over the source within the mask.",
        "Latents of all that were finished, best or not.",
        "Overall score of the best, 0 to 100; -1 where the critic could not judge.",
        "Denoising steps that were run.",
        "Denoising steps that finishing everybody would have taken beyond those.",
        "What happened, with the reason for each stop.",
        "The same as JSON, with critic and seeds.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        sampler = host.module("comfy.samplers").KSampler
        required = {
            "model": widget("MODEL", "What denoises."),
            "positive": widget("CONDITIONING", "What is wanted."),
            "negative": widget("CONDITIONING", "What is not."),
            "vae": widget("VAE", "Decodes what the critic sees."),
            "latent_image": widget(
                "LATENT",
                "With its noise mask. One latent is used for all candidates; of a batch each is one.",
            ),
            **judged(),
            "candidates": widget("INT", "How many, for one latent.", default=4, min=1, max=64),
            **sampler_widgets(sampler.SAMPLERS, sampler.SCHEDULERS),
        }
        own = {
            "method": widget(
                ["margin", "halving", "plain"],
                "margin: stop whoever promises too little. halving: stop by rank. plain: stop nobody.",
            ),
            "price": widget(
                "FLOAT",
                "Points of score that a candidate must promise for the steps of a whole one; higher stops more.",
                default=1.0,
                min=0.01,
                max=100.0,
                step=0.1,
            ),
        }
        return {"required": required, "optional": {**server_inputs(), **own}, "hidden": HIDDEN}

    def run(
        self,
        model: Any,
        positive: Any,
        negative: Any,
        vae: Any,
        latent_image: dict[str, Any],
        source: Any,
        mask: Any,
        prompt: str,
        candidates: int,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        denoise: float,
        server: CriticAddress | None = None,
        critic: str = "",
        method: str = "margin",
        price: float = 1.0,
        node_id: str | None = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        """Race. Raises: EditCriticError when no server answers or every candidate fails."""
        from .engine import ComfyEngine
        from .looping import run_loop, story
        from .provenance import loop_provenance
        from .sampling import Knobs
        from .setups import LatentSetup
        from .wording import Wording

        picture, hole = first_edit(source, mask)
        count = len(latent_image["samples"]) if len(latent_image["samples"]) > 1 else candidates
        first = seed % SEEDS
        asked = make_refine_request(
            picture,
            hole,
            prompt,
            candidates=count,
            seed=first,
            steps=steps,
            rounds=0,
            race=method,
            price=price,
        )
        request = whole_request(asked)
        engine = ComfyEngine(
            model,
            vae,
            Knobs(steps, cfg, sampler_name, scheduler, denoise),
            LatentSetup(latent_image, seed, first),
            Wording(positive, negative, prompt),
            host.Progress(count * steps),
        )
        with connected(server) as client:
            events = run_loop(client, engine, request, critic, "", node_id)
        told = loop_provenance(picture, hole, request, events)
        host.merged(extra_pnginfo, f"race {node_id}", told)
        result = events[-1].result
        lines = [
            *story(events),
            f"{result.evaluation_count} steps run, {result.saved_evaluation_count} saved",
        ]
        report = "\n".join(lines)
        outputs = (*_latents(engine.latents, result), report, as_json(told))
        return shown(report, [facts(result.critique)], outputs)


def _latents(latents: dict[int, Any], result: refine_pb2.RefineResult) -> tuple[Any, ...]:
    """The outputs up to the report. latents: of finished candidates by seed; a candidate is called by its seed."""
    best = latents[int(result.candidate_id.removeprefix("seed-"))]
    return (
        {"samples": best},
        as_image_tensor([decode_image(result.image)]),
        {"samples": host.module("torch").cat([latents[key] for key in sorted(latents)])},
        score_of(result.critique),
        int(result.evaluation_count),
        int(result.saved_evaluation_count),
    )
