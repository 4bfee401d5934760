"""The critics of this server, by name.

To add one of ours: a module, one line here, one test (CONTRIBUTING.md). One of your own comes from a package of yours
(docs/extending.md).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence

from editcritic.server.critics.base import Critic
from editcritic.server.critics.installed import installed_critics
from editcritic.server.critics.spec import CriticSpec, check_taken, parse_members, parse_spec
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, NotFound

__all__ = ["CRITICS", "DEFAULT_CRITIC", "check_spec", "critic_name", "load_critic"]

CRITICS = {
    "network": "editcritic.server.critics.network.critic:NetworkCritic",
    "evidence": "editcritic.server.critics.evidence:EvidenceCritic",
    "ensemble": "editcritic.server.critics.ensemble:open_ensemble",
    "faces": "editcritic.server.critics.faces.critic:open_faces",
    "dual_encoder": "editcritic.server.critics.dual_encoder.critic:open_dual_encoder",
    "multimodal": "editcritic.server.critics.multimodal.critic:open_multimodal",
    "clip_iqa": "editcritic.server.critics.published.clip_iqa:open_clip_iqa",
    "q_align": "editcritic.server.critics.published.q_align:open_q_align",
    "editscore": "editcritic.server.critics.published.editscore:open_editscore",
    "editreward": "editcritic.server.critics.published.editreward:open_editreward",
    "pick_score": "editcritic.server.critics.published.pick_score:open_pick_score",
    "image_reward": "editcritic.server.critics.published.image_reward:open_image_reward",
    "dummy": "editcritic.server.critics.dummy:DummyCritic",
}
"""Name -> "module:class", or a function that opens one. The first is the default; installed packages' follow."""
DEFAULT_CRITIC = next(iter(CRITICS))
CRITICS |= installed_critics(CRITICS)
_ENCODER = ("device", "dtype")
_LARGE = ("bits", "device", "dtype")
_OPTIONS: Mapping[str, Sequence[str]] = {
    "dual_encoder": _ENCODER,
    "multimodal": _LARGE,
    "clip_iqa": _ENCODER,
    "q_align": _LARGE,
    "editscore": _LARGE,
    "editreward": _LARGE,
    "pick_score": _ENCODER,
    "image_reward": _ENCODER,
    "faces": ("detector",),
}
"""The critics that come without weights or wrap another, and which `LoadOptions` each takes."""
_WITHOUT_WEIGHTS = frozenset({"evidence"})


def critic_name(spec: str) -> str:
    """The name that clients ask for: that of `network@folder` is `network`."""
    return spec.partition("@")[0].partition("?")[0]


def check_spec(spec: str) -> CriticSpec:
    """Take a critic's full name apart: `name`, `name@weights`, or `name@weights?bits=4&device=cuda:1`.

    Raises:
        NotFound: there is none of that name; the message lists those there are.
        InvalidInput: an option that it does not take, weights where it takes none or needs some; or a member of an
            ensemble is at fault.
    """
    if critic_name(spec) not in CRITICS:
        raise NotFound(
            f"there is no critic {critic_name(spec)[:64]!r}; known are {', '.join(CRITICS)}",
            reason=pb.ERROR_REASON_CRITIC_UNKNOWN,
            field="options.critic",
        )
    found = parse_spec(spec)
    check_taken(found, _OPTIONS.get(found.name, ()))
    _check_weights(found)
    if found.name == "ensemble" and found.weights:
        for member, _ in parse_members(found.weights):
            check_spec(member)
    if found.name == "faces" and check_spec(found.weights).name == "faces":
        raise InvalidInput("faces are looked at once: name another critic, as in faces@network")
    return found


def _check_weights(spec: CriticSpec) -> None:
    name = spec.name
    if spec.weights and name in _WITHOUT_WEIGHTS:
        raise InvalidInput(f"the critic {name!r} has no weights that {spec.weights!r} could replace")
    if not spec.weights and name in _OPTIONS:
        raise InvalidInput(
            f"the critic {name!r} comes without weights: say {name}@folder, or {name}@owner/model for a hub's"
        )


def load_critic(spec: str) -> Critic:
    """Build a critic from its name, or from `name@weights` to give it other weights than those that it comes with.

    Weights are a folder; critics that come with none (`dual_encoder`, `multimodal` and the published judges) take
    the id of a model on a hub too, and options: `multimodal@folder?bits=4&device=cuda:1`. For `ensemble` it names
    members and weights: `ensemble@network:0.7+evidence:0.3`; for `faces` the critic that it stands beside; for `dummy`
    the time that it takes: `dummy@4+1`. A critic of another package gets the text as its one argument.

    Raises:
        NotFound: there is none of that name; the message lists those there are.
        InvalidInput: as `check_spec`; or the folder does not hold the weights, or this machine lacks the device.
    """
    found = check_spec(spec)
    module, _, class_name = CRITICS[found.name].partition(":")
    build = getattr(importlib.import_module(module), class_name)
    given = [found.weights, found.options] if found.name in _OPTIONS else [found.weights]
    critic: Critic = build(*given) if found.weights else build()
    return critic
