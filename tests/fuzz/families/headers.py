"""What stands in headers, ours and providers': lines of `name: value`, and single values.

Held to: what a caller gets wrong is refused by the header's name, what a tracer or a provider gets
wrong is passed over; waits are within their bounds; what is masked is gone wherever it stood.
"""

from __future__ import annotations

import base64
import math
from urllib.parse import quote, urlsplit

from relay.codecs.error_text import MAX_MESSAGE_CHARS, provider_request_id, public_text
from relay.codecs.rate_limit_headers import MAX_WINDOWS, read_rate_windows
from relay.codecs.retry_hints import MAX_HINT_S, duration_s, retry_after_s
from relay.credentials.clock_offset import ClockOffset, date_in
from relay.credentials.refusals import refuses_who_asks
from relay.errors import InvalidRequest, PermissionDenied
from relay.frontends import passthrough_rules
from relay.frontends.caller import address_of_peer
from relay.frontends.cors import check_host
from relay.frontends.http_generation import header_text
from relay.frontends.request_policy import read_policy
from relay.frontends.surfaces.messages import betas_of
from relay.frontends.websocket_offer import offer_of
from relay.redaction import MIN_SECRET_CHARS, forms_of, without
from relay.trace_context import trace_headers, trace_of, valid_traceparent, valid_tracestate
from tests.fuzz.draws import draw_of
from tests.fuzz.promises import refused_by_name
from tests.fuzz.registry import Target

SECRET = "k3y-Canary+0123/abc=defghijklm"


def raw_headers(given: bytes) -> list[tuple[bytes, bytes]]:
    """As a server hands them over: names in lower case, values without spaces around."""
    pairs = (line.partition(b":") for line in given.split(b"\n"))
    return [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]


def text_headers(given: bytes) -> list[tuple[str, str]]:
    return [(n.decode("latin-1"), v.decode("latin-1")) for n, v in raw_headers(given)]


def check_policy(given: bytes) -> bool:
    scope = {"headers": raw_headers(given)}

    def read() -> object:
        betas_of(scope)
        return read_policy(scope, {})

    try:
        read()
    except InvalidRequest as error:
        assert error.field.startswith(("x-relay-", "idempotency-key", "anthropic-beta"))
    return refused_by_name(read) is not None


def check_hints(given: bytes) -> bool:
    headers, said = text_headers(given), given.decode("latin-1")
    for values in (headers, []):
        hint = retry_after_s(values, said)
        assert hint is None or 0 <= hint <= MAX_HINT_S
    windows = read_rate_windows(headers)
    assert len(windows) <= MAX_WINDOWS
    for window in windows:
        assert window.reset_s >= 0
        assert math.isfinite(window.reset_s)
        for number in (window.limit, window.remaining):
            assert number is None or math.isfinite(number)
    length_s = duration_s(said[:200])
    assert length_s is None or length_s >= 0
    date_s = date_in(headers)
    assert date_s is None or 0 <= date_s < 7_300_000_000
    clock = ClockOffset()
    clock.observe(headers, 1e9)
    assert abs(clock.now_s(1e9)) < 1e10
    for status in (400, 401, 403):
        refuses_who_asks(status, headers)
    request_id = provider_request_id(headers)
    assert request_id.isprintable()
    assert len(request_id) <= 200
    return bool(windows) or hint is not None


def check_trace(given: bytes) -> bool:
    parent, _, state = given.decode("latin-1").partition("\n")
    kept, kept_state = valid_traceparent(parent), valid_tracestate(state)
    assert kept in ("", parent)
    for text in (kept, kept_state):
        assert text.isascii()
        assert text == text.strip()
        assert not any(ord(one) < 32 and one != "\t" for one in text)
    trace = trace_of("g", kept)
    assert len(trace.trace_id) == 32
    assert len(trace.span_of(3, 1)) == 16
    for name, value in trace_headers(None, "g", kept, kept_state, 0):
        assert name in ("traceparent", "tracestate")
        assert "\n" not in value
    return bool(kept)


def check_error_text(given: bytes) -> bool:
    """Where a secret is quoted in any of its forms it is gone, and what is shown is bounded."""
    text = given.decode("utf-8", "replace")
    shown = public_text(text)
    assert len(shown) <= MAX_MESSAGE_CHARS
    draw = draw_of(given)
    form = draw.choice(
        [
            SECRET,
            quote(SECRET, safe=""),
            SECRET.replace("/", "\\/"),
            base64.b64encode(SECRET.encode()).decode(),
        ]
    )
    place = draw.randrange(len(text) + 1)
    masked = without(text[:place] + form + text[place:], forms_of([("x-key", SECRET)]))
    assert SECRET not in masked
    assert form not in masked
    # What is left of one at the end of a text that was cut.
    cut = form[: draw.randrange(MIN_SECRET_CHARS, len(form))]
    assert not without(text + cut, forms_of([("x-key", SECRET)])).endswith(cut)
    assert header_text(text).isascii()
    return bool(shown)


