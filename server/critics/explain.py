"""Sentences for people, written from the figures and never changing them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from editcritic.v1 import critic_pb2 as pb

__all__ = ["KIND_WORDS", "UNIT_WORDS", "describe_defect", "figure_words", "summarise"]

KIND_WORDS: Mapping[pb.DefectKind.ValueType, str] = {
    pb.DEFECT_KIND_OUTSIDE_CHANGED: "the picture changed outside the mask",
    pb.DEFECT_KIND_SEAM: "seam",
    pb.DEFECT_KIND_COLOUR_SHIFT: "colour shift",
    pb.DEFECT_KIND_TONE_SHIFT: "tone shift",
    pb.DEFECT_KIND_LIGHT_MISMATCH: "light falls differently inside",
    pb.DEFECT_KIND_SHARPNESS_MISMATCH: "sharpness differs",
    pb.DEFECT_KIND_NOISE_MISMATCH: "grain differs",
    pb.DEFECT_KIND_COMPRESSION_MISMATCH: "compression blocks",
    pb.DEFECT_KIND_TEXTURE_REPEAT: "a patch stands twice",
    pb.DEFECT_KIND_FLAT_FILL: "flat fill",
    pb.DEFECT_KIND_BLACK_FILL: "black fill",
    pb.DEFECT_KIND_UNCHANGED: "nothing happened",
    pb.DEFECT_KIND_LEFTOVER: "leftovers of the source",
    pb.DEFECT_KIND_MELTED_TEXTURE: "melted texture",
    pb.DEFECT_KIND_WARPED_GEOMETRY: "bent shapes",
    pb.DEFECT_KIND_DUPLICATED_PART: "a part stands twice",
    pb.DEFECT_KIND_MISSING_PART: "a part is missing",
    pb.DEFECT_KIND_FOREIGN_CONTENT: "something foreign to the scene",
    pb.DEFECT_KIND_PROMPT_MISMATCH: "the prompt was not followed",
    pb.DEFECT_KIND_BANDING: "bands in smooth areas",
    pb.DEFECT_KIND_OVERSHARPENED: "halos of sharpening",
}

FIGURE_WORDS: Mapping[str, str] = {
    "outside_change_mean": "pixels there change by {value} beyond re-encoding",
    "outside_change_local": "pixels there change by up to {value} beyond re-encoding",
    "border_step": "brightness steps by {value}",
    "luma_step": "the inside differs in brightness by {value} right at the border",
    "colour_step": "the colour steps by {value}",
    "light_step_gradient": "the brightness step changes by {value} from side to side",
    "blur": "fine detail falls short of what such content has elsewhere by {value}",
    "sharpening": "fine detail exceeds what such content has elsewhere by {value}",
    "grain": "calm areas have more grain than such content has elsewhere by {value}",
    "grain_loss": "calm areas have less grain than such content has elsewhere by {value}",
    "blockiness": "steps on a grid of eight pixels exceed those off it by {value}",
    "repeated_share": "{value} of the inside stands again elsewhere",
    "flat_share": "{value} of the inside is one colour",
    "black_share": "{value} of the inside is black",
    "unchanged_share": "{value} of the inside still is the source",
    "rim_step": "brightness steps by {value} across the border",
    "inside_luma_difference": "the inside differs in brightness by {value} from its surroundings",
    "inside_red_green_difference": "the inside differs between red and green by {value}",
    "fine_detail_difference": "fine detail differs by {value} from the surroundings",
    "grid_step_difference": "steps on a grid differ by {value} from the surroundings",
    "map_share": "it shows in {value} of the inside",
    "phrase_probability": "the word is {value} likely",
    "source_correlation": "fine structure follows the source's with a correlation of {value}",
}

UNIT_WORDS: Mapping[str, str] = {"levels": "levels", "Lab units": "Lab units"}


def figure_words(measured: pb.Measurement) -> str:
    """A figure with what the same photograph shows elsewhere."""
    said = FIGURE_WORDS.get(measured.name, measured.name.replace("_", " ") + " {value}")
    words = said.format(value=_quantity(measured.value, measured.unit))
    if not measured.HasField("reference"):
        return words
    usual = _quantity(measured.reference, measured.unit)
    if abs(measured.value) <= abs(measured.reference):
        # What was seen is not what was measured, and the sentence must not claim that it is.
        return f"seen rather than measured: {words}, and the photo itself has {usual}"
    return f"{words} where the photo itself has {usual}"


def describe_defect(
    kind: pb.DefectKind.ValueType, place: str, evidence: Sequence[pb.Measurement], severity: float
) -> str:
    """One sentence: what, where, the figures, how grave."""
    head = KIND_WORDS.get(
        kind, pb.DefectKind.Name(kind).removeprefix("DEFECT_KIND_").lower().replace("_", " ")
    )
    where = f" {place}" if place else ""
    return f"{head}{where}: {figure_words(evidence[0])} (severity {severity:.1f})"


def summarise(defects: Sequence[pb.Defect], checked: Sequence[str], unjudged: Sequence[str]) -> str:
    """The verdict in plain sentences.

    Args:
        defects: gravest first.
        checked: what was looked at, in words.
        unjudged: what could not be judged, as sentences.
    """
    parts = [_capital(defect.explanation) + "." for defect in defects]
    if not defects and checked:
        verb = "is" if len(checked) == 1 else "are"
        parts = [f"No fault found: {_join(checked)} {verb} within what the photo itself shows elsewhere."]
    return " ".join([*parts, *unjudged])


def _quantity(value: float, unit: str) -> str:
    if unit == "fraction":
        return f"{100 * abs(value):.0f} %"
    if unit == "nepers":
        return f"a factor of {math.exp(abs(value)):.1f}"
    digits = 0 if abs(value) >= 9.95 else 1 if unit in UNIT_WORDS else 2
    number = f"{abs(value):.{digits}f}"
    return f"{number} {unit}" if unit in UNIT_WORDS else number


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _join(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
