"""Assembles the tool calls of one choice from deltas, whatever a wire leaves out or repeats.

Which call a delta belongs to: its index if it has one; else a new id opens a new call; else the
last one. An index that comes back with another id is a new call (vLLM's older parsers and
Mistral leave the index at 0), unless a call with that id is still open; so is one that comes back
without an id but with a name and whole arguments, when the call there has both (Google's
compatible endpoint leaves all calls at 0), and a named delta with neither index nor id when the
last call has its name already. Empty ids and names mean nothing (Qwen sends `id: ""` in later
deltas), and the first name stays.

Events tell one call at a time, where pieces of parallel calls may come interleaved: the first call
that is not over is told as it comes, and those behind it wait. A call is over when the wire says
so or the choice finishes, or when another one has begun and its arguments are one whole JSON
object, after which nothing can come. Free text of custom tools never is, so that calls behind one
wait for the finish. A piece for a call that is over breaks the format.
"""

from __future__ import annotations

import zlib
from collections import deque
from typing import Final

import orjson

from relay.codecs import lenient_json
from relay.content import StreamEvent, ToolArgumentsDelta, ToolCallDone, ToolCallStart
from relay.errors import RemoteProtocolError

MAX_CALLS: Final = 128
"""Calls of one choice; only keeps a mad peer from filling memory."""

MAX_CHECKS: Final = 2 * MAX_CALLS
"""How often the arguments of one choice are parsed to see whether they are whole: pieces that all
look like the last one must not cost the square of their number. Afterwards calls wait."""


