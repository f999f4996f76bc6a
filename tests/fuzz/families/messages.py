"""What processes and machines of one fleet say to each other: a channel's messages, hints, metrics.

Held to: however cut, the same messages are taken; what is none of ours ends the channel or is
counted, and nothing is raised into the loop.
"""

from __future__ import annotations

import os
from typing import Any

import orjson

from relay.hints.hint import BadHint, Hint, HintKind
from relay.hints.redis_bus import RedisBus
from relay.observability.metrics import snapshot
from relay.workers.channel import MAX_MESSAGE_BYTES, Channel
from relay.workers.link import SupervisorLink
from relay.workers.post import Post
from relay.workers.watch import Watch
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.registry import Target

HINT = Hint("a/m", "0123456789abcdef", HintKind.FAILING, "i_1", 7, 6.0).to_dict()


class Wire:
    """As much of a transport as a channel asks of one."""

    def __init__(self) -> None:
        self.is_over = False

    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        self.is_over = True

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert len(data) <= MAX_MESSAGE_BYTES + 4


def _heard(pieces: list[bytes]) -> tuple[list[Any], bool]:
    found: list[Any] = []
    wire: Any = Wire()
    channel = Channel(found.append, lambda: None)
    channel.connection_made(wire)
    for piece in pieces:
        if wire.is_over:
            break
        channel.data_received(piece)
    assert len(channel._buffer) <= sum(map(len, pieces))
    return found, wire.is_over


def check_channel(given: bytes) -> bool:
    whole = _heard([given])
    assert _heard(cut(given, draw_of(given))) == whole
    assert all(isinstance(message, dict) for message in whole[0])
    return bool(whole[0])


def check_ends(given: bytes) -> bool:
    """A line is one message, to the supervisor's end and to a worker's."""
    hints: list[Any] = []
    post = Post(0, Watch(0.0, 10.0), lambda: 1.0)
    post.on_hint = hints.append
    link = SupervisorLink()
    link.on_hint = hints.append
    link.answer("state", lambda *given: {"given": len(given)})
    taken = 0
    try:
        for line in given.split(b"\n"):
            try:
                message = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(message, dict):
                post._take(message)
                link._take(message)
                taken += 1
        assert isinstance(post.status, str)
    finally:
        os.close(post._stacks)
    return taken > 0


def check_hint(given: bytes) -> bool:
    taken: list[Any] = []
    bus = RedisBus("redis://127.0.0.1:1", "me", taken.append)
    bus._heard(given)
    for one in taken:
        try:
            hint = Hint.from_dict(one)
        except BadHint:
            return False
        assert Hint.from_dict(orjson.loads(orjson.dumps(hint.to_dict()))) == hint
    return bool(taken)


def check_metrics(given: bytes) -> bool:
    series: snapshot.Series = {}
    taken = 0
    for line in given.split(b"\n"):
        try:
            found = snapshot.read(orjson.loads(line))
        except orjson.JSONDecodeError:
            continue
        if found is not None:
            snapshot.add(series, found.series)
            taken += 1
    return taken > 0


def _framed(*messages: Any) -> bytes:
    bodies = [orjson.dumps(one) for one in messages]
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


STATUS = {"kind": "status", "status": "ready", "ports": {"grpc": 5}}
ASK = {"kind": "ask", "id": 3, "what": "state", "given": [1]}
ANSWER = {"kind": "answer", "id": 3, "value": {}}
TOLD = {"kind": "hint", "hint": HINT}
SERIES = {
    "id": "p1",
    "series": {
        "rtrelay_hedges_sent_total": {"fast": 3},
        "rtrelay_ttft_seconds": {"fast": [0, 2, 1, 0.81]},
    },
}

TARGETS = {
    "channel": Target(check_channel, lambda: [_framed(STATUS, ASK), _framed(ANSWER)[:-2]]),
    "ends": Target(
        check_ends,
        lambda: [b"\n".join(map(orjson.dumps, (STATUS, ASK, ANSWER, TOLD))), orjson.dumps(ASK)],
    ),
    "hint": Target(check_hint, lambda: [orjson.dumps({"from": "you", "hint": HINT}), b"{}"]),
    "metrics": Target(check_metrics, lambda: [orjson.dumps(SERIES) + b"\n" + orjson.dumps(SERIES)]),
}
