"""Counting what a request holds before anything is made of it: as JSON, and as protobuf."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rtrelay.v1 import ConverseRequest, Message, Part, Prompt, Start

from relay.errors import InvalidRequest
from relay.frontends import proto_scan
from relay.frontends.limits import (
    MAX_CALLS,
    MAX_MESSAGE_CALLS,
    MAX_MESSAGE_PARTS,
    MAX_NODES,
    MAX_PARTS,
    Allowance,
    count_nodes,
)
from relay.frontends.proto_scan import MAX_FIELDS, holds_too_many_fields
from tests.fakes.properties import examples

# --- JSON -----------------------------------------------------------------------------------

_TEXTS = st.text(alphabet='a,[{"\\\n日', max_size=6)
_VALUES = st.recursive(
    st.none() | st.integers(-9, 9) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=30,
)


def nodes_of(value: Any) -> int:
    """Values, an empty list or object as two."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return 1 + (sum(map(nodes_of, value)) or 1)
    return 1


@examples(300)
@given(_VALUES, st.integers(0, 40))
def test_nodes_are_counted_whatever_stands_in_strings(value: Any, enough: int) -> None:
    real = nodes_of(value)
    text = orjson.dumps(value)
    assert count_nodes(text, real) == real
    assert (count_nodes(text, enough) <= enough) == (real <= enough)


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * MAX_NODES + b"[]]",
        b"[" + b"1," * MAX_NODES + b"1]",
        b"[" + b'"",' * MAX_NODES + b'""]',
        b"{" + b'"":{},' * MAX_NODES + b'"":1}',
        b"[" * MAX_NODES * 2,  # no JSON, but built up to its end
        b'["\\"' + b'","' * MAX_NODES + b'"]',
        b'["\\\\",' + b'"",' * MAX_NODES + b"1]",
    ],
)
def test_too_many_values_are_refused_by_the_field(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Allowance().take_json(text, "the.field")
    assert raised.value.field == "the.field"


@pytest.mark.parametrize("word", [b"a, ", b"[{", b'\\"', b'\\"[],\\"', b"\\\\", b'\\\\\\",'])
def test_a_long_text_is_one_value(word: bytes) -> None:
    text = b'{"a":"' + word * MAX_NODES + b'"}'
    assert orjson.loads(text)
    allowance = Allowance()
    for _ in range(3):
        allowance.take_json(text, "x")


def test_documents_of_one_request_are_counted_together() -> None:
    half = b"[" + b"1," * (MAX_NODES // 2) + b"1]"
    allowance = Allowance()
    allowance.take_json(half, "a")
    with pytest.raises(InvalidRequest, match=r"^b: "):
        allowance.take_json(half, "b")


def test_parts_and_calls_are_counted_a_message_and_together() -> None:
    allowance = Allowance()
    for _ in range(MAX_PARTS // MAX_MESSAGE_PARTS):
        allowance.take_parts(MAX_MESSAGE_PARTS, "x")
    with pytest.raises(InvalidRequest, match="together"):
        allowance.take_parts(1, "x")
    with pytest.raises(InvalidRequest, match=f"more than {MAX_MESSAGE_PARTS} entries"):
        Allowance().take_parts(MAX_MESSAGE_PARTS + 1, "x")
    allowance = Allowance()
    for _ in range(MAX_CALLS // MAX_MESSAGE_CALLS):
        allowance.take_calls(MAX_MESSAGE_CALLS, "x")
    with pytest.raises(InvalidRequest, match="together"):
        allowance.take_calls(MAX_MESSAGE_CALLS, "x")
    with pytest.raises(InvalidRequest, match=f"more than {MAX_MESSAGE_CALLS} entries"):
        Allowance().take_calls(MAX_MESSAGE_CALLS + 1, "x")


# --- protobuf -------------------------------------------------------------------------------

KIND = ConverseRequest


def framed(prompt: Prompt) -> bytes:
    return ConverseRequest(start=Start(generation_id="g", prompt=prompt)).SerializeToString()


def test_two_bytes_are_the_shortest_field() -> None:
    # `generation_id` and three heads come on top of the messages.
    fitting = Prompt.FromString(b"\x0a\x00" * (MAX_FIELDS - 3))
    assert not holds_too_many_fields(KIND, framed(fitting))
    assert holds_too_many_fields(KIND, framed(Prompt.FromString(b"\x0a\x00" * (MAX_FIELDS - 2))))
    assert not holds_too_many_fields(KIND, b"\x0a\x00" * MAX_FIELDS)


@pytest.mark.parametrize(
    "unit",
    [
        b"\x12\x02\x52\x00",  # a start with an empty `supersedes`
        b"\x12\x04\x22\x02\x0a\x00",  # a start with a prompt with a message
        b"\xf8\x07\x01",  # fields that nobody knows: a number,
        b"\xfa\x07\x00",  # bytes,
        b"\xfb\x07\xfc\x07",  # a group,
        b"\xfd\x07\0\0\0\0",  # four bytes,
        b"\xf9\x07\0\0\0\0\0\0\0\0",  # eight,
        b"\xf8\xff\xff\x07\x80\x80\x01",  # and a number of several bytes
        b"\x0a\x04\x1a\x02\x0a\x00",  # a label of a setup
    ],
)
def test_fields_are_counted_at_every_level_known_or_not(unit: bytes) -> None:
    data = unit * (MAX_FIELDS + 1)
    assert ConverseRequest.FromString(data).ByteSize() > 0
    assert holds_too_many_fields(KIND, data)


def test_long_texts_are_few_fields() -> None:
    parts = [Part(text="\x0a\x00" * 1000)] * 100
    assert not holds_too_many_fields(KIND, framed(Prompt(messages=[Message(parts=parts)] * 20)))


@examples(200)
@given(st.binary(max_size=40), st.integers(0, 10))
def test_any_bytes_are_looked_through(data: bytes, at: int) -> None:
    """Nothing is raised, and no more is looked at than the limit says."""
    padded = framed(Prompt(messages=[Message()] * 40))
    data = padded[:at] + data + padded[at:]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(proto_scan, "MAX_FIELDS", 10)
        holds_too_many_fields(KIND, data)


def test_a_number_that_never_ends_is_not_followed() -> None:
    assert not holds_too_many_fields(KIND, b"\x08" + b"\xff" * 4_000_000)
    assert not holds_too_many_fields(KIND, b"\xff" * 4_000_000)
