"""The critics of this server, by name.

To add one: a module, one line here, one test. CONTRIBUTING.md walks through it.
"""

from __future__ import annotations

import importlib

from editcritic.server.critics.base import Critic
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, NotFound

__all__ = ["CRITICS", "DEFAULT_CRITIC", "critic_name", "load_critic"]

CRITICS = {
    "network": "editcritic.server.critics.network.critic:NetworkCritic",
    "evidence": "editcritic.server.critics.evidence:EvidenceCritic",
    "ensemble": "editcritic.server.critics.ensemble:open_ensemble",
    "dual_encoder": "editcritic.server.critics.dual_encoder.critic:open_dual_encoder",
    "multimodal": "editcritic.server.critics.multimodal.critic:open_multimodal",
    "clip_iqa": "editcritic.server.critics.published.clip_iqa:open_clip_iqa",
    "q_align": "editcritic.server.critics.published.q_align:open_q_align",
    "editscore": "editcritic.server.critics.published.editscore:open_editscore",
    "editreward": "editcritic.server.critics.published.editreward:open_editreward",
    "dummy": "editcritic.server.critics.dummy:DummyCritic",
}
"""Name -> "module:class", or a function that opens one. The first is the default."""
DEFAULT_CRITIC = next(iter(CRITICS))
_WITHOUT_OWN_WEIGHTS = frozenset(
    {"dual_encoder", "multimodal", "clip_iqa", "q_align", "editscore", "editreward"}
)
_WITH_WEIGHTS = _WITHOUT_OWN_WEIGHTS | {"network", "ensemble"}


def critic_name(spec: str) -> str:
    """The name that clients ask for: that of `network@folder` is `network`."""
    return spec.partition("@")[0]


def load_critic(spec: str) -> Critic:
    """Build a critic from its name, or from `name@weights` to give it other weights than those that it comes with.

    Weights are a folder; critics that come with none (`dual_encoder`, `multimodal` and the published judges) take
    the id of a model on a hub too; for `ensemble` it names members and weights: `ensemble@network:0.7+evidence:0.3`.

    Raises:
        NotFound: there is none of that name; the message lists those there are.
        InvalidInput: the critic has no weights, or the folder does not hold them.
    """
    name, _, folder = spec.partition("@")
    if name not in CRITICS:
        raise NotFound(
            f"there is no critic {name[:64]!r}; known are {', '.join(CRITICS)}",
            reason=pb.ERROR_REASON_CRITIC_UNKNOWN,
            field="options.critic",
        )
    module, _, class_name = CRITICS[name].partition(":")
    build = getattr(importlib.import_module(module), class_name)
    if folder and name not in _WITH_WEIGHTS:
        raise InvalidInput(f"the critic {name!r} has no weights that {spec!r} could replace")
    if not folder and name in _WITHOUT_OWN_WEIGHTS:
        raise InvalidInput(
            f"the critic {name!r} comes without weights: say {name}@folder, or {name}@owner/model for a hub's"
        )
    critic: Critic = build(folder) if folder else build()
    return critic