def check_host_name(given: bytes) -> bool:
    try:
        check_host({"headers": [(b"host", given)], "extensions": {}})
    except PermissionDenied:
        return False
    name = given.decode("latin-1").lower()
    host = urlsplit(f"//{name}").hostname or ""
    assert not name or host.endswith("localhost") or host[:1].isdigit() or ":" in host, host
    assert name.rfind("[") <= 0, name
    address_of_peer(name)
    return True


def check_websocket_offer(given: bytes) -> bool:
    headers = raw_headers(given)
    offer = offer_of(b"GET", "1.1", headers)
    assert offer_of(b"POST", "1.1", headers) is None
    if offer is None:
        return False
    kept = passthrough_rules.subprotocols_of(offer.subprotocols)
    assert set(kept) <= set(offer.subprotocols)
    for one in (*kept, None):
        for name, value in offer.accepting(one):
            assert b"\n" not in name + value
    return True


def check_path(given: bytes) -> bool:
    """A path that is handed through is plain segments, and never one that is served here."""
    rest = given.decode("utf-8", "replace")
    passthrough_rules.is_handed_through(f"/v1/{rest}")
    try:
        found = passthrough_rules.checked(rest)
    except InvalidRequest:
        return False
    assert found == rest
    assert ".." not in rest.split("/")
    assert "\\" not in rest
    assert not any(one in rest for one in "?#%;\r\n\0")
    assert not rest.rstrip("/ ").lower().endswith(("/chat/completions", "/v1/messages"))
    return True


POLICIES = (
    b"x-relay-first-token-ms: 500\nx-relay-hedge: race\nx-relay-tags: a, b\nidempotency-key: k",
    b"x-relay-cache: only\nx-relay-cache-ttl-s: 5\nx-relay-timeline: yes\nx-relay-model: m",
    b"x-relay-commit-on: first_segment\nx-relay-turn-id: 1\nx-relay-prompt-cache: off",
    b"anthropic-beta: a-1, b-2\nx-relay-session-id: s\nx-relay-hedge: 30",
    b"x-relay-nothing: 1",
)
HINTS = (
    b"retry-after: 7\nretry-after-ms: 12\ndate: Wed, 21 Oct 2026 07:28:00 GMT",
    b"x-ratelimit-remaining-requests: 0\nx-ratelimit-reset-requests: 1m12.5s\nx: y",
    b"anthropic-ratelimit-input-tokens-remaining: 1\nanthropic-ratelimit-input-tokens-reset: "
    b"2026-10-21T07:28:00Z\ndate: Wed, 21 Oct 2026 07:28:00 GMT",
    b"x-ratelimit-reset: 1790000000000\ndate: Wed, 21 Oct 2026 07:28:00 GMT",
    b"Please try again in 1 hour and 5 minutes.",
    b"retry-after: Wed, 21 Oct 2026 07:29:00 GMT\ndate: Wed, 21 Oct 2026 07:28:00 GMT\n"
    b"x-request-id: abc\nwww-authenticate: Bearer error=invalid_token",
)
TRACES = (
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nrojo=00f067aa0ba902b7,congo=t61",
    b"cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what\n a=1, ,b@c=2 ",
)
ERRORS = (
    b"Incorrect API key provided: sk-proj-abcdefgh. arn:aws:iam::123456789012:user/x",
    b"https://a/?key=AIzaSyA0123456789 Bearer abcdefghijk eyJhbGciOiJ9.eyJzdWIiOiIx.c2ln",
    b"k3y-Canary+01***klm",
)
HOSTS = (
    b"localhost:8080",
    b"127.0.0.1",
    b"[::1]:80",
    b"evil.example",
    b"x/?",
    b"a@localhost",
    b"a[::1]",
)
OFFERS = (
    b"connection: keep-alive, Upgrade\nupgrade: websocket\nsec-websocket-version: 13\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n"
    b"sec-websocket-protocol: realtime, openai-insecure-api-key.sk-1, openai-beta.realtime-v1",
)
PATHS = (b"files/f-1", b"v1/batches/", b"a/../b", b"openai/v1/chat/completions", b"a%2fb")

TARGETS = {
    "policy": Target(check_policy, lambda: POLICIES),
    "hints": Target(check_hints, lambda: HINTS),
    "trace": Target(check_trace, lambda: TRACES),
    "error_text": Target(check_error_text, lambda: ERRORS),
    "host": Target(check_host_name, lambda: HOSTS),
    "websocket_offer": Target(check_websocket_offer, lambda: OFFERS),
    "path": Target(check_path, lambda: PATHS),
}
