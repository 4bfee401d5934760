"""The node Quality Gate: two ways out, and nothing is deleted."""

from __future__ import annotations

from typing import Any, ClassVar

from editcritic.v1.errors import InvalidInput

from . import host
from .best import fitting
from .scoring import shown
from .telling import NO_SCORE, Critiques, facts, reason_of, score_of
from .widgets import widget

__all__ = ["QualityGate", "read_indices"]


class QualityGate:
    """Sends each picture to one of two outputs."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Splits a batch by score into accepted and rejected pictures. Nothing is deleted, and your own word counts"
        " more: pictures named under `accept` or `reject` go there whatever their score."
    )
    FUNCTION = "run"
    OUTPUT_NODE = True
    RETURN_TYPES = ("IMAGE", "IMAGE", "INT", "INT", "STRING")
    RETURN_NAMES = ("accepted", "rejected", "accepted_count", "rejected_count", "report")
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = (
        "Pictures that reach the score. Nodes behind it do not run when there is none.",
        "The others. Nodes behind it do not run when there is none.",
        "How many were accepted.",
        "How many were rejected.",
        "A line for each picture: where it went, and why.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        return {
            "required": {
                "edited": widget("IMAGE", "The batch that was judged."),
                "critiques": widget(
                    "EDITCRITIC_CRITIQUES", "Of Critique Inpaint or Best of Batch over the same batch."
                ),
                "least_score": widget(
                    "FLOAT",
                    "Overall score from which a picture is accepted.",
                    default=60.0,
                    min=0.0,
                    max=100.0,
                ),
                "unscored": widget(
                    ["reject", "accept"], "Where pictures go on which the critic abstained or failed."
                ),
                "override": widget(
                    ["by score", "accept all", "reject all"], "Your own word for the whole batch."
                ),
                "accept": widget(
                    "STRING", "Indices from 0 that are accepted whatever their score, as in 0,2.", default=""
                ),
                "reject": widget(
                    "STRING", "Indices from 0 that are rejected whatever their score.", default=""
                ),
            },
            "hidden": {"node_id": "UNIQUE_ID"},
        }

    @classmethod
    def VALIDATE_INPUTS(cls, accept: str, reject: str) -> bool | str:
        """Refuse what is no list of indices before anything runs."""
        try:
            both = read_indices(accept) & read_indices(reject)
        except InvalidInput as error:
            return str(error)
        return f"picture {min(both)} is under accept and under reject" if both else True

    def run(
        self,
        edited: Any,
        critiques: Critiques,
        least_score: float,
        unscored: str,
        override: str,
        accept: str,
        reject: str,
        node_id: str | None = None,
    ) -> dict[str, Any]:
        """Split. Raises: InvalidInput when the critiques are of another batch."""
        outcomes = fitting(critiques, len(edited))
        by_hand = {**dict.fromkeys(read_indices(accept), True), **dict.fromkeys(read_indices(reject), False)}
        good, lines = [], []
        for index, outcome in enumerate(outcomes):
            passes, why = _decided(score_of(outcome), least_score, unscored, override)
            if index in by_hand:
                passes, why = by_hand[index], "your word"
            good.append(passes)
            lines.append(f"{index}: {'accepted' if passes else 'rejected'} ({why}) {reason_of(outcome)}")
        accepted = [index for index, passes in enumerate(good) if passes]
        rejected = [index for index, passes in enumerate(good) if not passes]
        host.send("gate", node_id, accepted=accepted)
        badges = [{**facts(each), "accepted": passes} for each, passes in zip(outcomes, good, strict=True)]
        report = "\n".join(lines)
        result = (_part(edited, accepted), _part(edited, rejected), len(accepted), len(rejected), report)
        return shown(report, badges, result)


def _decided(score: float, least: float, unscored: str, override: str) -> tuple[bool, str]:
    """Whether a picture passes, and why, before anybody has named it."""
    if override != "by score":
        return override == "accept all", override
    if score == NO_SCORE:
        return unscored == "accept", "no score"
    return score >= least, f"{score:.0f}, {least:.0f} wanted"


def read_indices(text: str) -> set[int]:
    """Indices of a text as in "0, 2". Raises: InvalidInput for anything else."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise InvalidInput(f"{text!r} is no list of indices; expected numbers from 0 with commas, as in 0,2")
    return {int(part) for part in parts}


def _part(images: Any, indices: list[int]) -> Any:
    return images[indices] if indices else host.blocked()
