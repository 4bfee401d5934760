"""Nodes for ComfyUI: this folder, linked or copied into `custom_nodes`, is the node pack.

Nothing of ComfyUI and no torch is imported before a node is used, so the commands may import this package too.
"""

from __future__ import annotations

import sys

try:
    import editcritic.plugin.client  # noqa: F401 - asked for here, to say what to install
except ModuleNotFoundError as error:  # pragma: no cover - the tests have it
    raise ImportError(
        f"the editcritic nodes need the package editcritic in ComfyUI's own Python ({error.name} is missing). "
        f"Install it: {sys.executable} -m pip install editcritic"
    ) from error

from .best import BestOfBatch
from .critic_server import CriticServer
from .critique import CritiqueInpaint
from .gate import QualityGate
from .race import RaceSampler
from .refine import RefineInpaint

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "WEB_DIRECTORY"]

NODE_CLASS_MAPPINGS = {
    "EditCriticServer": CriticServer,
    "EditCriticCritique": CritiqueInpaint,
    "EditCriticBest": BestOfBatch,
    "EditCriticGate": QualityGate,
    "EditCriticRaceSampler": RaceSampler,
    "EditCriticRefine": RefineInpaint,
}
"""Nodes by the name that a saved workflow has; never rename one."""

NODE_DISPLAY_NAME_MAPPINGS = {
    "EditCriticServer": "Critic Server",
    "EditCriticCritique": "Critique Inpaint",
    "EditCriticBest": "Best of Batch",
    "EditCriticGate": "Quality Gate",
    "EditCriticRaceSampler": "Sampler with Race",
    "EditCriticRefine": "Refine Inpaint",
}
"""What people read."""

WEB_DIRECTORY = "./web"
"""The extension of the page that shows score and reason on a node."""
