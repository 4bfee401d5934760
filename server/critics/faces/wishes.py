"""Whether a prompt asks for a face: then one that is redrawn need not stay the source's own."""

from __future__ import annotations

import re

__all__ = ["asks_for_face"]

_PEOPLE = re.compile(
    r"\b(faces?|heads?|portraits?|persons?|people|m[ae]n|wom[ae]n|boys?|girls?|child|children|kids?|bab(y|ies)"
    r"|lad(y|ies)|guys?|gentlem[ae]n|humans?|adults?|teenagers?|actors?|actress|astronauts?|soldiers?|doctors?|nurses?"
    r"|kings?|queens?|brides?|grooms?|mothers?|fathers?|daughters?|sons?|sisters?|brothers?|crowds?|couples?"
    r"|smil(e|es|ing)|eyes?|mouths?|noses?|lips?|beards?|mou?stache|makeup|expressions?|selfie|he|she|him|her|his)\b"
)


def asks_for_face(prompt: str) -> bool:
    """Whether it names a person, or a part of a face."""
    return _PEOPLE.search(prompt.lower()) is not None
