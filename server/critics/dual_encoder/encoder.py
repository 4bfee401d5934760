"""A dual encoder of transformers: pictures and texts as points of one space (CLIP, SigLIP and their kin)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from editcritic.server.critics.placement import place_for, refuse_missing, type_option
from editcritic.server.critics.spec import AS_IT_IS, LoadOptions
from editcritic.v1.errors import InvalidInput

__all__ = ["DualEncoder", "Encoder"]

Pixels = NDArray[np.uint8]


class Encoder(Protocol):
    """Pictures and texts as points of one space.

    Attributes:
        name: of the model, told to clients.
        model_type: its family.
        device: where it runs.
    """

    name: str
    model_type: str
    device: torch.device

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as points of length 1, (N, D) float32."""

    def pictures(self, pictures: Sequence[Pixels]) -> Tensor:
        """Pictures (h, w, 3) uint8 as points of length 1, (N, D) float32."""


class DualEncoder:
    """`encoder.pictures([...])` and `encoder.texts([...])`, both (N, D) float32 of length 1.

    Every item runs alone, so a point never depends on its neighbours.

    Args:
        name: a folder, or the id of a model on a hub ("owner/name"): only what is named is ever downloaded.
        options: device and numbers; float32 on every device unless told otherwise.

    Attributes:
        scale: what likenesses were multiplied by when the model was taught; None where it has none.

    Raises:
        InvalidInput: transformers or the device is missing, or there is no dual encoder of that name with safetensors
            weights.
    """

    def __init__(self, name: str, options: LoadOptions = AS_IT_IS) -> None:
        self.name = Path(name).name if Path(name).is_dir() else name
        self.device = torch.device(place_for(options.device))
        kind = getattr(torch, options.dtype or "float32")
        self._model, self._tokenizer, self._processor = _load(name, kind)
        self._model = self._model.to(self.device).eval()
        # SigLIP was trained on texts of one length; CLIP takes each as long as it is.
        self.model_type = str(self._model.config.model_type)
        siglip = "siglip" in self.model_type
        self._padding = "max_length" if siglip else "longest"
        self._longest = self._model.config.text_config.max_position_embeddings
        learned = getattr(self._model, "logit_scale", None)
        self.scale = None if learned is None else float(learned.detach().exp())

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts as points, (N, D); what is longer than the model reads is cut."""
        points = []
        for text in texts:
            tokens = self._tokenizer(
                [text],
                padding=self._padding,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            )
            known = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
            if self._padding == "max_length":
                known.pop("attention_mask")
            points.append(_pooled(self._model.get_text_features(**known)))
        return torch.cat(points).cpu()

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Pixels]) -> Tensor:
        """Pictures (h, w, 3) uint8 as points, (N, D)."""
        points = []
        for picture in pictures:
            read = self._processor(images=[picture], return_tensors="pt", input_data_format="channels_last")
            pixels = read["pixel_values"].to(self.device, self._model.dtype)
            points.append(_pooled(self._model.get_image_features(pixel_values=pixels)))
        return torch.cat(points).cpu()


def _load(name: str, kind: torch.dtype) -> tuple[Any, Any, Any]:
    try:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    except ImportError as error:
        raise InvalidInput("dual encoders need transformers: pip install 'editcritic[models]'") from error
    here = Path(name).is_dir()
    options = {"local_files_only": here, "trust_remote_code": False}
    try:
        model, loaded = AutoModel.from_pretrained(
            name, use_safetensors=True, output_loading_info=True, **type_option(kind), **options
        )
        parts = [kind.from_pretrained(name, **options) for kind in (AutoTokenizer, AutoImageProcessor)]
    except (OSError, ValueError, KeyError) as error:
        raise InvalidInput(f"{name} holds no dual encoder with safetensors weights: {error}") from error
    if not (hasattr(model, "get_text_features") and hasattr(model, "get_image_features")):
        raise InvalidInput(f"{name} is a {type(model).__name__}, which does not compare texts with pictures")
    refuse_missing(name, loaded)
    return model, *parts


def _pooled(features: Any) -> Tensor:
    points: Tensor = features if isinstance(features, Tensor) else features.pooler_output
    return F.normalize(points.float(), dim=-1)
