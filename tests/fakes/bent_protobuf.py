"""Protobuf as no client should write it, for property tests: messages drawn from their descriptors,
and their bytes bent out of shape.

    @given(data=bent(frames()))

A message has any of its fields with any value of their type; its bytes have bits flipped, ends cut
off, lengths that lie, wire types that are others, fields twice, in another order, unknown, and
groups inside each other without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

GROUPS: Final = 10_000
_DEEP: Final = b"\x7b" * GROUPS + b"\x7c" * GROUPS
"""Field 15 as a group in a group."""
_UNKNOWN: Final = (
    b"\xf8\x7f\x01",  # field 2,047, a number
    b"\xfa\x7f\x03abc",
    b"\x08",  # a tag with nothing behind it
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a tag of eleven bytes
    b"\x07",  # a wire type that there is not
    b"\x0b\x14",  # a group that another one ends
    b"\x00\x00",  # field 0
)

TEXTS: Final = st.sampled_from(["", "g1", "g2", "fast", "a/b", "é\U0001f600", "x" * 300, "\x00"])
BLOBS: Final = st.sampled_from(
    [
        *(b"", b"{}", b"[]", b"null", b'{"a":', b"\xff\xfe", b"[" * 300),
        b'{"model":"fast","messages":[{"role":"user","content":"Hi"}]}',
        b'{"model":"fast","messages":[{"role":"user","content":"Hi"}],"base_url":"http://x"}',
    ]
)
_INTS: Final = st.sampled_from([0, 1, 2, 7, 100, 60_000])
_NUMBERS: Final = st.sampled_from([0.0, 0.5, -1.0, 1e300, float("nan"), float("inf")])


def messages(kind: type[Message], depth: int = 3) -> st.SearchStrategy[Any]:
    """Any message of a kind, at most so many messages inside each other."""
    return st.builds(lambda values: _made(kind, values), _fields(kind.DESCRIPTOR, depth))


def _made(kind: type[Message], values: dict[str, Any]) -> Message:
    message = kind()
    for name, value in values.items():
        field = kind.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, name).update(value)
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _fields(kind: Any, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    found: dict[str, Any] = {}
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            found[field.name] = st.dictionaries(TEXTS, TEXTS, max_size=2)
        elif inner is not None and depth == 0:
            continue
        elif inner is not None:
            value = messages(GetMessageClass(inner), depth - 1)
            found[field.name] = st.lists(value, max_size=2) if field.is_repeated else value
        else:
            value = _scalar(field)
            found[field.name] = st.lists(value, max_size=3) if field.is_repeated else value
    return st.fixed_dictionaries({}, optional=found)


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.cpp_type == field.CPPTYPE_STRING:
        return BLOBS if field.type == field.TYPE_BYTES else TEXTS
    if field.cpp_type == field.CPPTYPE_BOOL:
        return st.booleans()
    if field.cpp_type == field.CPPTYPE_ENUM:
        kinds: Any = field.enum_type
        numbers = [value.number for value in kinds.values]
        return st.sampled_from([*numbers, 99])
    if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
        return _NUMBERS
    if field.cpp_type in (field.CPPTYPE_INT32, field.CPPTYPE_INT64):
        return _INTS | st.just(-1)
    return _INTS


# --- bytes --------------------------------------------------------------------------------------

_HOW: Final = (
    "flip",
    "cut",
    "drop",
    "twice",
    "swap",
    "type",
    "lie",
    "unknown",
    "deep",
    "other",
)
_BENDS: Final = st.lists(
    st.tuples(st.sampled_from(_HOW), st.integers(0, 1 << 16), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


def bent(whole: st.SearchStrategy[Message]) -> st.SearchStrategy[bytes]:
    """The bytes of a message after some bends."""

    def made(first: Message, other: Message, bends: list[tuple[str, int, int]]) -> bytes:
        data = first.SerializeToString()
        for how, at, byte in bends:
            data = _bend(data, how, at, byte, other.SerializeToString())
        return data

    return st.builds(made, whole, whole, _BENDS)


def fields_of(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the fields of a message begin and end, as far as they can be told."""
    at = 0
    while at < len(data):
        begin = at
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                _, at = _varint(data, at)
            case 1:
                at += 8
            case 2:
                size, at = _varint(data, at)
                at += size
            case 5:
                at += 4
            case _:
                return
        if at > len(data):
            return
        yield begin, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at
    return 0, len(data) + 1


def _bend(data: bytes, how: str, at: int, byte: int, other: bytes) -> bytes:
    places = list(fields_of(data)) or [(0, len(data))]
    begin, end = places[at % len(places)]
    match how:
        case "flip" if data:
            spot = at % len(data)
            return data[:spot] + bytes([data[spot] ^ (1 << byte % 8)]) + data[spot + 1 :]
        case "cut":
            return data[: at % (len(data) + 1)]
        case "drop":
            return data[:begin] + data[end:]
        case "twice":
            return data[:end] + data[begin:end] * (1 + byte % 3) + data[end:]
        case "swap":
            return data[end:] + data[begin:end] + data[:begin]
        case "type" if end > begin:
            return data[:begin] + bytes([data[begin] & 0xF8 | byte % 8]) + data[begin + 1 :]
        case "lie" if end > begin + 1:
            return data[: begin + 1] + bytes([byte]) + data[begin + 2 :]
        case "unknown":
            return data[:end] + _UNKNOWN[byte % len(_UNKNOWN)] + data[end:]
        case "deep":
            return data[:end] + _DEEP[: byte * 80] + data[end:]
        case "other":  # where both have one field of a oneof the last one counts
            return data + other
        case _:
            return data
