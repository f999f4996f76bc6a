"""Arguments of a function call that come in pieces (`partialArgs`), put together as JSON text.

A piece names a place (`$.recipe.steps[2]`, RFC 9535 as far as one value goes) and holds a value
for it; a text may go on in the next piece for the same place (`willContinue`). Strategy: the
pieces build a tree, and its JSON text is handed on when the call is over. Earlier would save
nothing (nobody can run half a call) and would need the pieces in the order of the text, which
the wire does not promise.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

import orjson

from relay.codecs import lenient_json
from relay.errors import EventTooLarge, RemoteProtocolError
from relay.sse import MAX_EVENT_BYTES

MAX_DEPTH: Final = 64
MAX_NODES: Final = 65_536
"""Of one call; a path of a few bytes may name a place far into a list."""

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"]+)|\[(?P<index>\d{1,5})\]"""
    r"""|\['(?P<single>(?:[^'\\]|\\.)*)'\]|\["(?P<double>(?:[^"\\]|\\.)*)"\]"""
)
_ESCAPED: Final = re.compile(r"\\(.)")
_VALUES: Final = ("stringValue", "numberValue", "boolValue", "nullValue")


class _Text:
    """A text whose pieces are still coming: joined once, at the end."""

    __slots__ = ("pieces", "will_continue")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.will_continue = False


class PartialArgs:
    """The arguments of one call.

    Args:
        known: arguments that came whole with the call's first part.
    """

    __slots__ = ("_nodes", "_root", "held_chars")

    def __init__(self, known: dict[str, Any]) -> None:
        self._root = known
        self._nodes = 0
        self.held_chars = 0
        """Of all pieces so far, their paths included."""

    def add(self, pieces: Any) -> None:
        """Take the `partialArgs` of one part.

        Raises:
            RemoteProtocolError: a place that cannot be, or one inside a value that is no place.
            EventTooLarge: the arguments are over the cap.
        """
        if type(pieces) is not list:
            raise RemoteProtocolError("`partialArgs` is not a list")
        for piece in pieces:
            if type(piece) is not dict or type(path := piece.get("jsonPath")) is not str:
                raise RemoteProtocolError("a piece of arguments names no place")
            kind = next((name for name in _VALUES if name in piece), None)
            text = piece.get("stringValue")
            self.held_chars += len(path) + (len(text) if type(text) is str else 8)
            if self.held_chars > MAX_EVENT_BYTES:
                raise EventTooLarge("the arguments of a tool call are too large")
            if kind is not None:
                self._put(_steps(path), kind, piece)

    def to_json(self) -> str:
        """The JSON text of all that has come; it always begins with `{` and ends with `}`."""
        try:
            return orjson.dumps(self._root, default=_joined).decode()
        except orjson.JSONEncodeError:  # numbers that only the forgiving reader takes
            raise RemoteProtocolError("arguments that are no JSON") from None

    def _put(self, steps: list[str | int], kind: str, piece: dict[str, Any]) -> None:
        place: Any = self._root
        for step, following in pairwise(steps):
            inner = self._at(place, step)
            if inner is None:
                inner = {} if type(following) is str else []
                self._set(place, step, inner)
            place = inner
        step, value = steps[-1], piece[kind]
        held = self._at(place, step)
        if kind == "stringValue":
            text = held if type(held) is _Text and held.will_continue else _Text()
            text.pieces.append(value if type(value) is str else "")
            text.will_continue = piece.get("willContinue") is True
            value = text
        elif kind == "numberValue" and type(value) is float and value.is_integer():
            # The wire has doubles only, while a schema may want an integer.
            value = int(value) if abs(value) < 2**53 else value
        elif kind == "nullValue":
            value = None
        if value is not held or held is None:
            self._set(place, step, value)

    def _at(self, place: Any, step: str | int) -> Any:
        """What is at a step, None if nothing is.

        Raises:
            RemoteProtocolError: the place has no such steps.
        """
        if type(step) is str and type(place) is dict:
            return place.get(step)
        if type(step) is int and type(place) is list:
            return place[step] if step < len(place) else None
        raise RemoteProtocolError("a piece of arguments for a place that is taken")

    def _set(self, place: Any, step: str | int, value: Any) -> None:
        size = len(place)
        if type(step) is int:
            if self._nodes + step - size > MAX_NODES:
                raise RemoteProtocolError("arguments with too many values")
            place.extend([None] * (step + 1 - size))
        place[step] = value
        self._nodes += len(place) - size
        if self._nodes > MAX_NODES:
            raise RemoteProtocolError("arguments with too many values")


def _steps(path: str) -> list[str | int]:
    """The steps of a path from the root, at least one, the first of them a name.

    Raises:
        RemoteProtocolError: it is no path to one value.
    """
    steps: list[str | int] = []
    at = 1
    while at < len(path) and len(steps) <= MAX_DEPTH:
        match = _STEP.match(path, at)
        if match is None:
            break
        at = match.end()
        if (index := match["index"]) is not None:
            steps.append(int(index))
        elif (name := match["name"]) is not None:
            steps.append(name)
        else:
            steps.append(_ESCAPED.sub(r"\1", match["single"] or match["double"] or ""))
    if not path.startswith("$") or at < len(path) or not steps or len(steps) > MAX_DEPTH:
        raise RemoteProtocolError("a piece of arguments names a place that cannot be")
    return steps


def _joined(value: object) -> str:
    if isinstance(value, _Text):
        return "".join(value.pieces)
    raise TypeError


def whole_args(args: Any) -> str:
    """JSON text of arguments that came whole; `{}` where a call has none.

    Raises:
        RemoteProtocolError: they cannot be written as JSON.
    """
    if args is None:
        return "{}"
    text = lenient_json.dumps(args)
    if not text:
        raise RemoteProtocolError("arguments that are no JSON")
    return text.decode()
