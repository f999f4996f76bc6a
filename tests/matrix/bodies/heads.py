"""Heads of answers that are too large, compressed, broken or preceded by others."""

from __future__ import annotations

import asyncio
import gzip
import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import hyperframe.frame as frames
import pytest
import wreq

from relay import attempt
from relay.codecs import streamed_body
from relay.deadline import Timer
from relay.transport import wreq as engine
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.h2_server import H2Server, Script, ServerStream, answer
from tests.matrix.bodies.refused import GRPC
from tests.matrix.bodies.wires import CHAT_WIRE, content_type, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, World, world
from tests.surfaces.wires import WIRES

CLEAN = b"".join(spoken(CHAT_WIRE, "One", " two").parts)
STREAM = ("content-type", "text/event-stream")
FRAME_BYTES = 16_000
BOMB_BYTES = 64 << 20
FLAT_BYTES = 24 << 20
"""What memory may grow by: several times less than what is thrown at us, and more than noise."""
ODD = "never-forwarded"


def rss_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


# --- raw heads ------------------------------------------------------------------------------------


def raw_h2(
    headers: Sequence[tuple[str, str]], *, status: int = 200, body: bytes = CLEAN, noise: int = 0
) -> Script:
    """A head with these very fields, frames by hand: nothing on the way checks them."""

    async def script(stream: ServerStream) -> None:
        connection = stream.connection
        encode = connection._h2.encoder.encode
        sent = b""
        for _ in range(noise):
            early = encode([(":status", "103"), ("link", f"</{ODD}>; rel=preload")])
            sent += _head_frames(stream.stream_id, early)
        block = encode([(":status", str(status)), STREAM, *headers], huffman=False)
        sent += _head_frames(stream.stream_id, block)
        data = frames.DataFrame(stream.stream_id, body)
        data.flags.add("END_STREAM")
        connection._write(sent + data.serialize())

    return script


def _head_frames(stream_id: int, block: bytes) -> bytes:
    pieces = [block[at : at + FRAME_BYTES] for at in range(0, len(block), FRAME_BYTES)]
    made: list[frames.Frame] = [frames.HeadersFrame(stream_id, pieces[0])]
    made += [frames.ContinuationFrame(stream_id, piece) for piece in pieces[1:]]
    made[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in made)


