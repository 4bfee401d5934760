"""Where a model runs, in which numbers it reckons, and whether it is whole: what was asked for, and what is there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from editcritic.server.critics.spec import LoadOptions
from editcritic.v1.errors import InvalidInput

if TYPE_CHECKING:
    import torch

__all__ = ["check_quantisable", "place_for", "refuse_missing", "type_for", "type_option"]


def place_for(device: str) -> str:
    """The device of that name; for "" a GPU where there is one.

    Raises:
        InvalidInput: there is no device of that name, or this machine has no such GPU.
    """
    import torch

    if not re.fullmatch(r"(cpu|cuda(:\d{1,3})?)?", device):
        raise InvalidInput(f"there is no device {device[:64]!r}; known are cpu, cuda and cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    place = device or ("cuda" if count else "cpu")
    kind, _, number = place.partition(":")
    if kind == "cuda" and int(number or 0) >= count:
        raise InvalidInput(f"there is no device {place} here: {count} CUDA GPUs were found; cpu always works")
    return place


def type_for(options: LoadOptions, place: str) -> torch.dtype:
    """The numbers that were asked for; bfloat16 on a GPU and float32 on a CPU where none were."""
    import torch

    chosen: torch.dtype = getattr(
        torch, options.dtype or ("bfloat16" if place.startswith("cuda") else "float32")
    )
    return chosen


def type_option(kind: torch.dtype) -> dict[str, Any]:
    """How the installed transformers, which may be an older one in a critic's own process, is told the numbers.

    The argument of `from_pretrained` is `dtype` since 4.56 (huggingface/transformers#39782), `torch_dtype` before.
    """
    import transformers

    major, minor = (int(part) for part in str(transformers.__version__).split(".")[:2])
    return {"dtype" if (major, minor) >= (4, 56) else "torch_dtype": kind}


def check_quantisable(place: str) -> None:
    """Raises InvalidInput where four bits cannot work: without a CUDA GPU, or without bitsandbytes."""
    if not place.startswith("cuda"):
        raise InvalidInput(f"4 bits need a CUDA GPU, and this model goes to {place}; ask for whole weights")
    if find_spec("bitsandbytes") is None:
        raise InvalidInput("4 bits need bitsandbytes: pip install bitsandbytes, or ask for whole weights")


def refuse_missing(name: str, loaded: Mapping[str, Any]) -> None:
    """Raises InvalidInput where weights of the model were not in its files: transformers fills them in at random.

    Args:
        loaded: `from_pretrained`'s loading info.
    """
    missing = sorted(loaded["missing_keys"])
    if missing:
        raise InvalidInput(f"{name} lacks {len(missing)} of its model's weights, among them {missing[0]}")
