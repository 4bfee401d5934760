"""Times the multimodal critic's forward pass on this machine, on a model of a stated size with random weights."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from editcritic.plugin.benchmark import machine_facts, peak_memory_mib
from editcritic.plugin.random_model import (
    SHAPES,
    Shape,
    build_random_model,
    count_weights,
    question_tokens,
    random_question,
)
from editcritic.server.critics.placement import check_quantisable, place_for
from editcritic.v1.errors import InvalidInput

__all__ = ["BATCHES", "DTYPES", "TIMING_ONLY", "measure_models", "model_rows"]

BATCHES = (1, 2, 4, 8, 16, 32)
DTYPES = ("bfloat16", "float32", "4bit")
TIMING_ONLY = "timing only: the weights are random, and nothing is judged"
_WORDS = 5
_WARM_UPS = 1


def measure_models(
    shape: str,
    *,
    device: str = "",
    dtype: str = "",
    batches: Sequence[int] = BATCHES,
    repeats: int = 5,
    progress: Callable[[str], object] = lambda _text: None,
) -> dict[str, Any]:
    """Time one rating of one candidate, in batches of several sizes.

    Args:
        shape: a name of `SHAPES`.
        device: "cpu", "cuda", "cuda:1"; "" for a GPU, without which only `tiny` runs.
        dtype: of `DTYPES`; "" for bfloat16 on a GPU and float32 on a CPU.
        batches: candidates in a batch; larger ones are left out after one that did not fit.
        repeats: measurements of each, 1 or more.
        progress: told what is being measured.

    Returns:
        What was measured and on what, and for each batch images (candidates, each with its four pictures) a second,
        milliseconds of the batch, and the peak of memory in MiB: the GPU's, or that of this process so far.

    Raises:
        InvalidInput: an unknown shape or dtype, a missing device or package, or a large shape without a GPU.
    """
    place = _checked(shape, device, dtype)
    chosen = dtype or ("bfloat16" if place.startswith("cuda") else "float32")
    progress(f"making {shape} in {chosen} on {place}")
    model = _built(SHAPES[shape], place, chosen)
    return {
        "note": TIMING_ONLY,
        "shape": shape,
        "parameters": count_weights(SHAPES[shape]),
        "dtype": chosen,
        "device": _device_name(place),
        "tokens_per_image": question_tokens(SHAPES[shape]),
        "machine": machine_facts() | {"model_versions": _versions()},
        "batches": _measured(model, SHAPES[shape], place, batches, repeats, progress),
    }


def model_rows(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The figures as (name, value) for a table."""
    rows = [
        ("note", result["note"]),
        ("model", f"{result['shape']}, {result['parameters']:,} weights, {result['dtype']}"),
        ("device", result["device"]),
        ("one image", f"four pictures and a question, {result['tokens_per_image']} tokens, one forward pass"),
    ]
    return rows + [(f"batch of {each['batch']}", _told(each)) for each in result["batches"]]


def _told(each: dict[str, Any]) -> str:
    if each["out_of_memory"]:
        return "out of memory"
    latency = each["latency_ms"]
    return (
        f"{each['images_per_s']:.3g} images/s, {latency['median']:.4g} ms"
        f" ({latency['low']:.4g} to {latency['high']:.4g}, n={latency['count']}), peak {_mib(each['peak_memory_mib'])}"
    )


def _mib(peak: float | None) -> str:
    return "unknown" if peak is None else f"{peak:.0f} MiB"


def _checked(shape: str, device: str, dtype: str) -> str:
    if shape not in SHAPES:
        raise InvalidInput(f"there is no shape {shape!r}; known are {', '.join(SHAPES)}")
    if dtype and dtype not in DTYPES:
        raise InvalidInput(f"there is no dtype {dtype!r}; known are {', '.join(DTYPES)}")
    if find_spec("transformers") is None:
        raise InvalidInput("large models need transformers: pip install 'editcritic[models]'")
    place = place_for(device)
    if place == "cpu" and shape != "tiny" and device != "cpu":
        raise InvalidInput(
            f"no CUDA GPU was found; {shape} takes minutes for each image without one. Say --device cpu to wait,"
            " or --shape tiny"
        )
    if dtype == "4bit":
        check_quantisable(place)
    return place


def _built(shape: Shape, place: str, dtype: str) -> Any:
    import torch

    quantised = dtype == "4bit"
    kind = torch.float32 if dtype == "float32" else torch.bfloat16
    try:
        return build_random_model(shape, place, kind, quantised=quantised)
    except torch.OutOfMemoryError as error:
        raise InvalidInput(
            f"a model of that shape in {dtype} does not fit into the memory of {place}"
        ) from error


def _measured(
    model: Any,
    shape: Shape,
    place: str,
    batches: Sequence[int],
    repeats: int,
    progress: Callable[[str], object],
) -> list[dict[str, Any]]:
    import torch

    found: list[dict[str, Any]] = []
    for batch in sorted(batches):
        progress(f"batch of {batch}")
        try:
            found.append(_one_batch(model, shape, place, batch, repeats))
        except torch.OutOfMemoryError:
            found.append({"batch": batch, "out_of_memory": True})
            break
    return found


def _one_batch(model: Any, shape: Shape, place: str, batch: int, repeats: int) -> dict[str, Any]:
    question = random_question(shape, batch, model)
    _forget_peak(place)
    seconds = [_rating_s(model, question) for _ in range(_WARM_UPS + repeats)][_WARM_UPS:]
    median = statistics.median(seconds)
    return {
        "batch": batch,
        "out_of_memory": False,
        "images_per_s": batch / median,
        "latency_ms": {
            "median": 1000 * median,
            "low": 1000 * min(seconds),
            "high": 1000 * max(seconds),
            "count": len(seconds),
        },
        "peak_memory_mib": _peak_mib(place),
    }


def _rating_s(model: Any, question: dict[str, Any]) -> float:
    """Seconds of one rating: the forward pass, and the likelihoods of five words brought to the CPU."""
    import torch

    from editcritic.server.critics.multimodal.model import next_logits

    began = time.perf_counter()
    with torch.inference_mode():
        # Bringing the figures over waits for the GPU.
        torch.softmax(next_logits(model, question)[:, -_WORDS:].float(), -1).cpu()
    return time.perf_counter() - began


def _forget_peak(place: str) -> None:
    import torch

    if place.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(place)


def _peak_mib(place: str) -> float | None:
    import torch

    if place.startswith("cuda"):
        return torch.cuda.max_memory_allocated(place) / 2**20
    return peak_memory_mib(os.getpid())


def _device_name(place: str) -> str:
    import torch

    return f"{place}, {torch.cuda.get_device_name(place)}" if place.startswith("cuda") else place


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("torch", "transformers")}
