"""Another wording of the same wish, for engines that read only half of it."""

from __future__ import annotations

from editcritic.refine.capabilities import Capabilities

__all__ = ["reworded"]


def reworded(prompt: str, able: Capabilities, attempt: int) -> str | None:
    """The prompt said differently for the n-th attempt (from 0), or None when nothing is left to try.

    Engines that follow commands are told what to put where, the others get a fuller description of the same thing. A
    closed vocabulary is never left: there only the order of the words changes.
    """
    words = prompt.split()
    if not words:
        return None
    if able.words:
        turned = " ".join(reversed(words))
        return turned if attempt == 0 and turned != prompt else None
    if able.instruction:
        commands = (
            f"Replace the marked region with {prompt}.",
            f"In the marked region there is now {prompt}.",
        )
        return commands[attempt] if attempt < len(commands) else None
    descriptions = (f"{prompt}, in clear view", f"a photograph of {prompt}, whole, in focus")
    return descriptions[attempt] if attempt < len(descriptions) else None
