"""How much one request may hold, whichever door it comes through.

Bytes are not enough: four megabytes can be two million empty messages, and to build those would
stop the loop for seconds. So what is many is counted before anything is made of it. The figures are
far above what conversations need; together they keep the largest accepted request under 100 ms.
"""

from __future__ import annotations

from relay.errors import InvalidRequest

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one completion while it is collected, each piece with its object: several hundred thousand
tokens, or some minutes of uncompressed sound."""
MAX_MESSAGES = 10_000
MAX_MESSAGE_PARTS = 2_000
"""Of one message."""
MAX_PARTS = 10_000
"""Of all messages together."""
MAX_MESSAGE_CALLS = 256
"""Tool calls of one message."""
MAX_CALLS = 2_000
"""Tool calls of all messages together."""
MAX_TOOLS = 1_000
MAX_STOPS = 64
"""Texts that end the answer."""
MAX_BODY_FIELDS = 1_000
"""Of a body itself; each is looked at several times."""
MAX_TAGS = 32
MAX_LABELS = 16
MAX_LABEL_CHARS = 256
"""Of a label's name or value, a tag, a client's name, a turn's id."""

MAX_NODES = 100_000
"""JSON values of one request: everything but keys, an empty list or object counted as two."""

MAX_VECTOR_NODES = 350_000
"""The same of a request for vectors, whose texts may come as tokens: OpenAI takes 300,000 of them,
which frameworks fill."""

_FEW_NODES = 1_000
"""A count that is taken as it is, and not looked into."""


def check_count(count: int, limit: int, field: str) -> None:
    """
    Raises:
        InvalidRequest: the field holds more than the limit.
    """
    if count > limit:
        raise InvalidRequest(f"{field} holds more than {limit} entries", field=field)


def count_nodes(document: bytes, enough: int = MAX_NODES) -> int:
    """How many values a JSON text holds, as `MAX_NODES` counts them, without parsing it.

    Exact up to `enough`; beyond it, any number that is larger. Of a text that is no JSON: no less
    than what a parser makes of it before it finds that out.
    """
    if b"\\" in document:
        document = document.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = document.translate(None, _NO_SKELETON)
    if skeleton.count(b'"') > 4 * (enough + 1):  # two a string, and a value has one key
        return enough + 1
    return 1 + sum(map(len, skeleton.split(b'"')[::2]))


def _separators(text: bytes) -> int:
    return 1 + len(text.translate(None, _NO_SEPARATOR))


# One pass that deletes is several times as fast as a search for each character.
_NO_SEPARATOR = bytes(set(range(256)) - set(b",[{"))
_NO_SKELETON = bytes(set(range(256)) - set(b',[{"'))


class Allowance:
    """What is left of the limits that hold for one request as a whole, while it is read."""

    __slots__ = ("_calls", "_max_nodes", "_nodes", "_parts")

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._parts = MAX_PARTS
        self._calls = MAX_CALLS
        self._nodes = self._max_nodes = max_nodes

    def take_parts(self, count: int, field: str) -> None:
        """Call before the parts of a message are read.

        Raises:
            InvalidRequest: there are more of them than one message, or the request, may hold.
        """
        check_count(count, MAX_MESSAGE_PARTS, field)
        self._parts -= count
        if self._parts < 0:
            raise InvalidRequest(
                f"{field}: the messages hold more than {MAX_PARTS} parts together", field=field
            )

    def take_calls(self, count: int, field: str) -> None:
        """Call before the tool calls of a message are read.

        Raises:
            InvalidRequest: there are more of them than one message, or the request, may hold.
        """
        check_count(count, MAX_MESSAGE_CALLS, field)
        self._calls -= count
        if self._calls < 0:
            raise InvalidRequest(
                f"{field}: the messages hold more than {MAX_CALLS} tool calls together",
                field=field,
            )

    def take_json(self, document: bytes, field: str) -> int:
        """Call before a JSON text is parsed.

        Returns:
            How many values it holds at most: one for each comma and opening bracket, and one more.

        Raises:
            InvalidRequest: it holds more values than are left for the request.
        """
        nodes = _separators(document)
        if nodes > _FEW_NODES:  # though they may all be within its texts
            nodes = count_nodes(document, self._nodes)
        self._nodes -= nodes
        if self._nodes < 0:
            raise InvalidRequest(
                f"{field}: the request holds more than {self._max_nodes} JSON values", field=field
            )
        return nodes
