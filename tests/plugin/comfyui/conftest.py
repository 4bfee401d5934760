"""ComfyUI's modules as far as the nodes use them: small doubles, so that the nodes are tested without ComfyUI."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from editcritic.plugin.comfyui.addresses import CriticAddress


class Interrupted(Exception):
    """As `comfy.model_management.InterruptProcessingException`."""


class ExecutionBlocker:
    def __init__(self, message: str | None) -> None:
        self.message = message


class ProgressBar:
    def __init__(self, total: int) -> None:
        self.total, self.values, self.previews = total, [], 0
        ProgressBar.newest = self

    newest: ProgressBar

    def update_absolute(self, value: int, _total: Any = None, preview: Any = None) -> None:
        self.values.append(value)
        self.previews += preview is not None


@dataclass
class Comfy:
    """What happened in the double. cancel_at: number of the denoising step after which Cancel is pressed."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    steps: int = 0
    loads: int = 0
    cancel_at: int = -1
    is_cancelled: bool = False

    def named(self, name: str) -> list[dict[str, Any]]:
        return [data for kind, data in self.events if kind == name]


def sampling(comfy: Comfy) -> Callable[..., Any]:
    """A sampler whose picture comes out of the noise: x0 is a colour of the seed's, less and less noisy."""

    def sample(
        model: Any,
        noise: Any,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: Any,
        negative: Any,
        latent: Any,
        *,
        denoise: float,
        noise_mask: Any,
        callback: Callable[..., Any],
        disable_pbar: bool,
        seed: int,
    ) -> Any:
        aim = torch.full_like(noise, float(noise.mean().sigmoid()))
        for step in range(steps):
            comfy.steps += 1
            if comfy.steps == comfy.cancel_at:
                comfy.is_cancelled = True
            callback(step, aim + noise * (1 - (step + 1) / steps) * 0.1, noise, steps)
        model.model.current_patcher = None  # as ComfyUI does at the end of a sampling
        return aim

    return sample


def prepare_noise(latent: Any, seed: int, inds: list[int] | None = None) -> Any:
    generator = torch.manual_seed(seed)
    drawn = [torch.randn(latent[:1].shape, generator=generator) for _ in range((inds or [0])[-1] + 1)]
    return drawn[(inds or [0])[-1]]


@pytest.fixture
def comfy(monkeypatch: pytest.MonkeyPatch) -> Comfy:
    told = Comfy()

    def check() -> None:
        if told.is_cancelled:
            told.is_cancelled = False
            raise Interrupted

    def load(_models: Any) -> None:
        told.loads += 1

    instance = types.SimpleNamespace(
        client_id="page", send_sync=lambda event, data, _to: told.events.append((event, data))
    )
    doubles = {
        "comfy": {},
        "comfy.model_management": {
            "InterruptProcessingException": Interrupted,
            "throw_exception_if_processing_interrupted": check,
            "load_models_gpu": load,
        },
        "comfy.utils": {"ProgressBar": ProgressBar},
        "comfy.samplers": {"KSampler": types.SimpleNamespace(SAMPLERS=["euler"], SCHEDULERS=["normal"])},
        "comfy.sample": {
            "sample": sampling(told),
            "prepare_noise": prepare_noise,
            "fix_empty_latent_channels": lambda _model, latent: latent,
        },
        "comfy.sampler_helpers": {
            "convert_cond": lambda cond: [extra for _, extra in cond],
            "get_additional_models": lambda _conds, _dtype: ([], 0),
        },
        "node_helpers": {
            "conditioning_set_values": lambda cond, values: [
                [each, {**more, **values}] for each, more in cond
            ]
        },
        "latent_preview": {"get_previewer": lambda _device, _format: None},
        "comfy_execution": {},
        "comfy_execution.graph_utils": {"ExecutionBlocker": ExecutionBlocker},
        "server": {"PromptServer": types.SimpleNamespace(instance=instance)},
    }
    for name, content in doubles.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return told


class PlainVAE:
    """A latent is the picture, 8 times smaller."""

    def encode(self, pixels: Any) -> Any:
        return torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)

    def decode(self, latent: Any) -> Any:
        return torch.nn.functional.interpolate(latent, scale_factor=8).clamp(0, 1).movedim(1, -1)


@pytest.fixture
def model() -> Any:
    inner = types.SimpleNamespace(
        latent_format=object(), process_latent_out=lambda latent: latent, concat_keys=(), current_patcher=None
    )
    return types.SimpleNamespace(model=inner, load_device="cpu", model_dtype=lambda: torch.float32)


@pytest.fixture
def vae() -> PlainVAE:
    return PlainVAE()


@pytest.fixture
def server(address: str) -> CriticAddress:
    return CriticAddress(address)


@pytest.fixture
def image(source: NDArray[np.uint8]) -> Any:
    """The source as an IMAGE (1, 64, 64, 3)."""
    return torch.from_numpy(source.astype(np.float32) / 255)[None]


@pytest.fixture
def hole(mask: NDArray[np.float32]) -> Any:
    """The mask as a MASK (1, 64, 64)."""
    return torch.from_numpy(mask)[None]


@pytest.fixture
def batch(image: Any, hole: Any) -> Callable[..., Any]:
    """``batch(10, 200)``: the source with these brightnesses inside; the dummy's scores are level / 2.55."""

    def make(*levels: int) -> Any:
        inside = hole[..., None]
        return torch.cat([image * (1 - inside) + inside * level / 255 for level in levels])

    return make
