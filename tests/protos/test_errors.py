"""Errors cross the wire as google.rpc.Status and arrive as what they were."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import status_pb2

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import errors
from editcritic.v1.errors import EditCriticError, error_from_status

ALL = [getattr(errors, name) for name in errors.__all__ if name != "error_from_status"]
CONCRETE = [kind for kind in ALL if kind is not EditCriticError]


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_itself(kind: type[EditCriticError]) -> None:
    reason = pb.ERROR_REASON_MASK_EMPTY if kind is errors.ImageError else pb.ERROR_REASON_INTERNAL
    sent = kind("what came", reason=reason, field="edit.source", metadata={"k": "v"}, retry_after_s=1.5)
    got = error_from_status(sent.to_status())
    assert type(got) is kind
    assert (got.message, got.reason, got.field) == ("what came", reason, "edit.source")
    assert (got.metadata, got.retry_after_s) == ({"k": "v"}, 1.5)


def test_every_code_is_a_canonical_one() -> None:
    known = {code.value[0] for code in grpc.StatusCode}
    assert {kind.code for kind in ALL} <= known


def test_a_huge_message_stays_under_the_trailer_limit_of_common_peers() -> None:
    metadata = {f"key{number}": "v" * 5000 for number in range(50)}
    error = EditCriticError("x" * 100_000, field="f" * 100, metadata=metadata, retry_after_s=1)
    assert len(error.to_status().SerializeToString()) < 4096


def test_a_strangers_status_keeps_its_code_and_has_no_reason() -> None:
    got = error_from_status(status_pb2.Status(code=14, message="proxy says no"))
    assert type(got) is errors.ServerUnavailable
    assert got.reason_name == "UNSPECIFIED"


def test_a_reason_of_a_newer_server_is_ignored_rather_than_fatal() -> None:
    status = errors.NotFound("gone", reason=pb.ERROR_REASON_CRITIC_UNKNOWN).to_status()
    status.details[0].value = status.details[0].value.replace(b"CRITIC_UNKNOWN", b"CRITIC_ON_MARS")
    got = error_from_status(status)
    assert type(got) is errors.NotFound
    assert got.reason == pb.ERROR_REASON_UNSPECIFIED


def test_a_field_path_grows_from_the_inside() -> None:
    error = errors.ImageError("broken", field="source").in_field("edit")
    assert error.field == "edit.source"
