"""The head of a response leaves with the first bytes of its body, and never gets lost."""

from __future__ import annotations

import asyncio

from relay.frontends.held_head import HeldHead


class WrittenTransport(asyncio.Transport):
    """Notes what the socket would have been given, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed


def test_head_and_first_body_are_one_write() -> None:
    transport = WrittenTransport()
    held = HeldHead(transport)
    held.write(b"HTTP/1.1 200 OK\r\n\r\n")
    assert transport.writes == []
    held.write(b"first")
    held.write(b"second")
    assert transport.writes == [b"HTTP/1.1 200 OK\r\n\r\nfirst", b"second"]


def test_an_empty_body_lets_the_head_go() -> None:
    transport = WrittenTransport()
    held = HeldHead(transport)
    held.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    held.write(b"")
    assert transport.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]


def test_continue_is_not_a_head() -> None:
    transport = WrittenTransport()
    held = HeldHead(transport)
    held.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    held.write(b"HTTP/1.1 200 OK\r\n\r\n")
    held.write(b"body")
    assert transport.writes[1:] == [b"HTTP/1.1 200 OK\r\n\r\nbody"]


def test_close_sends_a_head_without_a_body() -> None:
    transport = WrittenTransport()
    held = HeldHead(transport)
    held.write(b"HTTP/1.1 200 OK\r\n\r\n")
    held.close()
    assert transport.writes == [b"HTTP/1.1 200 OK\r\n\r\n"]
    assert transport.is_closed
    assert held.is_closing()
