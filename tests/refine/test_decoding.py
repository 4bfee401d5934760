"""Three ways to see latents: a tiny autoencoder, the full decoder, a fitted colour map."""

from __future__ import annotations

from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from editcritic.refine.decoding import LatentDecoder, fit_colours
from tests.refine.conftest import engine_of
from tests.refine.tiny_pipelines import TINY_PIPELINES, tiny_pipeline


class _AveragingVae(torch.nn.Module):
    """An autoencoder whose cells are a known linear function of their pixels' mean colour."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Parameter(torch.tensor([[2.0, 0, 1], [0, 1, -1], [1, 1, 0], [0, 0, 3]]))

    def encode(self, pictures: torch.Tensor) -> Any:
        cells = torch.nn.functional.avg_pool2d(pictures, 8)
        latents = torch.einsum("lc,bchw->blhw", self.mix, cells) + 0.5

        class Answer:
            pass

        answer = Answer()
        answer.latents = latents  # type: ignore[attr-defined]
        return answer


def test_a_colour_map_finds_the_colours_behind_a_linear_encoder() -> None:
    vae = _AveragingVae()
    colours = torch.rand(6, 3) * 1.6 - 0.8
    pictures = colours[:, :, None, None].expand(6, 3, 32, 32)
    latents = vae.encode(pictures).latents[:, :, 0, 0]
    table = fit_colours(vae, 8)
    torch.testing.assert_close(latents @ table[:-1] + table[-1], colours, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("name", TINY_PIPELINES)
@pytest.mark.parametrize("kind", ["full", "linear"])
def test_every_family_is_decoded_either_way(
    name: str, kind: Any, photo: NDArray[np.uint8], hole: NDArray[np.bool_]
) -> None:
    engine = engine_of(name, preview=kind)
    candidate = engine.candidate(photo, hole, "a ball", seed=3)
    candidate.advance(0.5)
    picture = candidate.preview().picture
    inside = hole[candidate.frame.place]
    assert len(np.unique(picture[inside])) > 3, "a flat preview shows nothing"


def test_a_tiny_autoencoder_is_used_when_there_is_one() -> None:
    pipeline, _ = tiny_pipeline("sd-inpaint")
    torch.manual_seed(1)
    tiny = diffusers.AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )
    decoder = LatentDecoder(pipeline, tiny)
    latents = torch.randn(1, 4, 8, 8)
    expected = tiny.decode(latents).sample.detach()
    expected = torch.nn.functional.interpolate(expected, size=(16, 16), mode="bicubic", align_corners=False)
    assert decoder.kind == "tiny"
    torch.testing.assert_close(
        decoder(latents, 16, 16), (expected[0] / 2 + 0.5).clamp(0, 1).movedim(0, -1), atol=1e-5, rtol=1e-5
    )


def test_without_one_a_small_decoder_runs_in_full_and_a_large_one_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, _ = tiny_pipeline("sd-inpaint")
    assert LatentDecoder(pipeline).kind == "full"
    monkeypatch.setattr("editcritic.refine.decoding._CHEAP_DECODER", 10)
    assert LatentDecoder(pipeline).kind == "linear"
