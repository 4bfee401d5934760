"""The node Best of Batch: the candidates in order, and the best of them."""

from __future__ import annotations

from typing import Any, ClassVar

from editcritic.v1.errors import InvalidInput

from . import host
from .addresses import CriticAddress
from .judging import Outcome, read_batch
from .provenance import batch_provenance
from .scoring import judge_with_progress, shown
from .telling import Critiques, as_json, by_rank, facts, score_of, summary
from .widgets import HIDDEN, edited, judged, server_inputs, widget

__all__ = ["BestOfBatch", "fitting"]


class BestOfBatch:
    """Chooses among the candidates of one edit."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Judges all candidates of a batch in one call and hands on the best, the whole batch in order, and the indices"
        " of the best for the `pick_list` of Image Filter (cg-image-filter), which leaves the last word to you."
    )
    FUNCTION = "run"
    RETURN_TYPES = ("IMAGE", "STRING", "FLOAT", "IMAGE", "STRING", "EDITCRITIC_CRITIQUES")
    RETURN_NAMES = ("best", "pick_list", "scores", "sorted", "provenance", "critiques")
    OUTPUT_IS_LIST = (False, False, True, False, False, False)
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = (
        "The best `keep` pictures, best first.",
        "Their indices in the batch that came, from `first_index`, as text with commas.",
        "Overall scores in the order of the batch that came; -1 where the critic could not judge.",
        "All pictures, best first; those without a score stand last.",
        "What was judged, by whom, and why the best is the best, as JSON.",
        "For Quality Gate; in the order of the batch that came.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        own = {
            "critiques": widget(
                "EDITCRITIC_CRITIQUES",
                "Of a Critique Inpaint node over the same batch; then nothing is asked.",
            )
        }
        required = {
            **judged(),
            "edited": edited(),
            "keep": widget("INT", "How many of the best to hand on.", default=1, min=1, max=64),
            "first_index": widget(
                "INT", "Index of the first picture in `pick_list`.", default=0, min=0, max=1
            ),
        }
        return {"required": required, "optional": {**server_inputs(), **own}, "hidden": HIDDEN}

    def run(
        self,
        source: Any,
        mask: Any,
        prompt: str,
        edited: Any,
        keep: int,
        first_index: int,
        server: CriticAddress | None = None,
        critic: str = "",
        critiques: Critiques | None = None,
        node_id: str | None = None,
        extra_pnginfo: Any = None,
    ) -> dict[str, Any]:
        """Judge and order. Raises: EditCriticError for inputs that do not fit, and when no server answers."""
        batch = read_batch(source, mask, edited, prompt)
        if critiques is not None:
            outcomes = fitting(critiques, len(batch.edited))
        else:
            outcomes = judge_with_progress(batch, server, node_id, critic=critic)
        order = by_rank(outcomes)
        chosen = order[:keep]
        told = batch_provenance(batch, outcomes, order, chosen)
        host.merged(extra_pnginfo, f"best {node_id}", told)
        result = (
            edited[chosen],
            ",".join(str(index + first_index) for index in chosen),
            [score_of(each) for each in outcomes],
            edited[order],
            as_json(told),
            Critiques(tuple(outcomes)),
        )
        return shown(_told(outcomes, order), [facts(outcomes[index]) for index in order], result)


def fitting(critiques: Critiques, count: int) -> list[Outcome]:
    """The outcomes of a batch of that length. Raises: InvalidInput when they are of another one."""
    if len(critiques.outcomes) != count:
        raise InvalidInput(
            f"there are {len(critiques.outcomes)} critiques and {count} pictures; connect the critiques of this batch."
        )
    return list(critiques.outcomes)


def _told(outcomes: list[Outcome], order: list[int]) -> str:
    lines = summary(outcomes).split("\n")
    return "\n".join(["best first:", *[lines[index] for index in order]])