class _Call:
    """A call that is open, or (without its pieces) one that was."""

    __slots__ = (
        "arguments",
        "checked",
        "extra",
        "given_id",
        "id",
        "index",
        "is_closed",
        "is_done",
        "is_started",
        "kind",
        "name",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.given_id = ""  # the provider's, also when it came after one was made
        self.name = ""
        self.kind = "function"
        self.arguments: list[str] = []
        self.checked = 0  # pieces that were there when they were last found not to be whole
        self.extra: dict[str, object] = {}
        self.is_started = False
        self.is_closed = False  # the wire said that it is over
        self.is_done = False  # and so did we


class ToolCallAssembler:
    """The tool calls of one choice.

    Args:
        choice: index of the choice, for the events.
        id_seed: of the ids that are made where the provider gives none (`made_call_id`).
        no_arguments: what a call is told to have that ends without any, on wires that then say
            nothing where JSON needs an empty object.

    Raises (all methods):
        RemoteProtocolError: deltas that contradict each other, or too many calls.
    """

    __slots__ = (
        "_call_of_key",
        "_checks_left",
        "_choice",
        "_count",
        "_id_seed",
        "_last",
        "_no_arguments",
        "_queue",
        "held_chars",
    )

    def __init__(self, choice: int, id_seed: str, no_arguments: str = "") -> None:
        self._choice = choice
        self._id_seed = id_seed
        self._no_arguments = no_arguments
        self._call_of_key: dict[int | str, _Call] = {}
        self._last: _Call | None = None
        self._queue: deque[_Call] = deque()  # calls that are not done; the first is being told
        self._count = 0
        self._checks_left = MAX_CHECKS
        self.held_chars = 0
        """Of the arguments of open calls, kept until they are done; the caller sets the limit."""

    @property
    def count(self) -> int:
        """Calls seen so far."""
        return self._count

    @property
    def has_open(self) -> bool:
        """Whether some call is not done."""
        return bool(self._queue)

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
        queue = self._queue
        if len(queue) == 1 and not (name or call_id or extra):
            # The next piece of the only open call, which is nearly every delta.
            call = queue[0]
            if call.is_started and call is (
                self._last if index is None else self._call_of_key.get(index)
            ):
                if fragment:
                    self.held_chars += len(fragment)
                    call.arguments.append(fragment)
                    events.append(ToolArgumentsDelta(call.index, fragment, self._choice))
                return
        self._add(events, index, call_id, name, fragment, kind, extra)

    def _add(
        self,
        events: list[StreamEvent],
        index: int | None,
        call_id: str,
        name: str,
        fragment: str,
        kind: str,
        extra: dict[str, object] | None,
    ) -> None:
        """Any delta."""
        call = self._find(index, call_id, name, fragment)
        if call is None:
            call = self._begin(index, call_id)
        elif call.is_done:
            if fragment and not fragment.isspace():
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
        queue = self._queue
        if queue[0] is call:
            if call.is_started:
                if fragment:
                    events.append(ToolArgumentsDelta(call.index, fragment, self._choice))
            else:
                self._tell(call, events)
        if len(queue) > 1:
            self._advance(events)

    def close(self, events: list[StreamEvent], index: int) -> None:
        """The wire says that a call is over, before it says how the choice ends: it is done if its
        arguments are whole, else when another one begins or with `finish`, which knows whether
        they were cut."""
        call = self._call_of_key.get(index)
        if call is not None and not call.is_done:
            call.is_closed = True
            self._advance(events)

    def settle(self, events: list[StreamEvent]) -> None:
        """Nothing will say that the open calls are over: those that are whole are done."""
        while self._queue and self._is_whole(self._queue[0]):
            self._complete_first(events)

    def finish(self, events: list[StreamEvent], *, by_length: bool) -> None:
        """The choice has finished: complete the open calls.

        Args:
            by_length: the choice ended at its token limit, so arguments may be cut.
        """
        while self._queue:
            self._complete_first(events, by_length=by_length)

    # --- which call ---------------------------------------------------------------------------

    def _find(self, index: int | None, call_id: str, name: str, fragment: str) -> _Call | None:
        """The call that a delta belongs to, None for a new one."""
        if index is not None:
            call = self._call_of_key.get(index)
            if call is None:
                return None
            if call_id and call.given_id not in ("", call_id):
                call = self._call_of_key.get(call_id)
                return None if call is None or call.is_done else call
            if name and call.name and not call_id and self._is_another(call, fragment):
                return None
            return call
        if call_id:
            return self._call_of_key.get(call_id)
        last = self._last
        if last is None or (name and last.name):
            return None
        return last

    def _is_another(self, call: _Call, fragment: str) -> bool:
        """Whether a named piece is a whole call of its own, since nothing can follow `call`."""
        return (
            not call.given_id
            and fragment.startswith("{")
            and self._is_whole(call)
            and is_json(fragment)
        )

    def _begin(self, index: int | None, call_id: str) -> _Call:
        if self._count >= MAX_CALLS:
            raise RemoteProtocolError("too many tool calls in one choice")
        call = _Call(self._count)
        self._count += 1
        if index is not None:
            self._call_of_key[index] = call
        if call_id:
            self._call_of_key[call_id] = call
        self._last = call
        self._queue.append(call)
        return call

    # --- what is told -------------------------------------------------------------------------

    def _tell(self, call: _Call, events: list[StreamEvent]) -> None:
        """Open a call if enough is known of it: without an id that waits for one until there are
        arguments to hand on."""
        if call.name and (call.id or call.arguments):
            self._start(call, events)

    def _start(self, call: _Call, events: list[StreamEvent]) -> None:
        if not call.id:
            call.id = made_call_id(self._id_seed, self._choice, call.index)
        call.is_started = True
        events.append(ToolCallStart(call.index, call.id, call.name, self._choice, call.kind))
        if call.arguments:
            # Pieces that came before the name, or before the call's turn.
            events.append(ToolArgumentsDelta(call.index, "".join(call.arguments), self._choice))

    def _advance(self, events: list[StreamEvent]) -> None:
        """Complete the calls at the head that are over, and begin with the one behind them."""
        queue = self._queue
        while queue and self._is_over(queue[0]):
            self._complete_first(events)
            if queue:
                self._tell(queue[0], events)

    def _is_over(self, call: _Call) -> bool:
        if call.is_closed:
            return len(self._queue) > 1 or is_json("".join(call.arguments))
        return len(self._queue) > 1 and bool(call.name) and self._is_whole(call)

    def _is_whole(self, call: _Call) -> bool:
        """Whether the arguments are one JSON object, to which nothing can be added."""
        pieces = call.arguments
        if call.kind != "function" or len(pieces) == call.checked or not self._checks_left:
            return False
        last = pieces[-1].rstrip()
        if last and last[-1] != "}":
            return False
        self._checks_left -= 1
        text = "".join(pieces)
        if text.lstrip().startswith("{") and is_json(text):
            return True
        call.checked = len(pieces)
        return False

    def _complete_first(self, events: list[StreamEvent], *, by_length: bool = False) -> None:
        call = self._queue.popleft()
        call.is_done = True
        if not call.is_started:
            if not call.name:
                raise RemoteProtocolError("a tool call without a name")
            self._start(call, events)
        arguments = "".join(call.arguments)
        self.held_chars -= len(arguments)
        if not arguments and self._no_arguments and not by_length:
            arguments = self._no_arguments
            events.append(ToolArgumentsDelta(call.index, arguments, self._choice))
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
