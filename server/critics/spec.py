"""How a critic is named: `name`, `name@weights`, or `name@weights?bits=4&device=cuda:1&dtype=bfloat16`.

`faces@critic` is any critic with eyes for faces; options of its own come first: `faces?detector=yunet.onnx@network`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass
from urllib.parse import parse_qsl

from editcritic.v1.errors import InvalidInput

__all__ = ["AS_IT_IS", "CriticSpec", "LoadOptions", "check_taken", "parse_members", "parse_spec"]

_ENSEMBLE, _FACES = "ensemble", "faces"
_WRAPPED = "network"
"""The critic that faces are looked at beside where none is named."""
_VALUES = {
    "bits": "4",
    "device": r"cpu|cuda(:\d{1,3})?",
    "dtype": "float32|bfloat16|float16",
    "detector": ".+",
}
_TOLD = {
    "bits": "4",
    "device": "cpu, cuda or cuda:N",
    "dtype": "float32, bfloat16 or float16",
    "detector": "a YuNet file",
}


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        bits: 4 for weights quantised to four bits; 0 for as they are.
        device: "cpu", "cuda", "cuda:1"; "" for a GPU where there is one.
        dtype: "float32", "bfloat16", "float16"; "" for bfloat16 on a GPU and float32 on a CPU.
        detector: file of a face detector, YuNet's; "" for the one that ships.
    """

    bits: int = 0
    device: str = ""
    dtype: str = ""
    detector: str = ""

    def given(self) -> list[str]:
        """Names of those that differ from the defaults."""
        return [name for name, value in asdict(self).items() if value]


AS_IT_IS = LoadOptions()


@dataclass(frozen=True)
class CriticSpec:
    """A critic's name, the folder or hub id of its weights ("" for its own), and how they are loaded."""

    name: str
    weights: str = ""
    options: LoadOptions = AS_IT_IS


def parse_spec(spec: str) -> CriticSpec:
    """Take a critic's full name apart. What follows `ensemble@` is left whole: its members have options of their own.

    Raises:
        InvalidInput: an option that there is none of, or a value that it cannot have.
    """
    head, _, members = spec.partition("@")
    if head == _ENSEMBLE:
        return CriticSpec(head, members)
    own, given, query = head.partition("?")
    if own == _FACES:
        return CriticSpec(own, members or _WRAPPED, _read_options(query, own) if given else AS_IT_IS)
    # The last question mark, so that a folder may have one as long as options follow.
    whole, asked, query = spec.rpartition("?") if "?" in spec else (spec, "", "")
    name, _, weights = whole.partition("@")
    return CriticSpec(name, weights, _read_options(query, name) if asked else AS_IT_IS)


def _read_options(query: str, critic: str) -> LoadOptions:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:
        pairs = []
    given = dict(pairs)
    if not given or len(given) < len(pairs):
        raise InvalidInput(
            f"options of {critic} are name=value, each once, not {query[:64]!r}; {_known(_VALUES)}"
        )
    for name, value in given.items():
        if name not in _VALUES:
            raise InvalidInput(f"{critic} has no option {name[:64]!r}; {_known(_VALUES)}")
        if not re.fullmatch(_VALUES[name], value):
            raise InvalidInput(f"{name} of {critic} is {_TOLD[name]}, not {value[:64]!r}")
    return LoadOptions(
        int(given.get("bits", 0)),
        given.get("device", ""),
        given.get("dtype", ""),
        given.get("detector", ""),
    )


def parse_members(members: str) -> list[tuple[str, float]]:
    """Full names and weights of an ensemble's members, "network:0.7+multimodal@folder?device=cuda:1:0.3".

    Raises:
        InvalidInput: a member without a weight above 0 after its last colon, or an ensemble or faces in an ensemble.
    """
    return [_parse_member(each) for each in members.split("+")]


def _parse_member(told: str) -> tuple[str, float]:
    spec, _, weight = told.rpartition(":")
    try:
        share = float(weight)
    except ValueError:
        share = math.nan
    if not spec or not 0 < share < math.inf:
        raise InvalidInput(f"the member {told!r} needs a weight above 0, as in network:0.7")
    name = parse_spec(spec).name
    if name == _ENSEMBLE:
        raise InvalidInput("an ensemble is no member of an ensemble; name its members")
    if name == _FACES:
        raise InvalidInput("faces is no member of an ensemble; put it around: faces@ensemble@...")
    return spec, share


def check_taken(spec: CriticSpec, taken: Collection[str]) -> None:
    """Refuse options that a critic does not take.

    Args:
        taken: names of those that it takes.

    Raises:
        InvalidInput: there is one.
    """
    for name in spec.options.given():
        if name not in taken:
            raise InvalidInput(f"the critic {spec.name!r} does not take {name}; {_known(taken)}")


def _known(names: Collection[str]) -> str:
    told = ", ".join(f"{name} ({_TOLD[name]})" for name in _VALUES if name in names)
    return f"known are {told}" if told else "it takes no options"
