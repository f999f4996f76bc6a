"""One bounded request of a renewal: what goes out, and what of a failure is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.credentials.ask import MAX_ANSWER_BYTES, Answer, Ask, Way
from relay.errors import ConnectError, CredentialUnavailable, StreamReset, TlsFailed
from tests.credentials.calls import AT_S
from tests.fakes.memory_transport import FakeEndpoint, MemoryTransport
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s

WAY = Way("http://proxy:3128", "roots.pem", "digest")


def ask_of(endpoint: FakeEndpoint, way: Way = WAY) -> tuple[Ask, MemoryTransport]:
    transport = MemoryTransport({"t.test": endpoint})
    return Ask(transport, way, now_s=now_s, wall_s=lambda: AT_S), transport


async def fault_of(endpoint: FakeEndpoint) -> str:
    ask, transport = ask_of(endpoint)
    with pytest.raises(CredentialUnavailable) as raised:
        await ask("POST", "https://t.test/token", [], b"secret=1")
    assert not transport.unfinished
    assert "secret" not in str(raised.value)
    return raised.value.public_message


@on_virtual_time
async def test_request_and_answer() -> None:
    endpoint = FakeEndpoint(
        status=400,
        headers=[("date", "Fri, 27 Nov 2026 12:00:05 GMT")],
        headers_s=0.5,
        chunks=[(0.0, b"ab"), (0.1, b"c")],
    )
    ask, transport = ask_of(endpoint)
    answer = await ask("POST", "https://t.test:8443/token?a=1", [("x-a", "1")], b"body")
    assert answer[:4] == ("t.test", 400, endpoint.headers, b"abc")
    assert answer.date_s == AT_S + 5
    assert answer.asked_s == now_s() - 0.6, "before it was sent"
    sent = transport.attempts[0]
    assert sent.request.path == "/token?a=1"
    assert sent.request.headers[0] == ("x-a", "1")
    assert sent.request.headers[1][1].startswith("rtrelay/")
    assert sent.origin.port == 8443
    to = sent.origin
    assert Way(to.egress_proxy, to.ca_file, to.ca_digest, to.private) == WAY
    assert not transport.unfinished


@pytest.mark.parametrize(
    "date", ["", "Fri, 99999999999999999999999 Jan 2026 00:00:00 GMT", "x" * 5000]
)
def test_a_date_that_is_none_spoils_no_answer(date: str) -> None:
    @on_virtual_time
    async def check() -> None:
        ask, _ = ask_of(FakeEndpoint(headers=[("date", date)]))
        assert (await ask("POST", "https://t.test/token", [])).date_s is None

    check()


@on_virtual_time
async def test_local_addresses_are_reached_through_no_proxy() -> None:
    ask, transport = ask_of(FakeEndpoint())
    await ask("GET", "http://t.test/latest", [], is_local=True)
    origin = transport.attempts[0].origin
    assert (origin.egress_proxy, origin.ca_file, origin.http, origin.port) == (None, None, "h1", 80)


@on_virtual_time
async def test_redirects_are_not_followed() -> None:
    ask, transport = ask_of(FakeEndpoint(status=302, headers=[("location", "https://evil.test/")]))
    answer: Answer = await ask("POST", "https://t.test/token", [])
    assert answer.status == 302
    assert len(transport.attempts) == 1


@on_virtual_time
async def test_secrets_are_not_sent_in_the_clear() -> None:
    ask, transport = ask_of(FakeEndpoint())
    with pytest.raises(CredentialUnavailable, match="https:// addresses alone"):
        await ask("POST", "http://t.test/token", [], b"secret=1")
    assert transport.attempts == []


@on_virtual_time
async def test_silence_ends_after_ten_seconds() -> None:
    assert await fault_of(FakeEndpoint(headers_s=float("inf"))) == "t.test: no answer within 10 s"
    assert since_start_s() == 10


@on_virtual_time
async def test_a_body_that_does_not_end_is_cut() -> None:
    fault = await fault_of(FakeEndpoint(chunks=[(0.0, b"a"), (float("inf"), b"b")]))
    assert fault == "t.test: no answer within 10 s"


@on_virtual_time
async def test_a_body_that_is_too_long_is_refused() -> None:
    chunk = bytes(MAX_ANSWER_BYTES // 2 + 1)
    endpoint = FakeEndpoint(chunks=[(0.0, chunk), (0.0, chunk)])
    assert await fault_of(endpoint) == "t.test: the answer is too long"


@pytest.mark.parametrize(
    ("error", "at"),
    [
        (ConnectError("the provider cannot be reached"), "connect"),
        (TlsFailed("the certificate is not trusted"), "connect"),
        (StreamReset("the stream broke", headers_received=True), "body"),
    ],
)
def test_failures_name_the_host(error: ConnectError, at: str) -> None:
    @on_virtual_time
    async def fails() -> None:
        endpoint = FakeEndpoint(fault=error, fault_at=at)  # type: ignore[arg-type]
        assert await fault_of(endpoint) == f"t.test: {error.public_message}"

    fails()


@on_virtual_time
async def test_cancelled_the_request_is_withdrawn() -> None:
    ask, transport = ask_of(FakeEndpoint(headers_s=float("inf")))
    task = asyncio.create_task(ask("GET", "https://t.test/", []))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.attempts[0].aborted_s is not None


async def test_files_are_read_anew(tmp_path: Path) -> None:
    ask, _ = ask_of(FakeEndpoint())
    path = tmp_path / "token"
    for text in (b"one", b"two"):
        path.write_bytes(text)
        assert await ask.file(str(path)) == text
    path.unlink()
    with pytest.raises(CredentialUnavailable, match="No such file"):
        await ask.file(str(path))
