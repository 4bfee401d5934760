"""Models in ComfyUI's own classes, without weights of anybody: BaseModel, ModelPatcher, KSampler do the rest."""

import os
import time
from typing import ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import torch
import torch.nn.functional as F


def _log_step():
    """A line for each pass of a denoiser, for tests that count them; and as slow as they want it."""
    with open(os.environ["TESTING_STEPS"], "a") as log:
        log.write(f"{time.monotonic()}\n")
    time.sleep(float(os.environ.get("TESTING_STEP_S", "0")))


class PixelFormat(comfy.latent_formats.LatentFormat):
    """8 x 8 pixels in the 192 channels of one place; nothing is lost."""

    latent_channels = 192
    latent_rgb_factors: ClassVar = [
        [float(index // 64 == colour) / 64 for colour in range(3)] for index in range(192)
    ]
    latent_rgb_factors_bias: ClassVar = [0.0, 0.0, 0.0]


class PixelVAE:
    def encode(self, pixels):
        return F.pixel_unshuffle(pixels[..., :3].movedim(-1, 1) * 2 - 1, 8)

    def decode(self, latent):
        return ((F.pixel_shuffle(latent, 8) + 1) / 2).clamp(0, 1).movedim(1, -1)


class Field(torch.nn.Module):
    """Predicts the noise by the posterior mean of a Gaussian field whose power falls with the cube of frequency."""

    def __init__(self):
        super().__init__()
        self.dtype = torch.float32
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        turn = torch.tensor([[1, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float32)
        self.register_buffer("turn", turn / turn.norm(dim=1, keepdim=True))
        self.register_buffer("share", torch.tensor([1.0, 0.06, 0.03]))
        self.sampling = None

    def forward(self, x, timesteps, context=None, control=None, transformer_options=None, **_rest):
        _log_step()
        sigma = self.sampling.sigma(timesteps).view(-1, 1, 1, 1)
        noisy = F.pixel_shuffle(x * (sigma**2 + 1).sqrt(), 8)
        rotated = torch.einsum("oc,bchw->bohw", self.turn, noisy)
        height, width = rotated.shape[-2:]
        rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
        power = 1.4e-5 / (rows**2 + columns**2 + (1 / 96) ** 2) ** 1.5
        power = power[None, None] * self.share.view(1, 3, 1, 1)
        power[..., 0, 0] = 1e3
        spectrum = torch.fft.rfft2(rotated, norm="ortho")
        mean = torch.fft.irfft2(spectrum * power / (power + sigma**2), s=(height, width), norm="ortho")
        mean = torch.einsum("oc,bohw->bchw", self.turn, mean)
        return F.pixel_unshuffle((noisy - mean) / sigma, 8)


class BlockVAE:
    """One colour for 8 x 8 pixels, in SD 1.5's four channels."""

    def encode(self, pixels):
        small = F.avg_pool2d(pixels[..., :3].movedim(-1, 1) * 2 - 1, 8)
        return torch.cat([small, small[:, :1]], 1) / 0.18215

    def decode(self, latent):
        small = (latent[:, :3] * 0.18215 + 1) / 2
        return F.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1).movedim(1, -1)


class Words:
    """A text encoder that reads nothing but the length."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return [[torch.full((1, 4, 32), len(tokens) / 100), {"pooled_output": None}]]


def _patched(model):
    here = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(model, here, comfy.model_management.unet_offload_device())


def field_checkpoint():
    config = comfy.supported_models.SD15({"disable_unet_model_creation": True})
    config.latent_format = PixelFormat()
    model = comfy.model_base.BaseModel(config, device="cpu")
    model.diffusion_model = Field()
    model.diffusion_model.sampling = model.model_sampling
    return _patched(model), Words(), PixelVAE()


def unet_checkpoint():
    torch.manual_seed(0)
    config = comfy.supported_models.SD15(
        {
            "image_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "model_channels": 32,
            "num_res_blocks": [1, 1],
            "channel_mult": [1, 2],
            "transformer_depth": [1, 1],
            "transformer_depth_output": [1, 1, 1, 1],
            "transformer_depth_middle": 1,
            "context_dim": 32,
            "num_heads": 4,
            "use_spatial_transformer": True,
            "legacy": False,
            "dtype": torch.float32,
        }
    )
    config.latent_format = comfy.latent_formats.SD15()
    model = comfy.model_base.BaseModel(config, device="cpu")
    with torch.no_grad():
        for weight in model.diffusion_model.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
            else:
                torch.nn.init.constant_(weight, 0.5)
    inner = model.diffusion_model.forward

    def logged(*arguments, **options):
        _log_step()
        return inner(*arguments, **options)

    model.diffusion_model.forward = logged
    return _patched(model), Words(), BlockVAE()
