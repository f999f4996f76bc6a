"""Signed deliveries: over real sockets, and what a receiver can tell by the signature."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.webhook import NotDelivered, Webhook, is_signed, require_address, sign
from tests.fakes.properties import examples

SECRET = "canary-webhook-0123456789abcdefgh"
NOW_S = 1_800_000_000.0


@dataclass
class Received:
    """Requests that a receiver read whole."""

    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str:
        lines = self.heads[-1].split("\r\n")
        found = [line.partition(": ")[2] for line in lines if line.lower().startswith(name + ":")]
        return found[0] if found else ""


Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def says(text: str) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(text.encode())
        await writer.drain()

    return answer


OK = says("HTTP/1.1 204 No Content\r\n\r\n")


@asynccontextmanager
async def receiver(answer: Answer) -> AsyncIterator[tuple[str, Received]]:
    """An address on this machine, and what came there."""
    received = Received()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                received.heads.append(head)
                received.bodies.append(
                    await reader.readexactly(int(received.header("content-length")))
                )
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/hooks?team=voice", received


async def deliver(answer: Answer, *, timeout_s: float = 5.0) -> Received:
    async with receiver(answer) as (url, received):
        webhook = Webhook(url, SECRET, timeout_s=timeout_s)
        try:
            await webhook.send("budget:b:0:80", b'{"a": 1}', NOW_S)
        finally:
            await webhook.aclose()
            await webhook.aclose()
    return received


async def test_a_delivery_is_signed() -> None:
    received = await deliver(OK)
    assert received.heads[0].startswith("POST /hooks?team=voice HTTP/1.1\r\n")
    assert received.bodies == [b'{"a": 1}']
    assert received.header("content-type") == "application/json"
    assert received.header("x-rtrelay-id") == "budget:b:0:80"
    signature = received.header("x-rtrelay-signature")
    assert is_signed(SECRET.encode(), received.bodies[0], signature, NOW_S + 10)
    assert SECRET not in received.heads[0]


@pytest.mark.parametrize(
    "answer",
    [
        says("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"),
        says("HTTP/1.1 404 None\r\ncontent-length: 0\r\n\r\n"),
        says("nonsense\r\n\r\n"),
    ],
)
async def test_what_is_no_yes_is_no_delivery(answer: Answer) -> None:
    with pytest.raises(NotDelivered) as raised:
        await deliver(answer)
    assert "127.0.0.1" not in str(raised.value)


async def test_redirects_are_not_followed() -> None:
    async with receiver(OK) as (elsewhere, there):
        moved = says(f"HTTP/1.1 307 Moved\r\nlocation: {elsewhere}\r\ncontent-length: 0\r\n\r\n")
        with pytest.raises(NotDelivered, match="307"):
            await deliver(moved)
    assert there.heads == []


async def test_silence_is_not_waited_for() -> None:
    async def nothing(writer: asyncio.StreamWriter) -> None:
        await writer.drain()

    with pytest.raises(NotDelivered, match="in time"):
        await deliver(nothing, timeout_s=0.05)


async def test_the_body_of_an_answer_is_not_read() -> None:
    """An endless one costs nothing."""
    head = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\nxx"
    assert len((await deliver(says(head))).bodies) == 1


async def test_nobody_there() -> None:
    async with receiver(OK) as (url, _):
        pass
    webhook = Webhook(url, SECRET)
    with pytest.raises(NotDelivered, match="Connect"):
        await webhook.send("x", b"{}", NOW_S)
    await webhook.aclose()


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.test/",
        "ftp://hooks.test/",
        "https:///x",
        "https://u:p@hooks.test/",
        "https://hooks.test/a b",
        "https://hooks.test:0/",
        "https://hooks.test:99999/",
        "http://127.0.0.1.hooks.test/",
        "",
        "http://a[::1]/x",
    ],
)
def test_wrong_address(url: str) -> None:
    with pytest.raises(ValueError, match="https://"):
        Webhook(url, SECRET)


@pytest.mark.parametrize("url", ["https://hooks.test/x", "http://[::1]:8/x", "http://localhost/"])
def test_right_address(url: str) -> None:
    require_address(url)
    assert SECRET not in repr(Webhook(url, SECRET))


@pytest.mark.parametrize("secret", ["", "x" * 31, " " * 40, "x" * 31 + "\n"])
def test_short_secret(secret: str) -> None:
    with pytest.raises(ValueError, match="32 characters"):
        Webhook("https://hooks.test/", secret)


# --- the signature --------------------------------------------------------------------------

KEY = SECRET.encode()
BODY = b'{"percent": 80}'


def test_signature_as_documented() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac kkkk...
    assert sign(b"k" * 32, b"{}", 1_700_000_000) == (
        "t=1700000000,v1=0b3b35525c10b3757ffa78df69037021fc3168d8390a51a4fcb4a8d56a25b557"
    )


@examples(60)
@given(at=st.integers(0, len(BODY) * 8 - 1))
def test_any_other_body_is_refused(at: int) -> None:
    changed = bytearray(BODY)
    changed[at // 8] ^= 1 << at % 8
    signature = sign(KEY, BODY, int(NOW_S))
    assert is_signed(KEY, BODY, signature, NOW_S)
    assert not is_signed(KEY, bytes(changed), signature, NOW_S)


def test_another_secret_or_moment_is_refused() -> None:
    signature = sign(KEY, BODY, int(NOW_S))
    assert not is_signed(b"other" + KEY, BODY, signature, NOW_S)
    assert is_signed(KEY, BODY, signature, NOW_S + 299)
    assert not is_signed(KEY, BODY, signature, NOW_S + 301)
    assert not is_signed(KEY, BODY, signature, NOW_S - 301)
    moved = signature.replace(f"t={int(NOW_S)}", f"t={int(NOW_S) + 1}")
    assert not is_signed(KEY, BODY, moved, NOW_S)


def test_one_right_mac_of_several_will_do() -> None:
    signature = sign(KEY, BODY, int(NOW_S))
    assert is_signed(KEY, BODY, signature.replace("v1=", "v1=00,v1="), NOW_S)


@examples(100)
@given(text=st.text(max_size=60))
def test_nonsense_is_refused(text: str) -> None:
    assert not is_signed(KEY, BODY, text, NOW_S)
    assert not is_signed(KEY, BODY, f"t={text},v1={text}", NOW_S)
