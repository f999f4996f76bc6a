"""Bytes of a client's HTTP/1.1 connection, through the server's own protocol.

Held to: whatever comes, every answer has one of four statuses and after a refusal there is none;
the application is given no more requests than answers are due; what comes in several reads gives
the same first answer as in one; when time is over the connection is closed and no timer is left.
"""

from __future__ import annotations

from tests.fakes.virtual_time import run
from tests.frontends.test_http_protocol import Caller, settle
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.registry import Target

STATUSES = {100, 101, 200, 400, 408, 413, 431}
REFUSALS = {400, 408, 431}


async def _ask(pieces: list[bytes]) -> list[int]:
    caller = Caller(keep_alive_s=5)
    caller.may_answer.set()
    for piece in pieces:
        if caller.wire.is_closing():
            break
        caller.send(piece)
        await settle()
    await caller.closed()
    statuses = [one for one in caller.wire.statuses if one != 100]
    assert set(statuses) <= STATUSES, statuses
    assert not REFUSALS & set(statuses[:-1]), f"answers after a refusal: {statuses}"
    assert len(caller.scopes) <= sum(map(len, pieces)) // 14 + 1, "more requests than came"
    for scope in caller.scopes:
        assert b"\n" not in scope["raw_path"]
        names = [name for name, _ in scope["headers"]]
        assert not (b"content-length" in names and b"transfer-encoding" in names), "two lengths"
        assert names.count(b"content-length") <= 1
    assert caller.timers() == 0
    return statuses


def check(given: bytes) -> bool:
    whole = run(_ask([given]))
    pieces = cut(given, draw_of(given))
    parts = run(_ask(pieces))
    assert parts[:1] == whole[:1], f"{whole} whole, and {parts} as {pieces}"
    return 200 in whole


CHUNKED = b"POST / HTTP/1.1\r\nhost: r\r\ntransfer-encoding: chunked\r\n\r\n"
SEEDS = (
    b"GET /a?b=c HTTP/1.1\r\nhost: r\r\n\r\n",
    b'POST / HTTP/1.1\r\nhost: r\r\ncontent-length: 4\r\n\r\n{"a"GET / HTTP/1.1\r\nhost: r\r\n\r\n',
    CHUNKED + b"2;x=y\r\n{}\r\n0\r\nt: 1\r\n\r\n",
    CHUNKED.replace(b"host", b"content-length: 2\r\nhost") + b"0\r\n\r\n",
    b"GET /streamed HTTP/1.0\r\nhost: r\r\nconnection: keep-alive\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: r\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nPRI * HTTP/2.0\r\n",
    b"GET http://evil.example/x HTTP/1.1\r\nhost: r\r\nexpect: 100-continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: r\r\ntransfer-encoding:\r\n chunked\r\n\r\n",
)

TARGETS = {"connection": Target(check, lambda: SEEDS)}
