"""What a multimodal model is asked. First the difference, then the judgement: else the source's beauty is rated."""

from __future__ import annotations

from collections.abc import Mapping

from editcritic.server.critics.explain import KIND_WORDS
from editcritic.server.critics.multimodal.levels import LEVELS
from editcritic.v1 import critic_pb2 as pb

__all__ = ["BEGIN", "CLAIMED_KINDS", "fault_question", "rating_question"]

BEGIN = "Rating:\n"
"""How the answer to a rating begins; the word follows on its own line."""

CLAIMED_KINDS: tuple[pb.DefectKind.ValueType, ...] = tuple(
    kind
    for kind in KIND_WORDS
    if kind not in (pb.DEFECT_KIND_OUTSIDE_CHANGED, pb.DEFECT_KIND_UNCHANGED, pb.DEFECT_KIND_PROMPT_MISMATCH)
)
"""Kinds that a model may claim; the others are measured or scored."""

_SHOWN = (
    "Picture 1 is a part of a photograph before an edit. Picture 2 is the same part after it. Picture 3 is picture 2"
    " with the edited region outlined in magenta. Picture 4 is the whole photograph after the edit, the region"
    " outlined. Compare picture 1 with picture 2 first: only the outlined region was to change."
)
_ASKED: Mapping[pb.Dimension.ValueType, str] = {
    pb.DIMENSION_NATURALNESS: (
        "How natural is what stands inside the outline in picture 2: real textures, whole and plausible shapes,"
        " nothing melted, doubled or missing?"
    ),
    pb.DIMENSION_HARMONY: (
        "How well does the inside of the outline fit its surroundings in picture 2: no seam along the outline, the"
        " same light, colour, sharpness and grain?"
    ),
    pb.DIMENSION_PROMPT_ALIGNMENT: (
        "The edit was asked for with the words between the lines.\n---\n{prompt}\n---\nHow completely does the inside"
        " of the outline in picture 2 show what these words ask for?"
    ),
}


def rating_question(dimension: pb.Dimension.ValueType, prompt: str = "") -> str:
    """The question for one score; its answer is one word of `LEVELS`."""
    asked = _ASKED[dimension].replace("{prompt}", prompt.strip())
    return f"{_SHOWN}\n{asked}\nAnswer with one word: {', '.join(LEVELS)}."


def fault_question() -> str:
    """The question for faults with places and reasons, to be answered in JSON."""
    kinds = ", ".join(
        f"{pb.DefectKind.Name(kind).removeprefix('DEFECT_KIND_')} ({KIND_WORDS[kind]})"
        for kind in CLAIMED_KINDS
    )
    return (
        f"{_SHOWN}\nName the faults that you see inside the outline of picture 2, and nothing that you do not see."
        ' Answer with JSON only: {"faults": [{"kind": "...", "box": [left, top, right, bottom], "why": "..."}]}.'
        " Boxes are in thousandths of picture 2. An edit without a fault is answered with an empty list."
        f" Kinds: {kinds}."
    )
