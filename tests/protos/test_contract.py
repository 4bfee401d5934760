"""The generated code says what the .proto files say, and the contract keeps its own rules."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import google.rpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

from editcritic.v1 import critic_pb2, refine_pb2

PROTOS = Path(__file__).parents[2] / "protos"
FILES = {"editcritic/v1/critic.proto": critic_pb2, "editcritic/v1/refine.proto": refine_pb2}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """What today's protoc makes of the .proto files."""
    output = tmp_path_factory.mktemp("protoc") / "contract.binpb"
    google_protos = Path(next(iter(google.rpc.__path__))).parents[1]
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{google_protos}"),
            *(f"--descriptor_set_out={output}", *FILES),
        ],
        check=True,
    )
    files = descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes()).file
    return {file.name: file for file in files}


@pytest.mark.parametrize("name", FILES)
def test_generated_code_is_current(
    name: str, compiled: dict[str, descriptor_pb2.FileDescriptorProto]
) -> None:
    generated = descriptor_pb2.FileDescriptorProto()
    FILES[name].DESCRIPTOR.CopyToProto(generated)
    written = compiled[name]
    for message in written.message_type:
        for field in message.field:
            # protoc fills it in for descriptor sets, the generated module leaves it out.
            field.ClearField("json_name")
    assert generated == written, f"run .ci/protos: {name} was changed after its code was generated"


@pytest.mark.parametrize("module", FILES.values(), ids=FILES.keys())
def test_numbers_are_signed_because_editors_languages_lack_unsigned_ones(module: object) -> None:
    file: FileDescriptor = module.DESCRIPTOR  # type: ignore[attr-defined]
    unsigned = {
        descriptor_pb2.FieldDescriptorProto.TYPE_UINT32,
        descriptor_pb2.FieldDescriptorProto.TYPE_UINT64,
    }
    found = [
        field.full_name
        for message in file.message_types_by_name.values()
        for field in message.fields
        if field.type in unsigned
    ]
    assert found == []


def test_method_names_are_unique_over_services_because_ray_routes_by_them() -> None:
    methods = [
        method.name
        for module in FILES.values()
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    assert len(methods) == len(set(methods))


def test_a_score_of_zero_differs_from_no_score() -> None:
    assert critic_pb2.Score(value=0.0).HasField("value")
    assert not critic_pb2.Score().HasField("value")
