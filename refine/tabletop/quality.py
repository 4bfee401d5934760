"""Quality as a condition of the tabletop engine: a wanted score becomes tokens that the denoiser attends to beside the
prompt's.

The base network is frozen and never written to. Each of its cross-attentions gets a second pair of key and value
projections, whose answer is added; without a wanted quality nothing is added and the base engine's bits come out.

Sources: decoupled cross-attention, IP-Adapter (Ye et al. 2308.06721); a score as the condition and low scores as the
negative, IQA-Adapter (2412.01794); guiding by a worse version of oneself, Karras et al. 2406.02507.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = [
    "LOW_QUALITY",
    "QualityAdapter",
    "QualityDenoiser",
    "load_adapter",
    "quality_arguments",
    "save_adapter",
]

LOW_QUALITY = 20.0
"""What quality guidance leads away from."""
_HIGH_QUALITY = 90.0
_TOKENS, _HIDDEN = 4, 128


class _Branch(nn.Module):
    """Keys and values of the quality tokens for one cross-attention; adds nothing before it is trained."""

    def __init__(self, inside: int, width: int) -> None:
        super().__init__()
        self.to_k = nn.Linear(inside, width, bias=False)
        self.to_v = nn.Linear(inside, width, bias=False)
        nn.init.zeros_(self.to_v.weight)


class _BesideTheWords:
    """The stock attention, and what the quality tokens add to it; called as diffusers calls a processor."""

    def __init__(self, branch: _Branch) -> None:
        self._branch, self._stock = branch, AttnProcessor2_0()

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        ip_hidden_states: Tensor | None = None,
    ) -> Tensor:
        answer: Tensor = self._stock(attn, hidden_states, encoder_hidden_states, attention_mask)
        if ip_hidden_states is None:
            return answer

        query, key, value = (
            rows.reshape(len(rows), rows.shape[1], attn.heads, -1).transpose(1, 2)
            for rows in (
                attn.to_q(hidden_states),
                self._branch.to_k(ip_hidden_states),
                self._branch.to_v(ip_hidden_states),
            )
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        # The projection's bias is in the answer already.
        return answer + F.linear(seen, attn.to_out[0].weight)


class QualityAdapter(nn.Module):
    """Tokens of a wanted quality, and the branches that read them.

    widths: of the denoiser's cross-attentions by name. inside: width of a token, the prompt's own.
    """

    def __init__(self, widths: dict[str, int], inside: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.Linear(1, _HIDDEN),
            nn.SiLU(),
            nn.Linear(_HIDDEN, _TOKENS * inside),
            nn.Unflatten(1, (_TOKENS, inside)),
        )
        self.norm = nn.LayerNorm(inside)
        # Names of modules have dots, which names of parameters may not have.
        self.branches = nn.ModuleDict(
            {name.replace(".", "/"): _Branch(inside, width) for name, width in widths.items()}
        )

    @classmethod
    def beside(cls, denoiser: Any) -> QualityAdapter:
        """An untrained adapter for a `TabletopDenoiser`."""
        found = {name: part.inner_dim for name, part in _cross_attentions(denoiser).items()}
        return cls(found, denoiser.config.cross_attention_dim)

    def forward(self, quality: Tensor) -> Tensor:
        """Tokens (B, 4, D) of wanted qualities (B,), 0 to 100."""
        tokens: Tensor = self.norm(self.embed((quality[:, None] / 50 - 1).to(self.norm.weight.dtype)))
        return tokens

    def attach(self, denoiser: Any) -> None:
        """Let the denoiser's cross-attentions read the tokens. Its weights and its state stay as they are."""
        for name, part in _cross_attentions(denoiser).items():
            branch = self.branches[name.replace(".", "/")]
            part.set_processor(_BesideTheWords(branch))  # type: ignore[arg-type]


def _cross_attentions(denoiser: Any) -> dict[str, Any]:
    return {name: part for name, part in denoiser.cells.named_modules() if name.endswith("attn2")}


class QualityDenoiser(nn.Module):
    """Stands in for the denoiser in the pipeline, and knows what `quality_arguments` says.

    Args:
        denoiser: the base. adapter: trained beside it.
    """

    def __init__(self, denoiser: Any, adapter: QualityAdapter) -> None:
        super().__init__()
        self.denoiser, self.adapter = denoiser, adapter
        adapter.attach(denoiser)

    def __getattr__(self, name: str) -> Any:
        """Whatever else a pipeline asks of its denoiser: config, dtype, device."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("denoiser"), name)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        cross_attention_kwargs: dict[str, float] | None = None,
        **options: Any,
    ) -> Any:
        """The base's answer, or with `cross_attention_kwargs` that of the wanted quality.

        With guidance w it is `wanted + w * (wanted - low)`: two passes in one.
        """
        if not cross_attention_kwargs:
            return self.denoiser(sample, timestep, encoder_hidden_states, **options)
        wanted, weight = cross_attention_kwargs["quality"], cross_attention_kwargs["guidance"]
        levels = [wanted, LOW_QUALITY] if weight > 0 else [wanted]
        rows, copies = len(sample), len(levels)
        quality = torch.tensor(levels, device=sample.device).repeat_interleave(rows)
        answer = self.denoiser(
            sample.repeat(copies, 1, 1, 1),
            timestep,
            encoder_hidden_states.repeat(copies, 1, 1),
            quality=self.adapter(quality),
            **options | {"return_dict": False},
        )[0]
        if weight > 0:
            high, low = answer.chunk(2)
            answer = high + weight * (high - low)
        return type(self)._told(answer, options.get("return_dict", True))

    @staticmethod
    def _told(answer: Tensor, as_output: bool) -> Any:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

        return UNet2DConditionOutput(sample=answer) if as_output else (answer,)


def quality_arguments(target: float | None, guidance: float) -> dict[str, Any]:
    """Arguments of a pipeline call for a wanted quality, 0 to 100, and a guidance; none for the base engine.

    Guidance without a target leads from low to high quality.
    """
    if target is None and guidance == 0:
        return {}
    wanted = _HIGH_QUALITY if target is None else target
    return {"cross_attention_kwargs": {"quality": float(wanted), "guidance": float(guidance)}}


def save_adapter(adapter: QualityAdapter, file: Path) -> None:
    """Write its weights, float16."""
    save_file({name: tensor.half().contiguous() for name, tensor in adapter.state_dict().items()}, file)


def load_adapter(file: Path, denoiser: Any) -> QualityAdapter:
    """The trained adapter of a denoiser, in its type and place. Raises: RuntimeError for one of another denoiser."""
    adapter = QualityAdapter.beside(denoiser)
    adapter.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()})
    return adapter.requires_grad_(False).eval().to(denoiser.device, denoiser.dtype)
