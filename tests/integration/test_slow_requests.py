"""A caller that sends its request too slowly, over real sockets; the rules are tested in
`tests/frontends/test_http_protocol.py`."""

from __future__ import annotations

import asyncio

import pytest

from relay.frontends.http_protocol import BoundedHttpProtocol
from tests.fakes.relay_under_test import relay_under_test

pytestmark = pytest.mark.sockets


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\n", b"head"),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\ncontent-length: 9\r\n\r\n{", b"body"),
    ],
)
async def test_request_that_does_not_end_is_answered_408(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, part: bytes
) -> None:
    monkeypatch.setattr(BoundedHttpProtocol, "head_timeout_s", 0.05)
    monkeypatch.setattr(BoundedHttpProtocol, "body_timeout_s", 0.05)
    async with relay_under_test({}) as relay:
        reader, writer = await asyncio.open_connection("127.0.0.1", relay.worker.http_port)
        try:
            writer.write(sent)
            answer = await asyncio.wait_for(reader.read(-1), 5)
        finally:
            writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"The %b of the request took too long." % part)
        await relay.settled()
        # Others are served meanwhile and after.
        assert (await relay.http.get("/healthz")).status_code == 200
