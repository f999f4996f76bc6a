"""How many fields a protobuf message holds, counted without making anything of it.

A parsed message costs many times its bytes, and two bytes are a whole submessage; so a long
message is looked through first, only as far as the limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

MAX_FIELDS = 50_000
"""Of one message and all within it: ten thousand messages of text have 40,000."""

_VARINT, _FIXED64, _BYTES, _GROUP, _END_GROUP, _FIXED32 = range(6)
_MAX_VARINT_BYTES = 10


def holds_too_many_fields(kind: type[Message], data: bytes) -> bool:
    """Whether a message has more than `MAX_FIELDS` fields, those of all messages in it counted.

    Of bytes that are no such message the answer may be either; the parser refuses them.
    """
    if len(data) <= 2 * MAX_FIELDS:  # no field is shorter than two bytes
        return False
    left = MAX_FIELDS
    at, end, inner = 0, len(data), _messages_in(kind.DESCRIPTOR)
    outside: list[tuple[int, int, Mapping[int, Descriptor]]] = []
    try:
        while True:
            if at >= end:
                if not outside:
                    return False
                at, end, inner = outside.pop()
                continue
            left -= 1
            if left < 0:
                return True
            tag = data[at]
            at += 1
            if tag > 127:
                byte = data[at]
                at += 1
                if byte < 128:  # as good as all that have more than one byte
                    tag = tag & 127 | byte << 7
                else:
                    tag, at = _varint(data, at - 2)
            wire_type = tag & 7
            if wire_type == _BYTES:
                size = data[at]
                at += 1
                if size > 127:
                    size, at = _varint(data, at - 1)
                found = inner.get(tag >> 3)
                if found is None or not size:
                    at += size
                elif at + size > end:
                    return False
                else:
                    outside.append((at + size, end, inner))
                    end, inner = at + size, _messages_in(found)
            elif wire_type == _VARINT:
                if data[at] > 127:
                    _, at = _varint(data, at)
                else:
                    at += 1
            elif wire_type == _FIXED64:
                at += 8
            elif wire_type == _FIXED32:
                at += 4
            elif wire_type not in (_GROUP, _END_GROUP):  # their tags have nothing behind them
                return False
    except (IndexError, _NotProtobuf):
        return False


class _NotProtobuf(Exception):
    pass


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends.

    Raises:
        IndexError: it is cut.
        _NotProtobuf: it is longer than any number.
    """
    value = 0
    for place in range(_MAX_VARINT_BYTES):
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value, at + place + 1
    raise _NotProtobuf


@cache
def _messages_in(kind: Descriptor) -> Mapping[int, Descriptor]:
    """The fields of a message that are messages themselves, by number."""
    return {
        field.number: field.message_type for field in kind.fields if field.message_type is not None
    }
