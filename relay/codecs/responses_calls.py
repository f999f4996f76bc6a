"""The tool calls of one Responses answer, one after another whatever the order of their pieces.

Which call a piece belongs to: the one with its `call_id`, its item id, or its `output_index`. The
first call that is not over is told as it comes; pieces of later ones wait for their turn, since
the neutral stream has one open call at a time. A call is over with its `output_item.done`, which
repeats the whole arguments: what no piece brought is taken from there.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from relay.codecs.tool_calls import MAX_CALLS, is_json, made_call_id
from relay.content import StreamEvent, ToolArgumentsDelta, ToolCallDone, ToolCallStart
from relay.errors import EventTooLarge, RemoteProtocolError
from relay.sse import MAX_EVENT_BYTES

KINDS: Final = {"function_call": "function", "custom_tool_call": "custom"}
"""Types of items that are calls for the client."""

_ARGUMENTS: Final = {"function": "arguments", "custom": "input"}


class _Call:
    """A call that is open, or (without its pieces) one that was."""

    __slots__ = ("id", "index", "is_cut", "is_over", "is_started", "kind", "name", "said", "unsaid")

    def __init__(self, index: int, kind: str) -> None:
        self.index = index
        self.kind = kind
        self.id = ""
        self.name = ""
        self.said: list[str] = []
        self.unsaid: list[str] = []
        self.is_started = False
        self.is_over = False
        self.is_cut = False


class ResponseCalls:
    """The calls of one answer.

    Raises (all methods):
        RemoteProtocolError: a call without a name, or too many of them.
        EventTooLarge: the arguments held are over the cap of one event.
    """

    __slots__ = ("_call_of_key", "_count", "_held_chars", "_queue", "id_seed")

    def __init__(self) -> None:
        self.id_seed = ""
        """Of the ids that are made where the provider gives none (`made_call_id`)."""
        self._call_of_key: dict[int | str, _Call] = {}
        self._queue: deque[_Call] = deque()
        self._count = 0
        self._held_chars = 0

    @property
    def count(self) -> int:
        """Calls seen so far."""
        return self._count

    @property
    def has_open(self) -> bool:
        """Whether some call is not over."""
        return bool(self._queue)

    def open(self, place: dict[str, Any], item: dict[str, Any], events: list[StreamEvent]) -> None:
        """A call's item has appeared; its arguments come later, even if it holds some."""
        self._named(place, item)
        self._tell(events)

    def add(self, place: dict[str, Any], kind: str, events: list[StreamEvent]) -> None:
        """Take a `delta` of arguments."""
        fragment = place.get("delta")
        call = self._find(place.get("item_id"), place.get("output_index"))
        if call is None:
            call = self._begin(place, "", kind)
        if fragment and type(fragment) is str and not call.is_over:
            self._hold(call, fragment)
            self._tell(events)

    def complete(
        self, place: dict[str, Any], item: dict[str, Any], events: list[StreamEvent]
    ) -> None:
        """A call's item is finished."""
        call = self._named(place, item)
        if call.is_over:
            return
        whole = item.get(_ARGUMENTS[call.kind])
        if whole and type(whole) is str:
            brought = "".join(call.said) + "".join(call.unsaid)
            if len(whole) > len(brought) and whole.startswith(brought):
                self._hold(call, whole[len(brought) :])
        call.is_over = True
        call.is_cut = item.get("status") == "incomplete"
        self._tell(events)

    def finish(self, events: list[StreamEvent], *, by_length: bool) -> None:
        """The answer is over, and so is every call.

        Args:
            by_length: it ended at its token limit, so arguments may be cut.
        """
        for call in self._queue:
            call.is_over = True
            call.is_cut = by_length
        self._tell(events)

    # --- which call -------------------------------------------------------------------------

    def _named(self, place: dict[str, Any], item: dict[str, Any]) -> _Call:
        """The call of an item, begun if it is new."""
        call_id = _text(item.get("call_id"))
        call = self._call_of_key.get(call_id) if call_id else None
        if call is None:
            call = self._find(item.get("id"), place.get("output_index"))
            if call is None or (call.id and call_id):  # another call in the place of an earlier one
                at = {"item_id": item.get("id"), "output_index": place.get("output_index")}
                call = self._begin(at, call_id, KINDS[item["type"]])
        if call_id and not call.is_started:
            call.id = call_id
            self._call_of_key[call_id] = call
        call.name = call.name or _text(item.get("name"))
        return call

    def _find(self, item_id: object, output_index: object) -> _Call | None:
        call = self._call_of_key.get(item_id) if item_id and type(item_id) is str else None
        if call is None and type(output_index) is int:
            call = self._call_of_key.get(output_index)
        return call

    def _begin(self, place: dict[str, Any], call_id: str, kind: str) -> _Call:
        if self._count >= MAX_CALLS:
            raise RemoteProtocolError("too many tool calls in one answer")
        call = _Call(self._count, kind)
        self._count += 1
        self._queue.append(call)
        for key in (place.get("item_id"), place.get("output_index"), call_id):
            if type(key) is int or (type(key) is str and key):
                self._call_of_key[key] = call
        return call

    # --- what is told -----------------------------------------------------------------------

    def _hold(self, call: _Call, fragment: str) -> None:
        call.unsaid.append(fragment)
        self._held_chars += len(fragment)
        if self._held_chars > MAX_EVENT_BYTES:
            raise EventTooLarge("the arguments of the tool calls are too large")

    def _tell(self, events: list[StreamEvent]) -> None:
        """Say what can be said: of the first open call, and of those behind when it is over."""
        queue = self._queue
        while queue:
            call = queue[0]
            if not call.is_started and not self._start(call, events):
                return
            if call.unsaid:
                fragment = "".join(call.unsaid)
                call.unsaid.clear()
                call.said.append(fragment)
                events.append(ToolArgumentsDelta(call.index, fragment))
            if not call.is_over:
                return
            queue.popleft()
            arguments = "".join(call.said)
            self._held_chars -= len(arguments)
            call.said.clear()
            is_partial = call.is_cut and call.kind == "function" and not is_json(arguments)
            events.append(
                ToolCallDone(call.index, call.id, call.name, arguments, 0, call.kind, is_partial)
            )

    def _start(self, call: _Call, events: list[StreamEvent]) -> bool:
        """Open the call if enough is known of it."""
        if call.is_over and not call.name:
            raise RemoteProtocolError("a tool call without a name")
        if call.is_over and not call.id:
            call.id = made_call_id(self.id_seed, 0, call.index)
        if not call.name or not call.id:
            return False
        call.is_started = True
        events.append(ToolCallStart(call.index, call.id, call.name, 0, call.kind))
        return True


def _text(value: object) -> str:
    return value if type(value) is str else ""
