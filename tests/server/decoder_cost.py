"""What decoding apart costs, in CPU time of both sides: ``python -m tests.server.decoder_cost`` (Linux)."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from editcritic.server.decoder_pool import DecoderPool
from editcritic.server.decoders import IN_PROCESS, Decoder
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import DEFAULT_IMAGE_LIMITS, Encoding, encode_image


def on_core_s(pid: int) -> float:
    """Seconds that all threads of a process were on a core."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cost_ms(decoder: Decoder, message: pb.Image, count: int, pid: int) -> float:
    """CPU milliseconds of one decoding, on both sides."""
    began = time.process_time() + on_core_s(pid)
    for _ in range(count):
        decoder.picture(message, DEFAULT_IMAGE_LIMITS)
    return (time.process_time() + on_core_s(pid) - began) / count * 1e3


def main() -> None:
    """Print a line for each size and encoding."""
    photo = np.asarray(Image.fromarray(data.astronaut()).resize((2000, 2000)))
    encodings: tuple[Encoding, ...] = ("png", "jpeg", "webp")
    pool = DecoderPool(1, DEFAULT_IMAGE_LIMITS)
    pool.start()
    (worker,) = pool._live
    for name, pixels, count in (("256 px", photo[600:856, 600:856], 100), ("4 MP", photo, 4)):
        for encoding in encodings:
            message = encode_image(pixels, encoding)
            here, apart = (cost_ms(each, message, count, worker._process.pid) for each in (IN_PROCESS, pool))
            print(f"{name} {encoding}: {here:.1f} ms in the server, {apart:.1f} ms with a worker", flush=True)
    pool.close()


if __name__ == "__main__":
    main()
