"""The critics of this server, by name.

To add one: a module, one line here, one test. CONTRIBUTING.md walks through it.
"""

from __future__ import annotations

import importlib

from editcritic.server.critics.base import Critic
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import NotFound

__all__ = ["CRITICS", "load_critic"]

CRITICS = {
    "evidence": "editcritic.server.critics.evidence:EvidenceCritic",
    "dummy": "editcritic.server.critics.dummy:DummyCritic",
}
"""Name -> "module:class". The class is called without arguments. The first is the default."""


def load_critic(name: str) -> Critic:
    """Build the critic called `name`.

    Raises:
        NotFound: there is none of that name; the message lists those there are.
    """
    if name not in CRITICS:
        raise NotFound(
            f"there is no critic {name[:64]!r}; known are {', '.join(CRITICS)}",
            reason=pb.ERROR_REASON_CRITIC_UNKNOWN,
            field="options.critic",
        )
    module, _, class_name = CRITICS[name].partition(":")
    critic: Critic = getattr(importlib.import_module(module), class_name)()
    return critic
