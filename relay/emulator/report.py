"""What the emulator saw: every stream with its times, outcome and phase.

Times are `time.monotonic_ns()`, comparable with other processes of the same machine. A stream is
`open` until it is `clean` (we ended it), `abandoned` (the client reset it or left), `reset` or
`cut` (a fault of ours). The newest `MAX_RECORDS` streams are kept.
"""

from __future__ import annotations

import time
from collections import Counter, deque

MAX_RECORDS = 100_000
PROMPT_CHARS = 64
"""Of the prompt, for telling apart who asked; more would be a store of prompts."""


class StreamRecord:
    """One stream as the emulator lived it."""

    __slots__ = (
        "connection",
        "drained_ns",
        "end_ns",
        "fault",
        "first_token_ns",
        "head_ns",
        "http_version",
        "id",
        "model",
        "outcome",
        "path",
        "prompt_start",
        "request_id",
        "start_ns",
        "status",
        "tokens",
    )

    def __init__(self, number: int, path: str, connection: str, http_version: str) -> None:
        self.id = number
        self.path = path
        self.connection = connection
        self.http_version = http_version
        self.model = ""
        self.prompt_start = ""
        """How the last message of the user begins."""
        self.request_id = ""
        """The client's own `x-client-request-id` or `x-request-id`, else empty."""
        self.fault = ""
        self.status = 0
        self.outcome = "open"
        self.tokens = 0
        """Paced events sent (content, reasoning and tool-argument tokens)."""
        self.start_ns = time.monotonic_ns()
        self.head_ns = 0
        self.first_token_ns = 0
        self.end_ns = 0
        self.drained_ns = 0

    def head(self, status: int) -> None:
        """The head was sent."""
        if not self.head_ns:
            self.head_ns = time.monotonic_ns()
            self.status = status

    def token(self) -> None:
        """A paced event is about to be sent."""
        self.tokens += 1
        if not self.first_token_ns:
            self.first_token_ns = time.monotonic_ns()

    def end(self, outcome: str) -> None:
        """The stream is over; only the first outcome counts."""
        if not self.end_ns:
            self.end_ns = time.monotonic_ns()
            self.outcome = outcome

    def drained(self) -> None:
        """The last byte was handed to the socket."""
        if not self.drained_ns:
            self.drained_ns = time.monotonic_ns()

    @property
    def phase(self) -> str:
        """How far the stream got: before_headers, before_first_token, mid_stream or ended."""
        if self.outcome == "clean":
            return "ended"
        if self.first_token_ns:
            return "mid_stream"
        return "before_first_token" if self.head_ns else "before_headers"

    def to_dict(self) -> dict[str, object]:
        """The record as JSON data."""
        fields: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        fields["phase"] = self.phase
        return fields


class Report:
    """All records since the last reset."""

    def __init__(self) -> None:
        self._records: deque[StreamRecord] = deque(maxlen=MAX_RECORDS)
        self._next_number = 1
        self._connections_seen: set[str] = set()

    def open(self, path: str, connection: str, http_version: str) -> StreamRecord:
        """Begin a record."""
        record = StreamRecord(self._next_number, path, connection, http_version)
        self._next_number += 1
        self._records.append(record)
        self._connections_seen.add(connection)
        return record

    def reset(self) -> None:
        """Forget all streams; numbers go on, so that `since` stays valid."""
        self._records.clear()
        self._connections_seen.clear()

    def streams(self, since: int = 0) -> list[dict[str, object]]:
        """Records with an id above `since`, oldest first."""
        return [record.to_dict() for record in self._records if record.id > since]

    def summary(self) -> dict[str, object]:
        """Counts over all models and per model."""
        outcomes: Counter[str] = Counter()
        phases: Counter[str] = Counter()
        models: dict[str, Counter[str]] = {}
        tokens = 0
        for record in self._records:
            outcomes[record.outcome] += 1
            tokens += record.tokens
            model = models.setdefault(record.model, Counter())
            model["opened"] += 1
            model[record.outcome] += 1
            if record.outcome == "abandoned":
                phases[record.phase] += 1
        return {
            "opened": len(self._records),
            "open": outcomes["open"],
            "clean": outcomes["clean"],
            "abandoned": outcomes["abandoned"],
            "reset": outcomes["reset"],
            "cut": outcomes["cut"],
            "abandoned_by_phase": dict(phases),
            "tokens": tokens,
            "models": {name: dict(counts) for name, counts in models.items()},
            "connections_seen": len(self._connections_seen),
            "last_id": self._next_number - 1,
        }
