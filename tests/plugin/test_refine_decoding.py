"""The loop behind gRPC meets no file of a stranger when pictures are decoded apart."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from editcritic.plugin.refine_service import _decoded_apart
from editcritic.server.decoders import IN_PROCESS
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import ImageError
from editcritic.v1.images import ImageLimits, decode_image, decode_mask, encode_image

HOSTS: Any = SimpleNamespace(decoder=IN_PROCESS, settings=SimpleNamespace(images=ImageLimits(max_side=100)))


def test_pictures_are_written_anew_with_the_very_pixels(edit: pb.Edit) -> None:
    jpeg = encode_image(decode_image(edit.source), "jpeg")
    edit.source.CopyFrom(jpeg)
    request = refine_pb2.RefineRequest(edit=edit)
    own = _decoded_apart(request, HOSTS)
    assert own.edit.source.encoded.format == pb.IMAGE_FORMAT_PNG
    assert np.array_equal(decode_image(own.edit.source), decode_image(jpeg))
    assert np.array_equal(decode_mask(own.edit.denoise_mask), decode_mask(edit.denoise_mask))
    assert not own.edit.HasField("blend_mask")
    assert request.edit.source == jpeg, "the caller's own message stays as it is"


def test_the_servers_limits_hold_and_the_field_is_named(edit: pb.Edit) -> None:
    edit.source.CopyFrom(encode_image(np.zeros((120, 120, 3), np.uint8)))
    with pytest.raises(ImageError, match="120 x 120") as refused:
        _decoded_apart(refine_pb2.RefineRequest(edit=edit), HOSTS)
    assert refused.value.field == "edit.source"
