"""The gRPC contract: stubs are those of the .proto files, and the rules of the contract hold.

The numbers that the contract shares with the relay's own types are compared with them here.
"""

from __future__ import annotations

import enum
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from rtrelay import v1
from rtrelay.v1 import content_pb2, errors_pb2, relay_pb2, relay_pb2_grpc

from relay import content, errors, timeline
from relay.frontends.http_errors import http_status

ROOT = Path(__file__).resolve().parents[1]
PROTO_DIR = ROOT / "proto"
STUB_DIR = ROOT / "clients" / "python" / "rtrelay" / "v1"
PROTO_PYTHON = ROOT / ".venv-proto" / "bin" / "python"

FILES = (content_pb2.DESCRIPTOR, errors_pb2.DESCRIPTOR, relay_pb2.DESCRIPTOR)
MESSAGES: list[Descriptor] = [m for f in FILES for m in f.message_types_by_name.values()]
ENUMS: list[EnumDescriptor] = [e for f in FILES for e in f.enum_types_by_name.values()]
PER_TOKEN = ("Delta", "ToolArgumentsDelta", "AudioDelta", "Extra", "Segment")
LEFT_OUT = {
    "ConverseRequest": {"context_update", "truncate", "tool_result", "flow_credit"},
    "ConverseResponse": {"output_reset", "seq"},
    "GenerateResponse": {"ready", "pong", "output_reset", "seq"},
    "Setup": {
        "resume_token",
        "last_seq_received",
        "system_instruction",
        "tools",
    },
    "Start": {"base_revision", "prefix_hash", "context_delta", "priority"},
    "Cancel": {"heard_chars"},
    "Ready": {"resume_token"},
    "ToolCallDone": {"result"},
    "End": {"cost"},
}

needs_compiler = pytest.mark.skipif(
    not PROTO_PYTHON.exists(), reason="no .venv-proto; `make install-dev` makes it"
)


def run_generator(*args: str) -> None:
    """Run proto/generate.py in the compiler's own environment."""
    subprocess.run(
        [PROTO_PYTHON, PROTO_DIR / "generate.py", *args], check=True, capture_output=True
    )


def values_of(enum_type: type[enum.Enum], prefix: str) -> dict[str, Any]:
    """Members of a relay enum under the names that they have in the contract."""
    return {prefix + member.name: member.value for member in enum_type}


def proto_values(descriptor: EnumDescriptor) -> dict[str, int]:
    """Values of a proto enum but its zero."""
    return {value.name: value.number for value in descriptor.values if value.number}


# --- generation -----------------------------------------------------------------------------


@needs_compiler
def test_stubs_are_up_to_date(tmp_path: Path) -> None:
    run_generator("--out", str(tmp_path))
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "rtrelay" / "v1").iterdir()}
    checked_in = {path.name: path.read_bytes() for path in STUB_DIR.glob("*_pb2*")}
    assert sorted(fresh) == sorted(checked_in)
    stale = [name for name, stub in fresh.items() if stub != checked_in[name]]
    assert not stale, "run `make proto`"


@needs_compiler
def test_generator_removes_stale_stubs(tmp_path: Path) -> None:
    package = tmp_path / "rtrelay" / "v1"
    package.mkdir(parents=True)
    (package / "gone_pb2.py").touch()
    (package / "__init__.py").touch()
    run_generator("--out", str(tmp_path))
    assert not (package / "gone_pb2.py").exists()
    assert (package / "__init__.py").exists()


@needs_compiler
def test_everything_has_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "contract.binpb"
    run_generator("--descriptors", str(path))
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())
    bare = [
        f"{file.name}: {name}"
        for file in files.file
        if file.package == "rtrelay.v1"
        for name in uncommented(file)
    ]
    assert not bare


