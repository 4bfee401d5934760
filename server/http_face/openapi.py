"""The HTTP face described by OpenAPI 3.1, made of the descriptors of the services (https://spec.openapis.org/oas/v3.1.1)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    MethodDescriptor,
    ServiceDescriptor,
)

from editcritic.server.http_face.comments import comments

__all__ = ["describe"]

Json = dict[str, Any]
_NUMBER = FieldDescriptor
_INT32: Json = {"type": "integer", "format": "int32"}
_INT64: Json = {"type": ["string", "integer"], "format": "int64", "pattern": "^-?[0-9]+$"}
_FLOAT: Json = {"anyOf": [{"type": "number", "format": "double"}, {"enum": ["NaN", "Infinity", "-Infinity"]}]}
_SCALARS: dict[int, Json] = {
    _NUMBER.CPPTYPE_INT32: _INT32,
    _NUMBER.CPPTYPE_UINT32: {**_INT32, "minimum": 0},
    _NUMBER.CPPTYPE_INT64: _INT64,
    _NUMBER.CPPTYPE_UINT64: {**_INT64, "pattern": "^[0-9]+$"},
    _NUMBER.CPPTYPE_DOUBLE: _FLOAT,
    _NUMBER.CPPTYPE_FLOAT: _FLOAT,
    _NUMBER.CPPTYPE_BOOL: {"type": "boolean"},
}
_ANY: Json = {
    "type": "object",
    "description": "A message of a type that it names.",
    "properties": {"@type": {"type": "string"}},
    "required": ["@type"],
}
_ERROR: Json = {
    "type": "object",
    "description": "What went wrong, as google.rpc.Status says it.",
    "properties": {
        "code": {"type": "string", "description": "Name of the canonical gRPC code."},
        "status": {"type": "integer", "description": "Its number."},
        "message": {"type": "string", "description": "For a developer."},
        "details": {
            "type": "array",
            "description": "google.rpc.ErrorInfo with the reason; others where they apply.",
            "items": {"$ref": "#/components/schemas/google.protobuf.Any"},
        },
    },
    "required": ["code", "status", "message", "details"],
}
_HEALTH: Json = {
    "type": "object",
    "properties": {"status": {"enum": ["SERVING", "NOT_SERVING"]}},
    "required": ["status"],
}
_DEADLINE: Json = {
    "name": "Grpc-Timeout",
    "in": "header",
    "description": "Time that the call may take: up to 8 digits and H, M, S, m, u or n, such as 30S.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
}
_STREAMED = "One JSON object a line (NDJSON), each as this schema says."


def describe(services: Sequence[ServiceDescriptor]) -> Json:
    """The document for some services."""
    schemas = _Schemas()
    paths: Json = {"/v1/health": _get("health", "Whether the server is ready.", _HEALTH, also="503")}
    paths["/v1/openapi.json"] = _get("openapi", "This document.", {"type": "object"})
    for service in services:
        for method in service.methods:
            paths[f"/v1/{service.name}/{method.name}"] = {"post": _operation(method, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "editcritic",
            "version": metadata.version("editcritic"),
            "description": "The gRPC services of editcritic as JSON over HTTP. Bytes are base64, names lowerCamelCase.",
        },
        "tags": [{"name": each.name, "description": comments().get(each.full_name, "")} for each in services],
        "paths": paths,
        "components": {
            "schemas": {**schemas.found, "Error": _ERROR, "google.protobuf.Any": _ANY},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _get(name: str, summary: str, schema: Json, also: str = "") -> Json:
    answer = {"description": summary, "content": {"application/json": {"schema": schema}}}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "security": [{}],
            "responses": {status: answer for status in ("200", also) if status},
        }
    }


def _operation(method: MethodDescriptor, schemas: _Schemas) -> Json:
    service = method.containing_service
    return {
        "operationId": f"{service.name}_{method.name}",
        "tags": [service.name],
        "description": comments().get(method.full_name, ""),
        "parameters": [_DEADLINE],
        "requestBody": {"required": True, "content": _request(method, schemas)},
        "responses": {
            "200": _answer(method, schemas),
            "default": {
                "description": "An error, by gRPC-gateway's mapping of codes to statuses.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }


def _request(method: MethodDescriptor, schemas: _Schemas) -> Json:
    kind = "application/x-ndjson" if method.client_streaming else "application/json"
    schema = schemas.reference(method.input_type)
    return {kind: {"schema": {**schema, "description": _STREAMED} if method.client_streaming else schema}}


def _answer(method: MethodDescriptor, schemas: _Schemas) -> Json:
    schema = schemas.reference(method.output_type)
    if not method.server_streaming:
        return {"description": "The answer.", "content": {"application/json": {"schema": schema}}}
    line = {
        "description": _STREAMED + " An error, if there is one, is the last.",
        "oneOf": [
            {"type": "object", "properties": {"result": schema}, "required": ["result"]},
            {
                "type": "object",
                "properties": {"error": {"$ref": "#/components/schemas/Error"}},
                "required": ["error"],
            },
        ],
    }
    return {
        "description": "Answers as they come.",
        "content": {"application/x-ndjson": {"schema": line}},
    }


class _Schemas:
    """Schemas of messages and enums, each made when it is first referred to."""

    def __init__(self) -> None:
        self.found: Json = {}

    def reference(self, descriptor: Descriptor | EnumDescriptor) -> Json:
        """Points to the schema."""
        name = descriptor.full_name
        if name not in self.found and name != "google.protobuf.Any":
            self.found[name] = {}  # so that a message within itself ends
            self.found[name] = self._made(descriptor)
        return {"$ref": f"#/components/schemas/{name}"}

    def _made(self, descriptor: Descriptor | EnumDescriptor) -> Json:
        told = comments().get(descriptor.full_name, "")
        if isinstance(descriptor, EnumDescriptor):
            return {
                "description": _listed(told, descriptor),
                "enum": [each.name for each in descriptor.values],
            }
        return {
            "type": "object",
            "description": " ".join(filter(None, (told, *_choices(descriptor)))),
            "properties": {field.json_name: self._field(field) for field in descriptor.fields},
            "additionalProperties": False,
        }

    def _field(self, field: FieldDescriptor) -> Json:
        told = comments().get(field.full_name, "")
        schema = self._value(field)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            schema = {
                "type": "object",
                "additionalProperties": self._value(field.message_type.fields_by_name["value"]),
            }
        elif _is_repeated(field):
            schema = {"type": "array", "items": schema}
        return {**schema, "description": told} if told else schema

    def _value(self, field: FieldDescriptor) -> Json:
        if field.message_type is not None:
            return self.reference(field.message_type)
        if field.enum_type is not None:
            return self.reference(field.enum_type)
        if field.type == FieldDescriptor.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        return _SCALARS.get(field.cpp_type, {"type": "string"})


def _choices(descriptor: Descriptor) -> Iterable[str]:
    for choice in descriptor.oneofs:
        names = [field.json_name for field in choice.fields]
        # An optional field is a choice of one, of protobuf's own making.
        if len(names) > 1:
            yield f"At most one of {', '.join(names)}."


def _listed(told: str, enum: EnumDescriptor) -> str:
    values = (f"{each.name}: {comments().get(f'{enum.full_name}.{each.name}', '')}" for each in enum.values)
    return "\n".join((told, *values))


def _is_repeated(field: FieldDescriptor) -> bool:
    known = getattr(field, "is_repeated", None)
    if known is None:  # before protobuf 6
        return bool(field.label == FieldDescriptor.LABEL_REPEATED)  # type: ignore[attr-defined]
    return bool(known)
