"""Graphs of the tests, as ComfyUI's HTTP interface takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

PROMPT = "clear evening sky"
SIDE = 256


def write_photo(folder: Path) -> None:
    """photo.png, whose alpha is 0 where it is to be inpainted, and plain.png, without an alpha channel."""
    folder.mkdir(parents=True, exist_ok=True)
    photo = data.rocket()[20 : 20 + SIDE, 340 : 340 + SIDE]
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[88:, 72:136] = 0
    Image.fromarray(np.dstack([photo, alpha])).save(folder / "photo.png")
    Image.fromarray(photo).save(folder / "plain.png")


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def photo() -> dict[str, Any]:
    """Node 1: picture at output 0, mask at output 1."""
    return {"1": node("LoadImage", image="photo.png")}


def server(address: str) -> dict[str, Any]:
    """Node 2."""
    return {"2": node("EditCriticServer", mode="address", address=address, critic="network")}


def candidates(levels: str) -> dict[str, Any]:
    """Node 3: a batch with these brightnesses inside the mask."""
    return {"3": node("TestBatch", source=["1", 0], mask=["1", 1], levels=levels)}


def judged(**more: Any) -> dict[str, Any]:
    """The inputs that judging nodes have in common."""
    return {"source": ["1", 0], "mask": ["1", 1], "prompt": PROMPT, "server": ["2", 0], **more}


def sampler(**more: Any) -> dict[str, Any]:
    """KSampler's widgets, few steps."""
    widgets = {
        "seed": 7,
        "steps": 8,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "normal",
        "denoise": 1.0,
    }
    return {**widgets, **more}


def model(name: str = "field") -> dict[str, Any]:
    """Nodes 4 (checkpoint), 5 and 6 (conditioning)."""
    return {
        "4": node("CheckpointLoaderSimple", ckpt_name=f"{name}.safetensors"),
        "5": node("CLIPTextEncode", clip=["4", 1], text=PROMPT),
        "6": node("CLIPTextEncode", clip=["4", 1], text=""),
    }


def latents(batch: int = 1) -> dict[str, Any]:
    """Nodes 7 and 8: the picture as a latent with its noise mask; 9: as many of them."""
    return {
        "7": node("VAEEncode", pixels=["1", 0], vae=["4", 2]),
        "8": node("SetLatentNoiseMask", samples=["7", 0], mask=["1", 1]),
        "9": node("RepeatLatentBatch", samples=["8", 0], amount=batch),
    }


def race(address: str, checkpoint: str = "field", **more: Any) -> dict[str, Any]:
    """Node 10 races; 11 saves its picture."""
    inputs = {
        "model": ["4", 0],
        "positive": ["5", 0],
        "negative": ["6", 0],
        "vae": ["4", 2],
        "latent_image": ["8", 0],
        "candidates": 4,
        **judged(),
        **sampler(),
        **more,
    }
    return {
        **photo(),
        **server(address),
        **model(checkpoint),
        **latents(),
        "10": node("EditCriticRaceSampler", **inputs),
        "11": node("SaveImage", images=["10", 1], filename_prefix="race"),
    }


def refine(address: str, **more: Any) -> dict[str, Any]:
    """Node 10 refines; 11 saves its picture."""
    inputs = {
        "model": ["4", 0],
        "positive": ["5", 0],
        "negative": ["6", 0],
        "vae": ["4", 2],
        "candidates": 3,
        "max_tries": 1,
        "max_seconds": 0.0,
        "target": 99.0,
        "working_size": 128,
        **judged(),
        **sampler(),
        **more,
    }
    return {
        **photo(),
        **server(address),
        **model(),
        "10": node("EditCriticRefine", **inputs),
        "11": node("SaveImage", images=["10", 0], filename_prefix="refine"),
    }
