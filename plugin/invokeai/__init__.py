"""A node pack for InvokeAI: copy or link this folder into InvokeAI's `nodes` folder. See docs/others.md."""

from editcritic.plugin.invokeai.nodes import CritiqueInpaintInvocation, CritiqueInpaintOutput

__all__ = ["CritiqueInpaintInvocation", "CritiqueInpaintOutput"]
