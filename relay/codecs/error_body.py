"""The body of an error response as a JSON value, whatever it is wrapped in."""

from __future__ import annotations

from relay.codecs import lenient_json
from relay.codecs.error_text import looks_like_markup
from relay.sse import SseParser


def parse(body: bytes) -> object:
    """The JSON value of a body, or of its last event when it came as an event stream; None for
    markup, for other text and for what was cut."""
    if looks_like_markup(body):
        return None
    body = body.removeprefix(b"\xef\xbb\xbf").strip()
    if body.startswith((b"data:", b"event:", b"id:", b":")):
        parser = SseParser()
        events = parser.feed(body + b"\n\n")
        body = next((data for _, data in reversed(events) if data.startswith(b"{")), b"")
    try:
        return lenient_json.loads(body)
    except ValueError:
        return None
