"""Marks below the picture: each rises for its fault, where it was put, and for no other reason."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from editcritic.server.critics.network.marks import MARKS, measure_marks

SIDE = 192
INSIDE = (slice(56, 136), slice(56, 136))


def _texture(seed: int = 0) -> np.ndarray:
    """Grey texture with detail at several scales, (S, S) float32 in 0..255."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(0, 1, (SIDE // size, SIDE // size)).astype(np.float32), (SIDE, SIDE))
        for size in (1, 2, 4, 16)
    ]
    return 128 + 12 * np.sum(layers, axis=0)


def _measure(image: np.ndarray, inside: bool = True) -> dict[str, np.ndarray]:
    luma = torch.from_numpy(np.round(np.clip(image, 0, 255)).astype(np.float32))[None, None] / 127.5 - 1
    mask: Tensor = torch.zeros_like(luma)
    if inside:
        mask[0, 0, INSIDE[0], INSIDE[1]] = 1
    marks = measure_marks(luma, mask)
    assert marks.shape == (1, len(MARKS), SIDE // 4, SIDE // 4)
    return dict(zip(MARKS, marks[0].numpy(), strict=True))


def _inside(plane: np.ndarray) -> np.ndarray:
    return plane[14:34, 14:34]


def test_runs_of_equal_tones_are_flat() -> None:
    image = _texture()
    smooth = cv2.GaussianBlur(image, (0, 0), 4)
    image[INSIDE] = np.round(smooth[INSIDE] / 24) * 24
    flat = _measure(image)["flat"]
    assert _inside(flat).mean() > 0.7
    assert flat[:12].mean() < 0.2


@pytest.mark.parametrize("offset", [0, 3, 6])
def test_a_block_grid_inside_is_found_wherever_it_starts(offset: int) -> None:
    image = _texture()
    before = _inside(_measure(image)["grid"]).mean()
    moved = np.roll(image, offset, (0, 1))
    _, data = cv2.imencode(".jpg", np.clip(moved, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 12])
    coarse = np.roll(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), -offset, (0, 1))
    image[INSIDE] = coarse[INSIDE]
    grid = _measure(image)["grid"]
    assert _inside(grid).mean() > 3 * max(before, 0.01)
    assert _inside(grid).mean() > 3 * grid[:10].mean()


def test_the_photographs_own_grid_is_no_mark_of_the_inside() -> None:
    _, data = cv2.imencode(
        ".jpg", np.clip(_texture(), 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 12]
    )
    whole = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE).astype(np.float32)
    fresh = whole.copy()
    fresh[INSIDE] = np.roll(whole, (3, 3), (0, 1))[INSIDE]
    own, foreign = _measure(whole)["grid"], _measure(fresh)["grid"]
    assert abs(_inside(own).mean() - own[:10].mean()) < 0.08
    assert _inside(foreign).mean() - foreign[:10].mean() > 0.15


def test_a_copied_patch_is_found_in_both_places() -> None:
    image = _texture()
    image[70:110, 80:120] = image[10:50, 20:60] + 6
    copies = _measure(image)["copies"]
    assert copies[19:26, 22:28].mean() > 0.8
    assert copies[4:11, 7:13].mean() > 0.8
    assert np.median(copies) < 0.1


def test_without_a_mask_the_whole_picture_is_searched() -> None:
    image = _texture()
    image[70:110, 80:120] = image[10:50, 20:60]
    assert _measure(image, inside=False)["copies"][19:26, 22:28].mean() > 0.8


def test_marks_of_one_picture_do_not_depend_on_the_others_in_the_batch() -> None:
    pictures = [torch.from_numpy(_texture(seed).astype(np.float32))[None] / 127.5 - 1 for seed in (0, 1)]
    mask = torch.zeros(1, SIDE, SIDE)
    mask[0, INSIDE[0], INSIDE[1]] = 1
    both = measure_marks(torch.stack(pictures), torch.stack([mask, mask]))
    alone = measure_marks(pictures[1][None], mask[None])
    assert torch.allclose(both[1], alone[0], atol=1e-5)
