"""Conditioning for other prompts than the graph's own."""

from __future__ import annotations

from typing import Any

from editcritic.v1.errors import InvalidInput

__all__ = ["Wording"]


class Wording:
    """The graph's conditioning, and with a CLIP that of any other text.

    Args:
        positive, negative: CONDITIONING of the graph. prompt, unwanted: what they were made of. clip: or None.
    """

    def __init__(
        self, positive: Any, negative: Any, prompt: str, unwanted: str = "", clip: Any = None
    ) -> None:
        self._own = positive, negative
        self._texts = prompt, unwanted
        self._clip = clip

    @property
    def can_reword(self) -> bool:
        """Whether other prompts can be encoded."""
        return self._clip is not None

    def conditioning(self, prompt: str, unwanted: str) -> tuple[Any, Any]:
        """For both texts; the graph's own where they are its own. Raises: InvalidInput without a CLIP."""
        asked = prompt, unwanted
        return self._encoded(0, asked[0]), self._encoded(1, asked[1])

    def _encoded(self, place: int, text: str) -> Any:
        if text == self._texts[place]:
            return self._own[place]
        if self._clip is None:
            raise InvalidInput("another prompt needs a CLIP: connect the one that encoded the first.")
        made = self._clip.encode_from_tokens_scheduled(self._clip.tokenize(text))
        # ControlNets, areas and the like stay; what the encoder itself gives is its own.
        kept = self._own[place][0][1] if self._own[place] else {}
        return [[tensor, {**kept, **extra}] for tensor, extra in made]
