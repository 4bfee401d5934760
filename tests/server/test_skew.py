"""Clients of another version: contracts cut by hand, with fields, values and methods more or fewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from editcritic.v1 import critic_pb2 as pb
from tests.server.speaking import as_error, refusal

MakeCandidate = Callable[..., pb.Candidate]
File = descriptor_pb2.FileDescriptorProto
PATH = "/editcritic.v1.CriticService/"


def contract(change: Callable[[File], None]) -> Any:
    """``contract(change)("Edit")``: the class of a message in the contract after `change`."""
    file = File()
    pb.DESCRIPTOR.CopyToProto(file)
    change(file)
    pool = descriptor_pool.DescriptorPool()
    for needed in pb.DESCRIPTOR.dependencies:
        _add(pool, needed)
    pool.Add(file) if not hasattr(pool, "AddSerializedFile") else pool.AddSerializedFile(
        file.SerializeToString()
    )
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"editcritic.v1.{name}"))


def _add(pool: descriptor_pool.DescriptorPool, descriptor: Any) -> None:
    for needed in descriptor.dependencies:
        _add(pool, needed)
    pool.AddSerializedFile(descriptor.serialized_pb)


def message(file: File, name: str) -> descriptor_pb2.DescriptorProto:
    return next(each for each in file.message_type if each.name == name)


def without(file: File, name: str, *fields: str) -> None:
    kept = [field for field in message(file, name).field if field.name not in fields]
    assert len(kept) == len(message(file, name).field) - len(fields)
    del message(file, name).field[:]
    message(file, name).field.extend(kept)


def with_text(file: File, name: str, field: str, number: int) -> None:
    kind = descriptor_pb2.FieldDescriptorProto
    message(file, name).field.add(name=field, number=number, type=kind.TYPE_STRING, label=kind.LABEL_OPTIONAL)


def with_value(file: File, enum: str, name: str, number: int) -> None:
    next(each for each in file.enum_type if each.name == enum).value.add(name=name, number=number)


def older(file: File) -> None:
    without(file, "CritiqueRequest", "progress", "options")
    without(file, "Edit", "negative_prompt", "blend_mask")
    without(file, "EditOpened", "edit_sha256", "limits", "protocol_revision")
    without(file, "Scores", "prompt_alignment")
    without(file, "OpenEdit", "protocol_revision", "edit_ref")


def newer(file: File) -> None:
    for name in ("Edit", "Candidate", "CritiqueOptions", "RecordVerdictRequest"):
        with_text(file, name, "mood", 1999)
    action = message(file, "CritiqueStreamRequest")
    with_text(file, "CritiqueStreamRequest", "rewind", 1999)
    action.field[-1].oneof_index = 0
    with_value(file, "Priority", "PRIORITY_URGENT", 99)
    with_value(file, "PixelFormat", "PIXEL_FORMAT_RGB_FLOAT16", 99)
    with_value(file, "ImageFormat", "IMAGE_FORMAT_JXL", 99)
    with_value(file, "VerdictKind", "VERDICT_KIND_SHRUGGED", 99)


OLD, NEW = contract(older), contract(newer)


def as_newer(name: str, ours: Any) -> Any:
    return NEW(name).FromString(ours.SerializeToString())


@pytest.fixture
async def channel(serving: Any) -> Any:
    async with serving() as (server, _), grpc.aio.insecure_channel(server.address) as channel:
        yield channel


async def ask(channel: Any, method: str, request: Any, answer: Any) -> Any:
    return answer.FromString(await channel.unary_unary(PATH + method)(request.SerializeToString()))


async def test_an_older_client_is_judged_and_passes_over_what_it_does_not_know(
    channel: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = OLD("CritiqueRequest")(
        edit=OLD("Edit").FromString(edit.SerializeToString()),
        candidate=OLD("Candidate").FromString(make_candidate("a", 51).SerializeToString()),
    )
    answer = await ask(channel, "Critique", request, OLD("CritiqueResponse"))
    assert answer.critique.scores.overall.value == pytest.approx(20.0)
    assert "prompt_alignment" not in [field.name for field, _ in answer.critique.scores.ListFields()]
    call = channel.stream_stream(PATH + "CritiqueStream")()
    for action in (
        {"open": OLD("OpenEdit")(edit=request.edit)},
        {"candidate": request.candidate},
        {"finish": OLD("FinishEdit")()},
    ):
        await call.write(OLD("CritiqueStreamRequest")(**action).SerializeToString())
    events = [OLD("CritiqueStreamResponse").FromString(data) async for data in call]
    assert [event.WhichOneof("event") for event in events] == ["opened", "critique", "closed"]


async def test_fields_of_a_newer_client_are_passed_over(
    channel: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = NEW("CritiqueRequest")(
        edit=as_newer("Edit", edit), candidate=as_newer("Candidate", make_candidate("a", 51))
    )
    request.edit.mood = request.candidate.mood = request.options.mood = "sombre"
    request.options.priority = 99
    answer = await ask(channel, "Critique", request, NEW("CritiqueResponse"))
    assert answer.critique.scores.overall.value == pytest.approx(20.0), "an unknown priority is the usual one"


async def test_values_that_change_what_is_meant_are_refused_by_their_field(
    channel: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    request = NEW("CritiqueRequest")(edit=as_newer("Edit", edit))
    request.candidate.image.raw.pixel_format = 99
    request.candidate.image.raw.width = request.candidate.image.raw.height = 64
    request.candidate.image.raw.data = bytes(64 * 64 * 6)
    error = await refusal(ask(channel, "Critique", request, pb.CritiqueResponse))
    assert (error.code, error.field) == (3, "image")
    request.candidate.CopyFrom(as_newer("Candidate", make_candidate()))
    request.candidate.image.encoded.format = 99
    error = await refusal(ask(channel, "Critique", request, pb.CritiqueResponse))
    assert (error.code, error.field) == (3, "image")
    verdict = NEW("RecordVerdictRequest")(verdict_id="v", edit_id="e", candidate_id="c", kind=99)
    error = await refusal(ask(channel, "RecordVerdict", verdict, pb.RecordVerdictResponse))
    assert (error.code, error.field) == (3, "kind")


async def test_an_action_of_a_newer_client_ends_its_stream_by_name(channel: Any, edit: pb.Edit) -> None:
    call = channel.stream_stream(PATH + "CritiqueStream")()
    opening = NEW("CritiqueStreamRequest")(open=NEW("OpenEdit")(edit=as_newer("Edit", edit)))
    await call.write(opening.SerializeToString())
    assert NEW("CritiqueStreamResponse").FromString(await call.read()).HasField("opened")
    await call.write(NEW("CritiqueStreamRequest")(rewind="to the beginning").SerializeToString())
    error = await refusal(call.read())
    assert (error.code, error.reason) == (9, pb.ERROR_REASON_STREAM_PROTOCOL)


async def test_a_method_of_a_newer_client_is_unimplemented(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await channel.unary_unary(PATH + "CritiqueOfTheFuture")(b"")
    assert as_error(told.value).code == grpc.StatusCode.UNIMPLEMENTED.value[0]
