"""Playing recorded exchanges back: status, headers and exact body bytes.

`replay=P` of a behaviour names a body file (`.sse`, `.ndjson`, `.body.json`, ...) or a case of
the wire corpus, `PROVIDER/CASE` (see `shared_data` for where it is). A `.meta.json` beside the
body gives status and headers; without one it is 200 and a content type by the file's name.

How the body is cut (`split`): `event` (each event one write, paced by `itl`), `whole`, `byte`, or
a number of bytes (unpaced, one write each). `cut=N` ends the body cleanly after N events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import orjson

from relay.emulator import shared_data
from relay.emulator.scene import Play, Scene
from relay.emulator.wires.base import Headers

_TYPES = {".sse": "text/event-stream; charset=utf-8", ".ndjson": "application/x-ndjson"}
_HOP_BY_HOP = frozenset(
    # Length, encoding and connection are this server's business; the corpus holds plain bodies.
    ("connection", "content-length", "content-encoding", "keep-alive", "transfer-encoding")
)
_EVENT_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class ReplayError(ValueError):
    """The recording cannot be found or read."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded response."""

    status: int
    headers: Headers
    body: bytes

    def pieces(self, split: str, cut: int | None) -> list[bytes]:
        """The body in the pieces that `split` and `cut` ask for; none of them is empty."""
        body = self.body
        events = split_events(body)
        if cut is not None:
            events = events[:cut]
            body = b"".join(events)
        if split == "event":
            return events
        if split == "whole":
            return [body] if body else []
        size = 1 if split == "byte" else int(split)
        return [body[at : at + size] for at in range(0, len(body), size)]


def split_events(body: bytes) -> list[bytes]:
    """Cut a stream behind each blank line (behind each line where there are none)."""
    ends = [found.end() for found in _EVENT_END.finditer(body)]
    if not ends:
        return body.splitlines(keepends=True)
    starts = [0, *ends]
    pieces = [body[start:end] for start, end in zip(starts, [*ends, len(body)], strict=True)]
    return [piece for piece in pieces if piece]


@lru_cache(maxsize=256)
def load_recording(name: str) -> Recording:
    """Read a body file or a corpus case.

    Raises:
        ReplayError: there is none of that name.
    """
    path = _find(name)
    stem = re.sub(r"\.(sse|ndjson|body\.json|body\.txt|meta\.json)$", "", path.name)
    meta = path.with_name(stem + ".meta.json")
    try:
        if not meta.is_file():
            kind = _TYPES.get(path.suffix, "application/json")
            return Recording(200, [("content-type", kind)], path.read_bytes())
        response = orjson.loads(meta.read_bytes())["response"]
        if path == meta:
            path = meta.with_name(response["body_file"])
        headers: Headers = []
        for key, value in response.get("headers") or []:
            if key.lower() not in _HOP_BY_HOP:
                headers.append((key.lower(), value))
        if not any(key == "content-type" for key, _ in headers):
            headers.append(("content-type", _TYPES.get(path.suffix, "application/json")))
        return Recording(int(response["status"]), headers, path.read_bytes())
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ReplayError(f"cannot read the recording {name!r}: {error!r}") from None


def play_recording(scene: Scene, recording: Recording, split: str, cut: int | None) -> Play:
    """Serve a recording; the first piece at the first token's time."""
    pieces = recording.pieces(split, cut)
    due_s = scene.first_token_s
    yield due_s
    exchange = scene.exchange
    if split == "whole":
        exchange.respond(recording.status, recording.headers, b"".join(pieces))
        return
    exchange.send_head(recording.status, recording.headers)
    for number, piece in enumerate(pieces):
        if number:
            if split == "event":
                due_s += scene.next_gap_s()
            yield due_s
        exchange.record.token()
        exchange.write(piece)
    exchange.end()


def _find(name: str) -> Path:
    corpus = shared_data.wire_corpus()
    for file in (f"{name}.meta.json", name):
        if (path := shared_data.find(corpus, file)) is not None:
            return path
    raise ReplayError(f"no recording {name!r} (RELAY_WIRE_CORPUS names the corpus)")
