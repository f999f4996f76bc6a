"""Assembles the tool calls of one choice from deltas, whatever a wire leaves out or repeats.

Which call a delta belongs to: its index if it has one; else a new id opens a new call; else the
last one. An index that comes back with another id is a new call (vLLM's older parsers and
Mistral leave the index at 0), and so is a named delta with neither index nor id when the last
call has its name already. Empty ids and names mean nothing (Qwen sends `id: ""` in later
deltas), and the first name stays.

Calls come one after another on every wire we know: the start of the next one completes the one
before, and a piece for a completed call breaks the format.
"""

from __future__ import annotations

import zlib
from typing import Final

import orjson

from relay.codecs import lenient_json
from relay.content import StreamEvent, ToolArgumentsDelta, ToolCallDone, ToolCallStart
from relay.errors import RemoteProtocolError

MAX_CALLS: Final = 128
"""Calls of one choice; only keeps a mad peer from filling memory."""


class _Call:
    """A call that is open, or (without its pieces) one that was."""

    __slots__ = ("arguments", "extra", "given_id", "id", "index", "is_started", "kind", "name")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.given_id = ""  # the provider's, also when it came after one was made
        self.name = ""
        self.kind = "function"
        self.arguments: list[str] = []
        self.extra: dict[str, object] = {}
        self.is_started = False


class ToolCallAssembler:
    """The tool calls of one choice.

    Args:
        choice: index of the choice, for the events.
        id_seed: of the ids that are made where the provider gives none (`made_call_id`).

    Raises (all methods):
        RemoteProtocolError: deltas that contradict each other, or too many calls.
    """

    __slots__ = ("_call_of_key", "_choice", "_count", "_id_seed", "_last", "_open", "held_chars")

    def __init__(self, choice: int, id_seed: str) -> None:
        self._choice = choice
        self._id_seed = id_seed
        self._call_of_key: dict[int | str, _Call] = {}
        self._last: _Call | None = None
        self._open: _Call | None = None
        self._count = 0
        self.held_chars = 0
        """Of the open call's arguments, kept until it is done; the caller sets the limit."""

    @property
    def has_empty_call(self) -> bool:
        """Whether a call is open that has no arguments yet."""
        return self._open is not None and not self._open.arguments

    @property
    def count(self) -> int:
        """Calls seen so far."""
        return self._count

    def add(
        self,
        events: list[StreamEvent],
        *,
        index: int | None,
        call_id: str,
        name: str,
        fragment: str,
        kind: str = "",
        extra: dict[str, object] | None = None,
    ) -> None:
        """Take one delta, and append what it yields to `events`; empty strings mean absent."""
        call = self._find(index, call_id, name)
        if call is None:
            self._complete_open(events)
            call = self._begin(index, call_id)
        elif call is not self._open:
            if fragment:
                raise RemoteProtocolError("a piece of a tool call came after the call was over")
            return
        if call_id and not call.given_id:
            call.given_id = call_id
            self._call_of_key.setdefault(call_id, call)
            if not call.is_started:
                call.id = call_id
        if name and not call.name:
            call.name = name
        if kind and not call.is_started:
            call.kind = kind
        if extra:
            call.extra.update(extra)
        if fragment:
            self.held_chars += len(fragment)
            call.arguments.append(fragment)
        # Without an id the start waits for one until there are arguments to hand on.
        if call.is_started:
            if fragment:
                events.append(ToolArgumentsDelta(call.index, fragment, self._choice))
        elif call.name and (call.id or fragment):
            self._start(call, events)

    def close(self, events: list[StreamEvent]) -> None:
        """The wire says that the open call is over, before it says how the choice ends: complete
        it if its arguments are whole, else leave that to the next call or to `finish`, which
        knows whether they were cut."""
        if self._open is not None and is_json("".join(self._open.arguments)):
            self._complete_open(events)

    def finish(self, events: list[StreamEvent], *, by_length: bool) -> None:
        """The choice has finished: complete the open call.

        Args:
            by_length: the choice ended at its token limit, so arguments may be cut.
        """
        self._complete_open(events, by_length=by_length)

    def _find(self, index: int | None, call_id: str, name: str) -> _Call | None:
        """The call that a delta belongs to, None for a new one."""
        if index is not None:
            call = self._call_of_key.get(index)
            if call is None or (call_id and call.given_id not in ("", call_id)):
                return None
            return call
        if call_id:
            return self._call_of_key.get(call_id)
        last = self._last
        if last is None or (name and last.name):
            return None
        return last

    def _begin(self, index: int | None, call_id: str) -> _Call:
        if self._count >= MAX_CALLS:
            raise RemoteProtocolError("too many tool calls in one choice")
        call = _Call(self._count)
        self._count += 1
        if index is not None:
            self._call_of_key[index] = call
        if call_id:
            self._call_of_key[call_id] = call
        self._last = self._open = call
        return call

    def _start(self, call: _Call, events: list[StreamEvent]) -> None:
        if not call.id:
            call.id = made_call_id(self._id_seed, self._choice, call.index)
        call.is_started = True
        events.append(ToolCallStart(call.index, call.id, call.name, self._choice, call.kind))
        if call.arguments:
            # Pieces that came before the name did.
            events.append(ToolArgumentsDelta(call.index, "".join(call.arguments), self._choice))

    def _complete_open(self, events: list[StreamEvent], *, by_length: bool = False) -> None:
        call, self._open = self._open, None
        if call is None:
            return
        if not call.is_started:
            if not call.name:
                raise RemoteProtocolError("a tool call without a name")
            self._start(call, events)
        arguments = "".join(call.arguments)
        events.append(
            ToolCallDone(
                call.index,
                call.id,
                call.name,
                arguments,
                self._choice,
                call.kind,
                by_length and call.kind == "function" and not is_json(arguments),
                lenient_json.dumps(call.extra) if call.extra else b"",
            )
        )
        self.held_chars = 0
        call.arguments.clear()
        call.extra.clear()


def made_call_id(id_seed: str, choice: int, index: int) -> str:
    """An id for a call without one: `call_<checksum of seed and choice>_<index>`.

    The same bytes give the same ids, and ids of other responses differ.
    """
    seed = zlib.crc32(f"{id_seed}/{choice}".encode("utf-8", "replace"))
    return f"call_{seed:08x}_{index}"


def is_json(text: str) -> bool:
    """Whether arguments are whole."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
