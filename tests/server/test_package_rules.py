"""What the package never does: unpickle, run a model's own code, or open what a client names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from editcritic.v1 import critic_pb2, refine_pb2

ROOT = Path(__file__).parents[2]
FILES = sorted(
    file
    for room in ("server", "refine", "plugin", "protos")
    for file in (ROOT / room).rglob("*.py")
    if "_pb2" not in file.name
)
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


# A server of the kind that published judges have, which ours is measured against: it listens on loopback, in a process
# of its own, while `editcritic bench serve --against flask` runs.
UNPICKLES = ROOT / "plugin" / "peers" / "flask_peer.py"


def called_name(call: ast.Call) -> str:
    return ast.unparse(call.func)


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0]


def unsafe_calls(tree: ast.AST) -> Iterator[str]:
    """Calls that load weights or code as programs: ``torch.load`` and its kin, and trust in remote code."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = called_name(node)
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in ("torch.load", "torch.hub.load", "eval", "exec", "__import__", "yaml.load", "os.system"):
            if name == "torch.load" and keywords.get("weights_only") == "True":
                continue
            yield f"line {node.lineno}: {name}"
        if name.endswith("np.load") and keywords.get("allow_pickle", "False") != "False":
            yield f"line {node.lineno}: {name}"
        if (
            keywords.get("trust_remote_code", "False") != "False"
            or keywords.get("use_safetensors") == "False"
        ):
            yield f"line {node.lineno}: {name}"
        if keywords.get("shell") == "True":
            yield f"line {node.lineno}: {name}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_unpickled_and_no_code_comes_with_weights(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert not PICKLES & set(imported(tree)) or file == UNPICKLES
    assert list(unsafe_calls(tree)) == []


def test_what_unpickles_is_known_to_the_benchmark_alone_and_listens_on_loopback() -> None:
    using = [file for file in FILES if file != UNPICKLES and "flask_peer" in file.read_text(encoding="utf-8")]
    assert [file.name for file in using] == ["contenders.py"]
    listening = [
        [ast.unparse(each) for each in node.args[:1]]
        for node in ast.walk(ast.parse(UNPICKLES.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and called_name(node) == "make_server"
    ]
    assert listening == [["'127.0.0.1'"]]


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=given)",
        "DiffusionPipeline.from_pretrained(name, use_safetensors=False)",
        "eval(text)",
    ],
)
def test_the_rule_sees_what_it_is_for(line: str) -> None:
    assert list(unsafe_calls(ast.parse(line)))


def reachable(message: Descriptor, seen: set[str]) -> Iterator[FieldDescriptor]:
    if message.full_name in seen:
        return
    seen.add(message.full_name)
    for field in message.fields:
        yield field
        if field.message_type is not None:
            yield from reachable(field.message_type, seen)


REQUESTS = [
    method.input_type
    for module in (critic_pb2, refine_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
# Names of texts that a client may send; each is either words, or looked up among what the server's owner offers.
TEXTS = {
    "prompt", "negative_prompt", "comment",  # words
    # Keys, of a narrow alphabet.
    "edit_id", "candidate_id", "other_candidate_ids", "verdict_id", "resume_edit_id", "page_token",
    "critic", "engine",  # names of a list
    # Of the critique that a verdict is about: kept as it came, and never acted on.
    "name", "version", "calibration", "score_meaning", "abstention_detail", "explanation", "unit",
}  # fmt: skip


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda kind: kind.name)
def test_no_request_names_a_file_or_an_address(request_type: Descriptor) -> None:
    texts = {field.name for field in reachable(request_type, set()) if field.type == field.TYPE_STRING}
    assert texts <= TEXTS, "a new text of a request: say here what it is, and never open what it names"
    named = {field.name for field in reachable(request_type, set())}
    words = {word for name in named for word in name.split("_")}
    assert not words & {
        "path",
        "file",
        "filename",
        "folder",
        "directory",
        "url",
        "uri",
        "link",
        "address",
        "host",
    }


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda kind: kind.name)
def test_no_request_carries_a_message_of_any_type(request_type: Descriptor) -> None:
    nested = {field.message_type.full_name for field in reachable(request_type, set()) if field.message_type}
    assert not {name for name in nested if name.startswith(("google.protobuf.Any", "google.protobuf.Struct"))}
