"""The OpenAPI document: it names every method, and real requests and answers are as it says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import jsonschema
import pytest

from editcritic.server.http_face.comments import comments
from editcritic.server.http_face.openapi import describe
from editcritic.v1 import admin_pb2, critic_pb2, refine_pb2
from editcritic.v1 import critic_pb2 as pb
from tests.server.http_speaking import as_json, ask

Serving = Callable[..., AbstractAsyncContextManager[Any]]
SERVICES = [
    service
    for file in (critic_pb2, refine_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
DOCUMENT: dict[str, Any] = json.loads(json.dumps(describe(SERVICES)))


@pytest.fixture
async def address(serving: Serving) -> AsyncIterator[str]:
    async with serving(http="127.0.0.1:0") as (server, _):
        yield server.http_address


def validate(value: Any, schema: Any) -> None:
    """Raises: jsonschema.ValidationError."""
    whole = {**schema, "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator.check_schema(whole)
    jsonschema.Draft202012Validator(whole).validate(value)


def everywhere(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from everywhere(item)


def content(method: str, status: str = "200") -> Any:
    (found,) = DOCUMENT["paths"][f"/v1/{method}"]["post"]["responses"][status]["content"].values()
    return found["schema"]


def test_every_method_of_every_service_is_there_with_what_the_contract_says() -> None:
    expected = {f"/v1/{service.name}/{method.name}" for service in SERVICES for method in service.methods}
    assert set(DOCUMENT["paths"]) == expected | {"/v1/health", "/v1/openapi.json"}
    for path in expected:
        (verb, operation), *rest = DOCUMENT["paths"][path].items()
        assert (verb, rest) == ("post", [])
        assert len(operation["description"]) > 20, path
    names = [each["operationId"] for each in everywhere(DOCUMENT["paths"]) if "operationId" in each]
    assert len(set(names)) == len(names) == len(expected) + 2


def test_the_document_is_one_piece() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    assert set(DOCUMENT["info"]) >= {"title", "version"}
    for each in everywhere(DOCUMENT):
        if "$ref" in each:
            place: Any = DOCUMENT
            for step in each["$ref"].removeprefix("#/").split("/"):
                place = place[step]
    for name, schema in DOCUMENT["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema, name


def test_every_message_and_field_has_its_comment() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if name.startswith("editcritic."):
            assert schema["description"], name
            silent = [
                field for field, told in schema.get("properties", {}).items() if not told.get("description")
            ]
            assert silent == [], name
    prompt = DOCUMENT["components"]["schemas"]["editcritic.v1.Edit"]["properties"]["prompt"]
    assert prompt["description"].startswith("What the user asked for; may be empty (removal).")
    assert comments()["editcritic.v1.CriticService.Rank"].startswith("Orders candidates of one edit")
    # What follows a nested block is told of its own message again.
    assert comments()["editcritic.v1.RefineResponse.result"] == "The run is over. Always the last event."


async def test_the_server_offers_what_it_serves_and_no_more(address: str) -> None:
    told = (await ask(address, "openapi.json", method="GET")).json
    assert {path.split("/")[2] for path in told["paths"]} == {"CriticService", "health", "openapi.json"}


async def test_real_answers_are_as_the_document_says(
    address: str, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    options = pb.CritiqueOptions(heat_map=True)
    request = pb.CritiqueRequest(edit=edit, candidate=make_candidate(), options=options)
    body = DOCUMENT["paths"]["/v1/CriticService/Critique"]["post"]["requestBody"]["content"]
    validate(json.loads(as_json(request)), body["application/json"]["schema"])
    validate((await ask(address, "CriticService/Critique", request)).json, content("CriticService/Critique"))
    validate(
        (await ask(address, "CriticService/ListCritics", b"{}")).json, content("CriticService/ListCritics")
    )
    refused = await ask(address, "CriticService/Critique", b"{}")
    validate(refused.json, content("CriticService/Critique", "default"))
    lines = [
        pb.CritiqueStreamRequest(open=pb.OpenEdit(edit=edit)),
        pb.CritiqueStreamRequest(candidate=make_candidate()),
    ]
    streamed = await ask(address, "CriticService/CritiqueStream", lines)
    assert [next(iter(line)) for line in streamed.lines] == ["result", "error"]
    for line in streamed.lines:
        validate(line, content("CriticService/CritiqueStream"))


@pytest.mark.parametrize("wrong", [{"edit": 1}, {"edits": {}}, {"edit": {"source": {"raw": {"width": "x"}}}}])
def test_the_document_tells_a_wrong_request_from_a_right_one(wrong: Any) -> None:
    body = DOCUMENT["paths"]["/v1/CriticService/Critique"]["post"]["requestBody"]["content"]
    with pytest.raises(jsonschema.ValidationError):
        validate(wrong, body["application/json"]["schema"])
