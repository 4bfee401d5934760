"""The tabletop engine, opened from the package: no network, no other files."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from editcritic.refine.loading import open_pipeline
from editcritic.refine.pipelines import DiffusersEngine, settle
from editcritic.refine.quality_options import QualityOptions

# diffusers loads a component from a module of ours only when that module was imported before.
from editcritic.refine.tabletop import autoencoder as _autoencoder
from editcritic.refine.tabletop import denoiser as _denoiser
from editcritic.refine.tabletop.quality import (
    QualityAdapter,
    QualityDenoiser,
    load_adapter,
    quality_arguments,
)
from editcritic.refine.tabletop.words import KNOWN, known_words, read_prompt
from editcritic.refine.tabletop.world import SIDE
from editcritic.refine.turns import SharedDevice

__all__ = ["TabletopEngine", "UnknownWords", "load", "open_tabletop", "weights_folder"]


class UnknownWords(UserWarning):
    """A prompt holds words that the engine was never taught."""


def weights_folder() -> Path:
    """Where the trained pipeline lies inside the package."""
    return Path(__file__).parent / "weights"


def load(folder: str | Path | None = None, *, dtype: Any = None) -> Any:
    """The stock `StableDiffusionInpaintPipeline` with the tabletop weights, on the CPU.

    folder: another training run's pipeline folder. dtype: torch dtype, float32 without one.
    """
    import torch

    return open_pipeline(
        folder or weights_folder(),
        dtype or torch.float32,
        offline=True,
        libraries=frozenset({_autoencoder.__name__, _denoiser.__name__}),
    )


_ADAPTER = "quality.safetensors"
_GATHERED = 4  # a pass of four takes 2.5 times as long as a pass of one, on a CPU


class TabletopEngine(DiffusersEngine):
    """Puts simple solids into photographs, or takes things out; understands some twenty words.

    adapter: makes a wanted quality a condition; without one such a wish is refused. shared: the device, where others
    use it too.
    """

    def __init__(
        self,
        pipeline: Any,
        preview: Any = "auto",
        tiny: Any = None,
        adapter: QualityAdapter | None = None,
        shared: SharedDevice | None = None,
    ) -> None:
        super().__init__(
            pipeline if adapter is None else _conditioned(pipeline, adapter),
            "tabletop",
            preview=preview,
            tiny=tiny,
            gather=_GATHERED,
            native=SIDE,
            default_steps=20,
            default_guidance=2.0,
            context=1.9,
            centred=True,
            words=KNOWN,
            least_steps=6,
            shared=shared,
            quality_target=adapter is not None,
            critic_guidance=True,
        )

    def asked_quality(self, wish: QualityOptions) -> dict[str, Any]:
        """What the quality adapter is told; nothing for the base engine."""
        return quality_arguments(wish.target, wish.guidance)

    def read_prompt(self, prompt: str) -> tuple[str, tuple[str, ...]]:
        """Only known words reach the text encoder; the others are named in a warning and in the candidate's notes."""
        wish = read_prompt(prompt)
        if not wish.unknown:
            return wish.text, ()
        note = f"tabletop does not know {', '.join(map(repr, wish.unknown))}; it knows {known_words()}"
        warnings.warn(note, UnknownWords, stacklevel=3)
        return wish.text, (note,)


def _conditioned(pipeline: Any, adapter: QualityAdapter) -> Any:
    """A copy of the pipeline whose denoiser knows of quality."""
    twin = copy.copy(pipeline)
    # Past the pipeline's own setter, which would write the class into its configuration.
    object.__setattr__(twin, "unet", QualityDenoiser(pipeline.unet, adapter))
    return twin


def open_tabletop(
    device: str = "auto",
    dtype: str = "auto",
    offload: str = "none",
    preview: Any = "auto",
    tiny: Any = None,
    offline: bool = True,
    folder: str | Path | None = None,
    shared: Callable[[str], SharedDevice] | None = None,
) -> TabletopEngine:
    """Open the embedded engine; arguments as in `load_engine`. Offloading is pointless at its size and ignored.

    folder: another training run's pipeline; with `quality.safetensors` in it, that is its adapter.
    """
    del offload, offline
    device, torch_dtype = settle(device, dtype)
    pipeline = load(folder, dtype=torch_dtype).to(device)
    file = Path(folder or weights_folder()) / _ADAPTER
    adapter = load_adapter(file, pipeline.unet) if file.is_file() else None
    return TabletopEngine(pipeline, preview, tiny, adapter, shared(device) if shared is not None else None)
