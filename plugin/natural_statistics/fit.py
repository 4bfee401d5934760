"""Learn what is usual from photographs: `python -m editcritic.plugin.natural_statistics.fit --images DIR`.

Each region is an untouched one: a mask drawn at random over a crop of a photograph. Half of crops and masks are those
of `bench loop`, half are larger. Every fifth photograph is kept back, to tell how far untouched regions lie.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from editcritic.plugin.natural_statistics.judge import STATISTICS
from editcritic.plugin.natural_statistics.seeing import Seen, see
from editcritic.plugin.natural_statistics.usual import Usual, learn
from editcritic.refine.tabletop.photos import read_photos
from editcritic.refine.tabletop.world import crop_photo
from editcritic.refine.tabletop.world import draw_mask as draw_small_mask
from editcritic.server.training.defects import draw_mask
from editcritic.v1.errors import InvalidInput

__all__ = ["draw_untouched", "fit", "main"]

_SIDES = (128, 480)
_KEPT_BACK_EVERY = 5
_CHUNK = 16


def draw_untouched(
    photo: Image.Image, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A square crop of a photograph, (S, S, 3) uint8, and a mask in it, (S, S) bool; S is 128 to 480."""
    if rng.random() < 0.5:
        return np.round(crop_photo(photo, rng) * 255).astype(np.uint8), draw_small_mask(rng)
    taken = int(rng.uniform(min(_SIDES[0], *photo.size), min(photo.size) + 1))
    side = min(taken, int(np.exp(rng.uniform(*np.log(_SIDES)))))
    left, top = (int(rng.integers(0, extent - taken + 1)) for extent in photo.size)
    crop = photo.resize((side, side), Image.Resampling.BICUBIC, (left, top, left + taken, top + taken), 2.0)
    return np.asarray(crop), draw_mask((side, side), int(rng.integers(2**31)), share=(0.06, 0.3)) > 0


def fit(photos: list[Image.Image], count: int, seed: int, workers: int = 1) -> Usual:
    """Learn from `count` regions, of one photograph after the other; the same for any number of workers."""
    taken = [photos[number % len(photos)] for number in range(count)]
    look = partial(_look, seed)
    if workers == 1:
        seen = [*map(look, range(count), taken)]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            seen = [*pool.map(look, range(count), taken, chunksize=_CHUNK)]
    parts: tuple[list[Seen], list[Seen]] = ([], [])
    for number, each in enumerate(seen):
        parts[number % len(photos) % _KEPT_BACK_EVERY == 0].append(each)
    return learn(*parts)


def _look(seed: int, number: int, photo: Image.Image) -> Seen:
    """The region of this number; one that is too small is drawn anew."""
    rng = np.random.default_rng((seed, number))
    while True:
        picture, mask = draw_untouched(photo, rng)
        try:
            return see(picture, picture, mask)
        except InvalidInput:
            continue


def main(arguments: list[str] | None = None) -> None:
    """Learn from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs (.jpg, .png)")
    parser.add_argument("--count", type=int, default=4596, help="regions to learn from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes")
    parser.add_argument("--out", type=Path, default=STATISTICS)
    options = parser.parse_args(arguments)
    fit(read_photos(options.images), options.count, options.seed, options.workers).save(options.out)


if __name__ == "__main__":
    main()
