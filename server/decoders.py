"""Where pictures are decoded: in this process, or in processes that may break."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import ImageLimits, decode_image, decode_mask

__all__ = ["IN_PROCESS", "Decoder", "InProcessDecoder"]


class Decoder(Protocol):
    """Turns a picture's message into pixels. Blocks; any thread may call it."""

    def picture(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.uint8]:
        """(H, W, 3) uint8; raises as `decode_image`."""

    def mask(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.float32]:
        """(H, W) float32 in [0, 1]; raises as `decode_mask`."""

    def start(self) -> None:
        """Make ready what would keep the first picture waiting."""

    def close(self) -> None:
        """Give back what it holds. Safe to call twice."""


class InProcessDecoder:
    """Decodes in the calling thread: fastest, and a fault of the image library is a fault of the server."""

    def picture(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.uint8]:
        """`decode_image`."""
        return decode_image(message, limits)

    def mask(self, message: pb.Image, limits: ImageLimits) -> NDArray[np.float32]:
        """`decode_mask`."""
        return decode_mask(message, limits)

    def start(self) -> None:
        """It is ready."""

    def close(self) -> None:
        """Nothing is held."""


IN_PROCESS: Final = InProcessDecoder()
