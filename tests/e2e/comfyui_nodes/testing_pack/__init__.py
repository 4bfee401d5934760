"""Nodes of the tests, and models without weights behind ComfyUI's own Load Checkpoint.

`field.safetensors` is a diffusion model that needs no training: its denoiser is the exact posterior mean of a random
field with the spectrum of photographs. `unet.safetensors` is a tiny UNet of SD 1.5's kind with random weights.
"""

import json
import sys

import nodes
import torch

from .models import field_checkpoint, unet_checkpoint

_MADE = {"field.safetensors": field_checkpoint, "unet.safetensors": unet_checkpoint}
_load = nodes.CheckpointLoaderSimple.load_checkpoint


def _load_checkpoint(self, ckpt_name):
    made = _MADE.get(ckpt_name)
    return made() if made else _load(self, ckpt_name)


nodes.CheckpointLoaderSimple.load_checkpoint = _load_checkpoint


class TestBatch:
    """Answers to an edit, each with one brightness inside the mask: the dummy critic's score is that brightness."""

    CATEGORY, FUNCTION, RETURN_TYPES = "testing", "run", ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"source": ("IMAGE",), "mask": ("MASK",), "levels": ("STRING", {"default": "10,200"})}
        }

    def run(self, source, mask, levels):
        inside = (mask[:1, ..., None] > 0.5).float()
        made = [source[:1] * (1 - inside) + inside * float(level) / 255 for level in levels.split(",")]
        return (torch.cat(made),)


class TestSegs:
    """Reads SEGS as a detailer of Impact Pack does: by the names of the fields, and by their places."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"segs": ("SEGS",), "image": ("IMAGE",)}}

    def run(self, segs, image):
        (height, width), found = segs
        told = []
        for seg in found:
            x1, y1, x2, y2 = seg.crop_region
            crop = image[:, y1:y2, x1:x2, :]
            cropped_image, cropped_mask, confidence, _region, bbox, label, wrapper = seg
            told.append(
                {
                    "fits": list(cropped_mask.shape) == list(crop.shape[1:3]),
                    "inside": x1 <= bbox[0] < bbox[2] <= x2 and y1 <= bbox[1] < bbox[3] <= y2,
                    "mask": [float(cropped_mask.min()), float(cropped_mask.max())],
                    "confidence": confidence,
                    "label": label,
                    "rest": [cropped_image, wrapper],
                }
            )
        return {"ui": {"text": [json.dumps({"size": [width, height], "segs": told})]}}


class TestShow:
    """Shows anything as text."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True
    INPUT_IS_LIST = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": (_Any("*"),)}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):
        return True

    def run(self, value):
        told = [list(each.shape) if hasattr(each, "shape") else each for each in value]
        return {"ui": {"text": [json.dumps(told)]}}


class _Any(str):
    def __ne__(self, other):
        return False

    __hash__ = str.__hash__


class TestModules:
    """The top-level modules of this process, with their files, and sys.path."""

    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "testing", "run", (), True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    @classmethod
    def IS_CHANGED(cls):
        return float("nan")

    def run(self):
        loaded = {
            name: str(getattr(module, "__file__", ""))
            for name, module in sys.modules.items()
            if "." not in name
        }
        return {"ui": {"text": [json.dumps({"modules": loaded, "path": sys.path})]}}


NODE_CLASS_MAPPINGS = {each.__name__: each for each in (TestBatch, TestSegs, TestShow, TestModules)}
if "UpscaleModelLoader" not in nodes.NODE_CLASS_MAPPINGS:
    # Left out where spandrel is missing; without it the page cannot make any node that loads a model.
    NODE_CLASS_MAPPINGS["UpscaleModelLoader"] = type("UpscaleModelLoader", (TestModules,), {})
