"""Bad input over the wire: each gets its status, its reason and the field at fault; the server goes on."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from PIL import Image

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import encode_image, encode_mask, raw_image
from tests.protos.test_images import REFUSED
from tests.server.speaking import Stream, refusal

MakeCandidate = Callable[..., pb.Candidate]


def file_image(data: bytes) -> pb.Image:
    return pb.Image(encoded=pb.EncodedImage(data=data))


@pytest.mark.parametrize("field", ["edit.source", "edit.denoise_mask", "edit.blend_mask", "image"])
@pytest.mark.parametrize("case", REFUSED)
async def test_bad_pictures_are_refused_wherever_they_stand(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, field: str, case: str
) -> None:
    data, reason, _ = REFUSED[case]
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    holder = request.edit if field.startswith("edit.") else request.candidate
    getattr(holder, field.removeprefix("edit.")).CopyFrom(file_image(data))
    error = await refusal(stub.Critique(request))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.reason == reason
    assert error.field == field


def with_mask(mask: np.ndarray) -> Callable[[pb.CritiqueRequest], None]:
    return lambda request: request.edit.denoise_mask.CopyFrom(encode_mask(mask))


def with_edit(**fields: Any) -> Callable[[pb.CritiqueRequest], None]:
    return lambda request: request.edit.MergeFrom(pb.Edit(**fields))


def with_options(**fields: Any) -> Callable[[pb.CritiqueRequest], None]:
    return lambda request: request.options.MergeFrom(pb.CritiqueOptions(**fields))


def with_candidate(**fields: Any) -> Callable[[pb.CritiqueRequest], None]:
    return lambda request: request.candidate.MergeFrom(pb.Candidate(**fields))


BLACK = np.zeros((64, 64), np.float32)
CASES: dict[str, tuple[Callable[[pb.CritiqueRequest], None], int, str]] = {
    "empty mask": (with_mask(BLACK), pb.ERROR_REASON_MASK_EMPTY, "edit.denoise_mask"),
    "mask below one half": (with_mask(BLACK + 0.4), pb.ERROR_REASON_MASK_EMPTY, "edit.denoise_mask"),
    "mask of another shape": (with_mask(np.ones((64, 32))), pb.ERROR_REASON_MASK_SIZE, "edit.denoise_mask"),
    "candidate of another shape": (
        with_candidate(image=encode_image(np.zeros((64, 80, 3), np.uint8))),
        pb.ERROR_REASON_IMAGE_SIZE,
        "",
    ),
    "region outside": (
        with_candidate(region=pb.Box(x=60, y=60, width=10, height=10)),
        pb.ERROR_REASON_IMAGE_SIZE,
        "region",
    ),
    "long prompt": (with_edit(prompt="word " * 2000), pb.ERROR_REASON_PROMPT_TOO_LONG, "edit.prompt"),
    "hostile edit id": (with_edit(edit_id="../../etc"), pb.ERROR_REASON_FIELD_INVALID, "edit.edit_id"),
    "hostile candidate id": (
        with_candidate(candidate_id="<script>"),
        pb.ERROR_REASON_FIELD_INVALID,
        "candidate_id",
    ),
    "long candidate id": (
        with_candidate(candidate_id="x" * 65),
        pb.ERROR_REASON_FIELD_INVALID,
        "candidate_id",
    ),
    "unknown critic": (with_options(critic="mars"), pb.ERROR_REASON_CRITIC_UNKNOWN, "options.critic"),
    "huge heat map": (
        with_options(heat_map_max_side=100_000),
        pb.ERROR_REASON_FIELD_INVALID,
        "options.heat_map_max_side",
    ),
    "negative budget": (with_options(budget_ms=-1), pb.ERROR_REASON_FIELD_INVALID, "options.budget_ms"),
    "progress beyond the end": (
        lambda request: request.progress.MergeFrom(pb.DenoisingProgress(fraction=1.5)),
        pb.ERROR_REASON_FIELD_INVALID,
        "progress.fraction",
    ),
    "progress that is no number": (
        lambda request: request.progress.MergeFrom(pb.DenoisingProgress(fraction=float("nan"))),
        pb.ERROR_REASON_FIELD_INVALID,
        "progress.fraction",
    ),
    "no edit": (lambda request: request.ClearField("edit"), pb.ERROR_REASON_FIELD_MISSING, "edit"),
    "no candidate": (
        lambda request: request.ClearField("candidate"),
        pb.ERROR_REASON_FIELD_MISSING,
        "candidate",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_bad_fields_are_named(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, case: str
) -> None:
    spoil, reason, field = CASES[case]
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    spoil(request)
    error = await refusal(stub.Critique(request))
    assert (error.reason_name, error.field) == (pb.ErrorReason.Name(reason)[len("ERROR_REASON_") :], field)
    assert len(error.message) > 10


ACCEPTED: dict[str, Callable[[pb.CritiqueRequest], None]] = {
    "empty prompt": lambda request: request.edit.ClearField("prompt"),
    "full mask": with_mask(np.ones((64, 64))),
    "soft mask": with_mask(np.tile(np.linspace(0, 1, 64), (64, 1))),
    "prompt of the longest length": with_edit(prompt="x" * (4096 - len("a red ball"))),
    "prompt with zero bytes and markup": with_edit(prompt="\0<script>\u202e"),
    "bare pixels": with_candidate(image=raw_image(np.zeros((64, 64, 3), np.uint8))),
    "no candidate id": lambda request: request.candidate.ClearField("candidate_id"),
}


@pytest.mark.parametrize("case", ACCEPTED)
async def test_odd_but_honest_input_is_judged(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, case: str
) -> None:
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate())
    ACCEPTED[case](request)
    answer = await stub.Critique(request)
    assert answer.critique.scores.overall.status == pb.SCORE_STATUS_SCORED


RANKINGS: dict[str, Callable[[MakeCandidate], list[pb.Candidate]]] = {
    "none": lambda make: [],
    "too many": lambda make: [make(f"c{number}") for number in range(65)],
    "twins": lambda make: [make("a"), make("a")],
    "nameless": lambda make: [make("a"), make("")],
}


@pytest.mark.parametrize("case", RANKINGS)
async def test_a_ranking_needs_one_to_many_named_candidates(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate, case: str
) -> None:
    error = await refusal(stub.Rank(pb.RankRequest(edit=edit, candidates=RANKINGS[case](make_candidate))))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.field.startswith("candidates")


VERDICT = {"verdict_id": "v", "edit_id": "e", "candidate_id": "c", "kind": pb.VERDICT_KIND_ACCEPTED}


@pytest.mark.parametrize(
    ("spoiled", "field"),
    [
        ({"verdict_id": ""}, "verdict_id"),
        ({"edit_id": "a b"}, "edit_id"),
        ({"kind": 0}, "kind"),
        ({"kind": 99}, "kind"),
        ({"rating": 101.0}, "rating"),
        ({"rating": float("nan")}, "rating"),
        ({"comment": "x" * 2001}, "comment"),
        ({"other_candidate_ids": ["a b"]}, "other_candidate_ids"),
        ({"other_candidate_ids": ["c"] * 65}, "other_candidate_ids"),
        ({"critique": pb.Critique(explanation="x" * 5_000_000)}, "critique"),
    ],
)
async def test_a_bad_verdict_names_its_field(stub: Any, spoiled: dict[str, Any], field: str) -> None:
    error = await refusal(stub.RecordVerdict(pb.RecordVerdictRequest(**{**VERDICT, **spoiled})))
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.field == field


@pytest.mark.parametrize(
    ("method", "is_stream"), [("Critique", False), ("Rank", False), ("CritiqueStream", True)]
)
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\xff\x01", bytes(range(256))])
async def test_bytes_that_are_no_message_are_refused(
    serving: Any, method: str, is_stream: bool, data: bytes
) -> None:
    path = f"/editcritic.v1.CriticService/{method}"
    async with serving() as (server, stub), grpc.aio.insecure_channel(server.address) as channel:
        if is_stream:
            call = channel.stream_stream(path)()
            await call.write(data)
            error = await refusal(call.read())
        else:
            error = await refusal(channel.unary_unary(path)(data))
        assert error.reason == pb.ERROR_REASON_MESSAGE_UNDECODABLE
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics


async def test_a_message_over_the_limit_is_refused_and_the_server_goes_on(serving: Any) -> None:
    async with serving(max_message_bytes=50_000) as (_, stub):
        heavy = pb.CritiqueRequest(edit=pb.Edit(source=file_image(bytes(60_000))))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Critique(heavy)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics


async def test_a_bad_edit_ends_its_stream_before_any_candidate(stub: Any, edit: pb.Edit) -> None:
    edit.source.CopyFrom(file_image(b"no picture"))
    call = stub.CritiqueStream()
    await call.write(pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)))
    error = await refusal(call.read())
    assert (error.reason, error.field) == (pb.ERROR_REASON_IMAGE_UNDECODABLE, "edit.source")


async def test_an_exif_rotated_photograph_fits_its_upright_mask(
    stub: Any, mask: np.ndarray, make_candidate: MakeCandidate
) -> None:
    lying = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    lying.save(buffer, "JPEG", exif=exif)
    upright = np.full((64, 48, 3), 255, np.uint8)
    edit = pb.Edit(source=file_image(buffer.getvalue()), denoise_mask=encode_mask(mask[:, :48]))
    request = pb.CritiqueRequest(edit=edit, candidate=pb.Candidate(image=encode_image(upright)))
    assert (await stub.Critique(request)).critique.scores.overall.value == pytest.approx(100.0)


async def test_one_clients_bad_candidates_are_not_noticed_by_another(
    stub: Any, edit: pb.Edit, make_candidate: MakeCandidate
) -> None:
    bad, good = Stream(stub.CritiqueStream()), Stream(stub.CritiqueStream())
    await bad.open(edit)
    await good.open(edit)
    for number in range(8):
        await bad.send(candidate=pb.Candidate(candidate_id=f"b{number}", image=file_image(b"\x89PNG broken")))
        await good.send(candidate=make_candidate(f"g{number}", 255))
    bad_events, good_events = await bad.finish(), await good.finish()
    assert bad_events[-1].closed == pb.EditClosed(error_count=8)
    assert good_events[-1].closed == pb.EditClosed(critique_count=8)
