"""How many tokens a text has for an engine, so that what does not fit is cut by choice and not by the tokenizer."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["TokenCounter", "estimated_tokens", "token_counter"]

TokenCounter: TypeAlias = Callable[[str], int]

_PIECES = re.compile(r"[a-z]+|[^\W_]|[^\w\s]", re.IGNORECASE)
_LETTERS_OF_A_TOKEN = 6


def estimated_tokens(text: str) -> int:
    """Tokens of a text without a tokenizer, marks of begin and end included; rather too many than too few.

    A Latin word has a token for each six letters begun; a letter of other scripts, a digit and a mark have one each.
    """
    return 2 + sum(math.ceil(len(piece) / _LETTERS_OF_A_TOKEN) for piece in _PIECES.findall(text))


def token_counter(engine: Any) -> TokenCounter:
    """Counts by the engine's own tokenizer, the one that reads furthest; by estimate where it has none."""
    pipeline = getattr(engine, "pipeline", None)
    found = [getattr(pipeline, name, None) for name in ("tokenizer", "tokenizer_2", "tokenizer_3")]
    tokenizers = [each for each in found if each is not None]
    if not tokenizers:
        return estimated_tokens
    reader = max(tokenizers, key=lambda each: int(each.model_max_length))

    def count(text: str) -> int:
        return len(reader(text, truncation=False, verbose=False)["input_ids"])

    return count