def uncommented(file: descriptor_pb2.FileDescriptorProto) -> Iterator[str]:
    """Names of the elements of a file that have no comment before them."""
    commented = {
        tuple(location.path)
        for location in file.source_code_info.location
        if location.leading_comments.strip()
    }
    for m, message in enumerate(file.message_type):
        elements: list[tuple[str, tuple[int, ...]]] = [(message.name, (4, m))]
        elements += [(f.name, (4, m, 2, i)) for i, f in enumerate(message.field)]
        elements += [
            (o.name, (4, m, 8, i))
            for i, o in enumerate(message.oneof_decl)
            if not o.name.startswith("_")  # made by the compiler for `optional`
        ]
        yield from (f"{message.name}.{name}" for name, at in elements if at not in commented)
    for e, enumeration in enumerate(file.enum_type):
        values: list[tuple[str, tuple[int, ...]]] = [(enumeration.name, (5, e))]
        values += [(v.name, (5, e, 2, i)) for i, v in enumerate(enumeration.value)]
        yield from (name for name, at in values if at not in commented)
    for s, service in enumerate(file.service):
        methods: list[tuple[str, tuple[int, ...]]] = [(service.name, (6, s))]
        methods += [(m.name, (6, s, 2, i)) for i, m in enumerate(service.method)]
        yield from (name for name, at in methods if at not in commented)


# --- shape ----------------------------------------------------------------------------------


def test_package_exports_every_message_enum_and_stub() -> None:
    names = {d.name for d in [*MESSAGES, *ENUMS]}
    names |= {"RelayServiceStub", "RelayServiceAsyncStub", "RelayServiceServicer"}
    names |= {"add_RelayServiceServicer_to_server"}
    modules = {"content_pb2", "errors_pb2", "relay_pb2", "relay_pb2_grpc"}
    assert set(v1.__all__) == names | modules
    for name in names:
        home: ModuleType = next(
            module
            for module in (content_pb2, errors_pb2, relay_pb2, relay_pb2_grpc)
            if hasattr(module, name.replace("Async", ""))
        )
        assert getattr(v1, name) is getattr(home, name.replace("Async", ""))


def test_stubs_run_on_protobuf_6_and_7() -> None:
    for path in STUB_DIR.glob("*_pb2.py"):
        assert "# Protobuf Python Version: 6.31.1\n" in path.read_text(encoding="utf-8")


def test_frames_of_generate_are_frames_of_converse() -> None:
    converse = relay_pb2.ConverseResponse.DESCRIPTOR.fields_by_name
    generate = relay_pb2.GenerateResponse.DESCRIPTOR.fields_by_name
    assert set(converse) - set(generate) == {"ready", "pong"}
    for name, field in generate.items():
        assert field.number == converse[name].number
        assert field.message_type is converse[name].message_type

    delta = relay_pb2.Delta(generation_id="g1", text="héllo", char_offset=7)
    encoded = relay_pb2.ConverseResponse(delta=delta).SerializeToString()
    assert relay_pb2.GenerateResponse.FromString(encoded).delta == delta


@pytest.mark.parametrize("name", PER_TOKEN)
def test_per_token_fields_have_one_byte_tags(name: str) -> None:
    fields = relay_pb2.DESCRIPTOR.message_types_by_name[name].fields
    assert max(field.number for field in fields) <= 15


@pytest.mark.parametrize("name", ["ConverseResponse", "GenerateResponse", "ConverseRequest"])
def test_frames_have_one_byte_tags(name: str) -> None:
    message = relay_pb2.DESCRIPTOR.message_types_by_name[name]
    (frame,) = message.oneofs
    assert frame.name == "frame"
    assert len(frame.fields) == len(message.fields)
    assert max(field.number for field in frame.fields) <= 15


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_reserved(name: str) -> None:
    message = descriptor_pb2.DescriptorProto()
    relay_pb2.DESCRIPTOR.message_types_by_name[name].CopyToProto(message)
    assert set(message.reserved_name) == LEFT_OUT[name]
    numbers = [n for span in message.reserved_range for n in range(span.start, span.end)]
    assert len(numbers) == len(LEFT_OUT[name])


@pytest.mark.parametrize("descriptor", ENUMS, ids=lambda d: d.name)
def test_enum_values_carry_their_prefix(descriptor: EnumDescriptor) -> None:
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", descriptor.name).upper() + "_"
    assert all(value.name.startswith(prefix) for value in descriptor.values)
    assert descriptor.values_by_number[0].name == prefix + "UNSPECIFIED"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.name)