def raw_h1(lines: bytes, *, before: bytes = b"", body: bytes = CLEAN) -> Any:
    """The same over HTTP/1.1, after `before`."""

    async def script(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + lines
        length = b"content-length: %d\r\n\r\n" % len(body)
        await exchange.write(before + head + length + body)

    return script


def h1_lab(stage: Stage) -> H2Server:
    """A lab that speaks HTTP/1.1, with what `world` needs of one."""
    return cast("H2Server", H1Server(tls=stage.authority.server_context(alpn=("http/1.1",))))


async def broken_and_mended(here: World, *, is_closed: bool) -> None:
    """Ask: it is no HTTP. The link is closed where that is what broke, the next request goes well,
    and nothing of the head has reached anybody."""
    face = here.face()
    reply = await here.ask(face, "alone")
    assert reply.reason == "UPSTREAM_PROTOCOL", reply
    assert reply.code == ("14" if face in GRPC else "502")
    (request,) = here.lab.requests(CHAT)
    if is_closed:
        await here.lab.until(lambda: request.connection.closed)
    here.lab.routes[CHAT] = _clean(here.lab)
    again = await here.ask(here.face(), "alone")
    assert again.text == "One two", again
    assert ODD not in "".join(here.everything)
    first, second = await here.booked(2)
    # Something has answered, and a model may have been asked: nobody knows what that costs.
    assert (first.state, second.state) == ("estimated", "settled")


def _clean(lab: object) -> Any:
    return raw_h1(b"") if isinstance(lab, H1Server) else raw_h2([])


# --- compressed -----------------------------------------------------------------------------------


@cache
def bomb() -> bytes:
    """A thousand times as large as it looks: comments without an end."""
    return gzip.compress(b": " * (BOMB_BYTES // 2), 9)


async def gzip_bomb(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    body = bomb()
    async with world(stage, on(wire)) as here:
        clean = sends(wire, spoken(wire, "One", " two").parts)
        here.lab.routes[path(wire)] = clean
        assert (await here.ask("json", "alone")).text == "One two"
        before = rss_bytes()
        head = [content_type(wire), ("content-encoding", "gzip")]
        here.lab.routes[path(wire)] = answer(200, body, head)
        replies = [await here.ask(here.face(), "alone") for _ in range(2)]
        assert rss_bytes() - before < FLAT_BYTES
        assert [reply.reason for reply in replies] == ["UPSTREAM_PROTOCOL"] * 2, replies
        assert [one.state for one in await here.booked(3)] == ["settled", "estimated", "estimated"]


ENCODINGS = ("br", "zstd", "deflate", "compress", "gzip, gzip", "GZIP", "x-odd", "identity, br")


async def unknown_encoding(stage: Stage) -> None:
    wire, model = stage.draw.choice(WIRES), stage.draw.choice(["alone", "pair"])
    head = [content_type(wire), ("content-encoding", stage.draw.choice(ENCODINGS))]
    body = stage.draw.randbytes(stage.draw.randint(0, 400))
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = answer(200, body, head)
        face = here.face()
        reply = await here.ask(face, model)
        (booked,) = await here.booked(1)
        assert booked.attempts[0]["reason"] == "UPSTREAM_PROTOCOL"
        if model == "pair":
            assert (reply.text, reply.provider) == ("spare words", "spare"), reply
        else:
            assert reply.reason == "UPSTREAM_PROTOCOL", reply
            assert reply.code == ("14" if face in GRPC else "502")
            assert "compressed" in reply.message


# --- large ----------------------------------------------------------------------------------------


def many_fields(draw: random.Random) -> list[tuple[str, str]]:
    return [(f"x-{ODD}-{number}", str(draw.random())) for number in range(1000)]


async def large_heads_over_h2(stage: Stage) -> None:
    headers = stage.draw.choice(
        [many_fields(stage.draw), [(f"x-{ODD}", "a" * (1 << 20))], [(f"x-{ODD}", "a" * 70_000)]]
    )
    async with world(stage) as here:
        before = rss_bytes()
        here.lab.routes[CHAT] = raw_h2(headers)
        await broken_and_mended(here, is_closed=False)
        assert rss_bytes() - before < FLAT_BYTES


async def large_heads_over_h1(stage: Stage) -> None:
    many = b"".join(f"{name}: {value}\r\n".encode() for name, value in many_fields(stage.draw))
    lines = stage.draw.choice([many, b"x-never-forwarded: " + b"a" * (1 << 20) + b"\r\n"])
    async with world(stage, lab=h1_lab(stage)) as here:
        before = rss_bytes()
        here.lab.routes[CHAT] = raw_h1(lines)
        await broken_and_mended(here, is_closed=True)
        assert rss_bytes() - before < FLAT_BYTES


# --- broken ---------------------------------------------------------------------------------------

BREAKS = ("a\r\nset-cookie: {}=1", "a\nset-cookie: {}=1", "a\rset-cookie: {}=1", "{}\0")


async def line_breaks_over_h2(stage: Stage) -> None:
    value = stage.draw.choice(BREAKS).format(ODD)
    name = stage.draw.choice(["x-request-id", "retry-after", "x-odd"])
    async with world(stage) as here:
        here.lab.routes[CHAT] = raw_h2([(name, value)], status=stage.draw.choice([200, 500]))
        await broken_and_mended(here, is_closed=True)


async def line_breaks_over_h1(stage: Stage) -> None:
    line = stage.draw.choice(
        [
            b"x-request-id: a\r\n set-cookie: never-forwarded\r\n",  # a folded line
            b"x-request-id: a\rset-cookie: never-forwarded=1\r\n",
            b"x-request-id: never-forwarded\0\r\n",
            b"x-request id: never-forwarded\r\n",
            b": never-forwarded\r\n",
        ]
    )
    async with world(stage, lab=h1_lab(stage)) as here:
        here.lab.routes[CHAT] = raw_h1(line)
        await broken_and_mended(here, is_closed=True)


async def odd_request_id(stage: Stage) -> None:
    """The one field of a head that callers are told, as an id to ask the provider about."""
    odd = stage.draw.choice(["\x85", "\xa0", "\t"])
    async with world(stage) as here:
        here.lab.routes[CHAT] = raw_h2([("x-request-id", f"{ODD}{odd}b")], status=500, body=b"{}")
        reply = await here.ask(stage.draw.choice(GRPC), "alone")
        assert reply.reason == "UPSTREAM_FAILED", reply
        assert ODD not in reply.everything
        here.lab.routes[CHAT] = raw_h2([("x-request-id", "req-0815")], status=500, body=b"{}")
        assert "req-0815" in (await here.ask(stage.draw.choice(GRPC), "alone")).everything
        assert [one.state for one in await here.booked(2)] == ["void", "void"]


# --- preceded -------------------------------------------------------------------------------------


async def early_hints(stage: Stage) -> None:
    count = stage.draw.choice([1, 2, 50, 500])
    is_h1 = stage.draw.random() < 0.5
    async with world(stage, lab=h1_lab(stage) if is_h1 else None) as here:
        if is_h1:
            line = stage.draw.choice([b"103 Early Hints", b"100 Continue", b"102 Processing"])
            early = b"HTTP/1.1 " + line + b"\r\nlink: </never-forwarded>\r\n\r\n"
            here.lab.routes[CHAT] = raw_h1(b"", before=early * count)
        else:
            here.lab.routes[CHAT] = raw_h2([], noise=count)
        reply = await here.ask(here.face(), "alone")
        assert reply.is_clean, reply
        assert reply.text == "One two"
        assert ODD not in reply.everything
        assert [one.state for one in await here.booked(1)] == ["settled"]


FIRST_TOKEN_MS = 1000


async def endless_hints(stage: Stage) -> None:
    """Heads before the head, for longer than a first token may take."""

    async def script(exchange: Exchange) -> None:
        for _ in range(400):
            await exchange.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
            await asyncio.sleep(0.01)
        await raw_h1(b"")(exchange)

    model = stage.draw.choice(["alone", "pair"])
    async with world(stage, lab=h1_lab(stage), first_token_ms=FIRST_TOKEN_MS) as here:
        here.lab.routes[CHAT] = cast("Script", script)
        reply = await here.ask(here.face(), model)
        (booked,) = await here.booked(1)
        assert booked.attempts[0]["reason"] == "FIRST_TOKEN_TIMEOUT", reply
        assert booked.attempts[0]["state"] == "estimated"
        assert reply.reason == ("" if model == "pair" else "FIRST_TOKEN_TIMEOUT"), reply


# --- defences -------------------------------------------------------------------------------------


def engine_decompresses(patch: pytest.MonkeyPatch) -> None:
    """That nothing is decompressed"""
    real: Any = wreq

    def client(**config: Any) -> Any:
        return real.Client(**{**config, "gzip": True})

    names = {name: getattr(real, name) for name in dir(real) if not name.startswith("__")}
    patch.setattr(engine, "wreq", SimpleNamespace(**{**names, "Client": client}))


def heads_are_not_checked(patch: pytest.MonkeyPatch) -> None:
    """The check of an answer's head, and the engine's own bound"""
    patch.setattr(attempt, "check_head", lambda *_: None)
    patch.setattr(engine, "MAX_HEAD_BYTES", 8 << 20)


def ids_are_believed(patch: pytest.MonkeyPatch) -> None:
    """That an id of the provider's is passed on only if it can be printed"""

    def believed(headers: list[tuple[str, str]]) -> str:
        return dict(headers).get("x-request-id", "")

    patch.setattr(streamed_body, "provider_request_id", believed)


def first_tokens_may_take_long(patch: pytest.MonkeyPatch) -> None:
    """The limit of the first token"""
    real = Timer
    patch.setattr(attempt, "Timer", lambda scope, limit_s, cause: real(scope, 50 * limit_s, cause))


ENGINE = "the engine reads no such head"

ROWS = (
    Row(
        "U27",
        inject="a gzip bomb, an unknown encoding; 1,000 fields, fields of 70 KB and 1 MB; CR, LF"
        " and NUL in a field, folded lines; 100, 102 and 103 before the answer",
        client="502 `UPSTREAM_PROTOCOL`, with nothing of the head; after early hints the answer",
        accounting="estimated, since a model may have been asked; memory stays flat",
        retry="other upstream; a link whose bytes are no HTTP is closed",
        parts=(
            Part("gzip_bomb", gzip_bomb, engine_decompresses),
            Part("encoding", unknown_encoding, heads_are_not_checked),
            Part("large_h2", large_heads_over_h2, heads_are_not_checked),
            Part("large_h1", large_heads_over_h1, undefended=ENGINE),
            Part("line_breaks_h2", line_breaks_over_h2, undefended=ENGINE),
            Part("line_breaks_h1", line_breaks_over_h1, undefended=ENGINE),
            Part("odd_id", odd_request_id, ids_are_believed),
            Part("early_hints", early_hints, undefended="the engine passes over them"),
            Part("endless_hints", endless_hints, first_tokens_may_take_long),
        ),
        also=("tests/test_answer_head.py",),
    ),
)
