"""docs/contract.md, made of what the .proto files say: ``python -m tests.protos.contract_page``; `.ci/protos` does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import import_module, resources
from pathlib import Path

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from editcritic.server.callers import role_of
from editcritic.server.http_face.comments import comments
from editcritic.server.http_face.wire import http_status
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import errors

__all__ = ["PAGE", "contract_page", "services"]

PAGE = Path(__file__).parents[2] / "docs" / "contract.md"
_PACKAGE = "editcritic.v1"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_COSTS = {
    "Critique": "one request, one item while it runs",
    "CritiqueStream": "one request, which holds its first candidate; each further candidate or preview one more, and "
    "an item until it is answered",
    "Rank": "one request for each candidate, and an item while it runs",
    "Refine": "one request and one item for the whole run, whatever it judges",
}
_ONE_CALL = "one request"
_SHOWN = (
    pb.Edit,
    pb.Candidate,
    pb.DenoisingProgress,
    pb.CritiqueOptions,
    pb.Critique,
    pb.Scores,
    pb.Score,
    pb.Defect,
)

_HEAD = """# The contract on one page

Made from the comments of `protos/editcritic/v1/*.proto` by `.ci/protos`; change it there. The same services answer over
[HTTP and JSON](http.md) at `POST /v1/<Service>/<Method>`. Messages grow and never change, so an old client goes on
working. A request and an item are what a token's [quota](security.md#tokens-roles-quotas) counts; without tokens
nothing is counted.
"""


def services() -> list[ServiceDescriptor]:
    """Every service of the contract, in the order of its files."""
    files = sorted(file.name for file in resources.files(_PACKAGE).iterdir() if file.name.endswith(".proto"))
    modules = [import_module(f"{_PACKAGE}.{name.removesuffix('.proto')}_pb2") for name in files]
    found = [each for module in modules for each in module.DESCRIPTOR.services_by_name.values()]
    return sorted(found, key=lambda service: (role_of(f"/{service.full_name}/"), service.name))


def contract_page() -> str:
    """The page, Markdown."""
    parts = [_HEAD, _conventions()]
    for service in services():
        parts += [*_service(service), *(_method(method) for method in service.methods)]
    parts += ["## What most of them speak of\n", *(_message(each.DESCRIPTOR) for each in _SHOWN)]
    return "\n".join([*parts, _errors(), _reasons()]).rstrip() + "\n"


def _conventions() -> str:
    text = resources.files(_PACKAGE).joinpath("critic.proto").read_text(encoding="utf-8")
    found = re.findall(r"^//   \* (.+)$", text, re.MULTILINE)
    return "## Conventions\n\n" + "\n".join(f"- {line}" for line in found) + "\n"


def _service(service: ServiceDescriptor) -> Iterator[str]:
    role = role_of(f"/{service.full_name}/").name.lower()
    yield f"## {service.name}\n\n{_said(service.full_name)}\n\nRole `{role}`.\n"
    rows = [
        f"| [{each.name}](#{each.name.lower()}) | {_COSTS.get(each.name, _ONE_CALL)} |"
        for each in service.methods
    ]
    yield "| method | costs |\n|---|---|\n" + "\n".join(rows) + "\n"


def _method(method: MethodDescriptor) -> str:
    asked, answered = _streamed(method.containing_service.file.name, method)
    told = f"### {method.name}\n\n{_said(method.full_name)}\n\n`{asked}` → `{answered}`\n"
    return f"{told}\n{_fields(method.input_type)}" if method.input_type.fields else told


def _message(message: Descriptor) -> str:
    return f"### {message.name}\n\n{_said(message.full_name)}\n\n{_fields(message)}"


def _fields(message: Descriptor) -> str:
    rows = [f"| `{each.name}` | {_type(each)} | {_said(each.full_name)} |" for each in message.fields]
    return "| field | type | |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _streamed(proto: str, method: MethodDescriptor) -> tuple[str, str]:
    text = resources.files(_PACKAGE).joinpath(proto.rpartition("/")[2]).read_text(encoding="utf-8")
    found = re.search(rf"rpc {method.name}\(([^)]*)\) returns \(([^)]*)\)", text)
    assert found, method.full_name
    return found[1], found[2]


def _type(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    name = named.name if named else _SCALARS[field.type]
    return f"repeated {name}" if field.is_repeated else name


_SCALARS = {
    getattr(FieldDescriptor, f"TYPE_{name.upper()}"): name
    for name in ("double", "int32", "int64", "bool", "string", "bytes")
}


def _said(name: str) -> str:
    return " ".join(comments().get(name, "").split()).replace("|", "\\|")


def _errors() -> str:
    classes = [each for each in (getattr(errors, name) for name in errors.__all__) if isinstance(each, type)]
    rows = [
        f"| `{each.__name__}` | {_CODES[each.code]} | {http_status(each.code)} | {_first_line(each)} |"
        for each in sorted(classes, key=lambda each: (each.code, each.__name__))
        if each is not errors.EditCriticError
    ]
    head = "| class in Python | status | over HTTP | |\n|---|---|---|---|\n"
    return (
        "## Errors\n\nA refusal is a `google.rpc.Status` with `ErrorInfo` (domain `editcritic`, one of the reasons "
        "below), `BadRequest` with the field at fault, and `RetryInfo` where trying again makes sense. An item of "
        "a stream or of a ranking that fails carries the same status and does not end the others.\n\n"
        + head
        + "\n".join(rows)
        + "\n"
    )


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").partition("\n")[0]


def _reasons() -> str:
    rows: Iterable[tuple[str, str]] = (
        (value.name.removeprefix("ERROR_REASON_"), _said(f"{_PACKAGE}.ErrorReason.{value.name}"))
        for value in pb.ErrorReason.DESCRIPTOR.values
        if value.number
    )
    told = "\n".join(f"| `{name}` | {said} |" for name, said in rows)
    return f"## Reasons\n\n| reason | |\n|---|---|\n{told}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(contract_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