def test_field_types_follow_the_conventions(message: Descriptor) -> None:
    for field in message.fields:
        where = f"{message.name}.{field.name}"
        assert field.type != FieldDescriptor.TYPE_FLOAT, f"{where}: use double"
        if field.message_type is not None:
            package = field.message_type.file.package
            assert package == "rtrelay.v1" or field.message_type.full_name == "google.rpc.Status", (
                f"{where}: no Struct, no Duration"
            )
        if field.name.endswith("_json"):
            assert field.type == FieldDescriptor.TYPE_BYTES, where
        if field.name.endswith(("_ms", "_us")):
            assert field.cpp_type in {
                FieldDescriptor.CPPTYPE_UINT32,
                FieldDescriptor.CPPTYPE_UINT64,
            }, where


def test_sampling_tells_unset_from_zero() -> None:
    for field in relay_pb2.Start.DESCRIPTOR.file.pool.FindMessageTypeByName(
        "rtrelay.v1.Sampling"
    ).fields:
        assert field.is_repeated or field.has_presence, field.name
    sampling = content_pb2.Sampling(temperature=0.0)
    assert sampling.HasField("temperature")
    assert not sampling.HasField("top_p")


# --- parity with the relay ------------------------------------------------------------------


def test_error_reasons_are_those_of_the_relay() -> None:
    assert proto_values(errors_pb2.ErrorReason.DESCRIPTOR) == values_of(
        errors.Reason, "ERROR_REASON_"
    )


def test_finish_reasons_are_those_of_the_relay() -> None:
    assert proto_values(content_pb2.FinishReason.DESCRIPTOR) == values_of(
        content.FinishReason, "FINISH_REASON_"
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (content.Role, content_pb2.Role, "ROLE_"),
        (content.ToolChoiceMode, content_pb2.ToolChoiceMode, "TOOL_CHOICE_MODE_"),
    ],
)
def test_enums_have_the_members_of_the_relay(
    ours: type[enum.Enum], theirs: Any, prefix: str
) -> None:
    assert set(proto_values(theirs.DESCRIPTOR)) == set(values_of(ours, prefix))


def test_timeline_has_the_phases_of_the_relay() -> None:
    names = [field.name for field in relay_pb2.Timeline.DESCRIPTOR.fields]
    assert names[: len(timeline.PHASES)] == [f"{phase}_us" for phase in timeline.PHASES]
    attempt = [field.name for field in relay_pb2.AttemptPhases.DESCRIPTOR.fields]
    assert attempt == names[names.index("pool_wait_us") : names.index("relay_out_us")]


def documented_codes() -> dict[str, tuple[str, str]]:
    """Reason -> gRPC code and HTTP status, as the comments of errors.proto give them."""
    text = (PROTO_DIR / "rtrelay" / "v1" / "errors.proto").read_text(encoding="utf-8")
    found = re.findall(
        r"// gRPC ([A-Z_]+), HTTP (\d{3}|none)[^\n]*\n  ERROR_REASON_([A-Z_]+) =", text
    )
    return {reason: (code, http) for code, http, reason in found}


def raised_codes() -> Iterator[tuple[errors.Reason, errors.Code]]:
    """What the relay's own classes say: the code that each reason is raised with."""
    pending: list[type[errors.RelayError]] = [errors.RelayError]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if "reason" in vars(kind) and kind.__module__ == errors.__name__:
            yield kind.reason, kind.code
    for reason in errors.Reason:
        if reason.name.startswith("UPSTREAM_"):
            status = errors.UpstreamStatus("", reason=reason, http_status=200)
            yield reason, status.status_code


def test_every_reason_documents_its_codes() -> None:
    assert set(documented_codes()) == {reason.name for reason in errors.Reason}


def test_documented_codes_are_those_raised() -> None:
    documented = documented_codes()
    wrong = {
        (reason.name, code.name, documented[reason.name][0])
        for reason, code in raised_codes()
        if documented[reason.name][0] != code.name
    }
    assert not wrong


@pytest.mark.parametrize("reason", errors.Reason, ids=lambda reason: reason.name)
def test_documented_http_status_is_the_one_sent(reason: errors.Reason) -> None:
    code, status = documented_codes()[reason.name]
    if status == "none":
        return  # a reason of sessions; the shim never sends it
    kind = type("Failure", (errors.RelayError,), {"code": errors.Code[code], "reason": reason})
    assert http_status(kind("")) == int(status)
