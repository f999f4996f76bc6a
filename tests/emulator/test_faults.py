"""Every fault shows what its name says."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import wreq
from wreq.exceptions import ConnectionResetError as WreqConnectionResetError
from wreq.exceptions import DecodingError, RequestError
from wreq.tls import CertStore

from relay.emulator.faults import FAULTS, FaultCall
from tests.emulator.calls import chat, chat_text, frames, plain_client, post
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

PATH = "/v1/chat/completions"
SILENCE_S = 0.25
"""How long nothing must come before a test calls it silence."""

SILENT = "silence"
BROKEN = "broken"
ENDED = "ended"


def faulty(fault: str, **more: object) -> dict[str, object]:
    return chat(f"emu:ttft=5,itl=1,tokens=6,fault={fault}", **more)


def body_of(emulator: EmulatorProcess, fault: str, **more: object) -> bytes:
    return post(emulator, PATH, faulty(fault, **more)).content


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    return [frame.json for frame in frames(body) if frame.data != "[DONE]"]


def read(emulator: EmulatorProcess, fault: str) -> tuple[int | None, bytes, str]:
    """Status (None if no head came), what came of the body, and how it ended; HTTP/1.1."""
    status: int | None = None
    got = b""
    timeout = httpx2.Timeout(5, read=SILENCE_S)
    with plain_client(timeout) as client:
        try:
            url = emulator.base_url_plain + PATH
            with client.stream("POST", url, json=faulty(fault)) as response:
                status = response.status_code
                for chunk in response.iter_raw():
                    got += chunk
        except httpx2.ReadTimeout:
            return status, got, SILENT
        except (httpx2.RemoteProtocolError, httpx2.ReadError):
            return status, got, BROKEN
    return status, got, ENDED


async def read_http2(emulator: EmulatorProcess, fault: str) -> tuple[bytes, Exception | None]:
    """What came over TLS and HTTP/2, and the error it ended with."""
    store = CertStore.from_pem_stack(Path(emulator.ca_file).read_bytes())
    client = wreq.Client(tls_verify=store)
    got = b""
    try:
        body = json.dumps(faulty(fault)).encode()
        response = await client.post(emulator.base_url_tls + PATH, body=body)
        async with response.stream() as stream:
            async for chunk in stream:
                got += bytes(chunk)
    except (RequestError, DecodingError, WreqConnectionResetError) as error:
        return got, error
    return got, None


def test_every_fault_has_a_row_and_a_line() -> None:
    for name, fault in FAULTS.items():
        assert fault.row.startswith("U"), name
        assert fault.doc, name


def test_every_fault_is_tested() -> None:
    folder = Path(__file__).parent
    source = "".join(
        (folder / name).read_text() for name in ("test_faults.py", "test_cloud_doors.py")
    )
    missing = [name for name in FAULTS if f'"{name}' not in source and f"={name}" not in source]
    assert missing == []


@pytest.mark.parametrize("text", ["nonsense", "reset@x", "reset@", "RESET", ""])
def test_unknown_faults_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unknown fault"):
        FaultCall.parse(text, FAULTS)


class TestBrokenConnections:
    @pytest.mark.parametrize("fault", ["reset-head", "cut-head", "close-head"])
    def test_before_the_head(self, emulator: EmulatorProcess, fault: str) -> None:
        status, got, how = read(emulator, fault)
        assert got == b""
        assert how == BROKEN
        # HTTP/1.1 has no reset: its head may leave before the socket is closed.
        assert status is None or fault == "reset-head"

    @pytest.mark.parametrize("fault", ["reset-body", "cut-body"])
    def test_behind_the_head(self, emulator: EmulatorProcess, fault: str) -> None:
        assert read(emulator, fault) == (200, b"", BROKEN)

    @pytest.mark.parametrize("fault", ["reset", "cut", "close"])
    def test_before_token_three(self, emulator: EmulatorProcess, fault: str) -> None:
        status, got, how = read(emulator, f"{fault}@3")
        assert (status, how) == (200, BROKEN)
        assert got.count(b'"content":"') == 4  # the role chunk's empty one and three tokens

    @pytest.mark.parametrize(
        ("fault", "sign"),
        [
            ("reset-head", "INTERNAL_ERROR, Remote"),
            ("reset-body", "INTERNAL_ERROR, Remote"),
            ("reset@2", "INTERNAL_ERROR, Remote"),
            ("cut-head", "ConnectionReset"),
            ("cut@2", "ConnectionReset"),
            ("close@2", "BrokenPipe"),
        ],
    )
    async def test_over_http2(self, emulator: EmulatorProcess, fault: str, sign: str) -> None:
        got, error = await read_http2(emulator, fault)
        assert sign in str(error)
        assert got.count(b'"content":"') == (3 if "@2" in fault else 0)

    async def test_reset_leaves_other_streams_alone(self, emulator: EmulatorProcess) -> None:
        store = CertStore.from_pem_stack(Path(emulator.ca_file).read_bytes())
        client = wreq.Client(tls_verify=store)
        url = emulator.base_url_tls + PATH
        good = await client.post(url, body=json.dumps(chat("emu:ttft=1,itl=5,tokens=20")).encode())
        with pytest.raises((RequestError, DecodingError), match="INTERNAL_ERROR"):
            await (await client.post(url, body=json.dumps(faulty("reset-head")).encode())).bytes()
        assert bytes(await good.bytes()).endswith(b"[DONE]\n\n")

    def test_idle_connection_closes_behind_a_good_answer(self, emulator: EmulatorProcess) -> None:
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            answer = client.post(url, json=faulty("close-behind"))
            assert answer.content.endswith(b"[DONE]\n\n")
            stream = answer.extensions["network_stream"]
            raw = stream.get_extra_info("socket")
            raw.settimeout(2)
            assert raw.recv(1) == b""


class TestSilence:
    def test_hang(self, emulator: EmulatorProcess) -> None:
        assert read(emulator, "hang") == (None, b"", SILENT)

    def test_silent(self, emulator: EmulatorProcess) -> None:
        assert read(emulator, "silent") == (200, b"", SILENT)

    def test_role_only(self, emulator: EmulatorProcess) -> None:
        status, got, how = read(emulator, "role-only")
        assert (status, how) == (200, SILENT)
        assert [chunk["choices"][0]["delta"]["role"] for chunk in chunks_of(got)] == ["assistant"]

    def test_stall_before_the_first_token(self, emulator: EmulatorProcess) -> None:
        assert read(emulator, "stall") == (None, b"", SILENT)

    def test_stall_after_three_tokens(self, emulator: EmulatorProcess) -> None:
        status, got, how = read(emulator, "stall@3")
        assert (status, how) == (200, SILENT)
        assert len(chunks_of(got)) == 4

    def test_stall_that_ends(self, emulator: EmulatorProcess) -> None:
        status, got, how = read(emulator, "stall@3:50")
        assert (status, how) == (200, ENDED)
        assert got.endswith(b"[DONE]\n\n")

    @pytest.mark.parametrize(("fault", "tokens"), [("comments:10", 0), ("dots@2:10", 2)])
    def test_keep_alives_and_nothing_else(
        self, emulator: EmulatorProcess, fault: str, tokens: int
    ) -> None:
        got = b""
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            with client.stream("POST", url, json=faulty(fault)) as response:
                for chunk in response.iter_raw():
                    got += chunk
                    if got.count(b": keep-alive") >= 5:
                        break
        assert len(chunks_of(got)) == (tokens + 1 if tokens else 0)
        assert got.endswith(b": keep-alive\n\n")

    def test_dribble(self, emulator: EmulatorProcess) -> None:
        came_s: list[float] = []
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            with client.stream("POST", url, json=faulty("dribble@2:60")) as response:
                for chunk in response.iter_raw():
                    came_s += [time.monotonic()] * chunk.count(b'"content"')
        # Six tokens and the role before them; four of them 60 ms after the one before.
        assert came_s[-1] - came_s[0] >= 4 * 0.055
        assert came_s[2] - came_s[0] < came_s[-1] - came_s[2]

    def test_drip(self, emulator: EmulatorProcess) -> None:
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            with client.stream("POST", url, json=faulty("drip:1")) as response:
                first = [chunk for chunk, _ in zip(response.iter_raw(), range(8), strict=False)]
        assert b"".join(first).startswith(b"data: ")
        assert max(map(len, first)) <= 2  # one byte a write; the reader may find two


class TestBytes:
    def test_huge_token(self, emulator: EmulatorProcess) -> None:
        assert len(chat_text(body_of(emulator, "huge-token@2:1000000"))) > 1_000_000

    def test_endless_line(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "endless-line:300000")
        assert len(body) == 300_006
        assert b"\n" not in body

    def test_bad_utf8(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "bad-utf8@1")
        with pytest.raises(UnicodeDecodeError):
            body.decode()
        assert chat_text(body.decode(errors="replace").encode()).count("\ufffd") >= 3

    def test_bad_utf8_beside_a_stamp(self, emulator: EmulatorProcess) -> None:
        model = "emu:ttft=1,itl=0,tokens=3,stamp=1,fault=bad-utf8@1"
        body = post(emulator, PATH, chat(model)).content
        assert "t=" in chat_text(body.decode(errors="replace").encode())

    def test_split_utf8(self, emulator: EmulatorProcess) -> None:
        pieces = []
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            body = chat("emu:ttft=1,itl=20,tokens=3,fault=split-utf8@1")
            with client.stream("POST", url, json=body) as response:
                pieces = list(response.iter_raw())
        assert "Zürich 🚆" in chat_text(b"".join(pieces))
        assert any("🚆".encode()[:2] in piece for piece in pieces)

    def test_bom(self, emulator: EmulatorProcess) -> None:
        assert body_of(emulator, "bom").startswith(b"\xef\xbb\xbfdata: ")

    @pytest.mark.parametrize(("fault", "end"), [("crlf", b"\r\n"), ("cr", b"\r")])
    def test_line_ends(self, emulator: EmulatorProcess, fault: str, end: bytes) -> None:
        body = body_of(emulator, fault)
        assert body.endswith(b"data: [DONE]" + end * 2)
        assert (b"\n" in body) == (b"\n" in end)

    def test_mixed_newlines(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "mixed-newlines")
        assert b"}\n\ndata" in body
        assert b"}\r\n\r\ndata" in body
        assert b"}\r\rdata" in body


class TestCutShort:
    def test_truncate_json(self, emulator: EmulatorProcess) -> None:
        status, got, how = read(emulator, "truncate-json@2")
        assert (status, how) == (200, ENDED)
        with pytest.raises(json.JSONDecodeError):
            chunks_of(got)

    def test_eof(self, emulator: EmulatorProcess) -> None:
        status, got, how = read(emulator, "eof@3")
        assert (status, how) == (200, ENDED)
        assert len(chunks_of(got)) == 4
        assert b"[DONE]" not in got

    def test_no_finish(self, emulator: EmulatorProcess) -> None:
        chunks = chunks_of(body_of(emulator, "no-finish"))
        assert len(chunks) == 7
        assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)

    def test_no_done(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "no-done")
        assert b"[DONE]" not in body
        assert chunks_of(body)[-1]["choices"][0]["finish_reason"] == "stop"


class TestNotAnAnswer:
    def test_html(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("html"))
        assert (answer.status_code, answer.text[:15]) == (200, "<!DOCTYPE html>")

    def test_wrong_type(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("wrong-type:image/png"))
        assert answer.headers["content-type"] == "image/png"
        assert chat_text(answer.content)

    def test_empty_body(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("empty-body"))
        assert (answer.status_code, answer.content) == (200, b"")

    def test_error_200(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("error-200:rate"))
        assert answer.status_code == 200
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"

    def test_error_first(self, emulator: EmulatorProcess) -> None:
        (only,) = chunks_of(body_of(emulator, "error-first"))
        assert only["error"]["code"] == "server_is_overloaded"

    def test_error_mid(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "error-mid@2:server")
        chunks = chunks_of(body)
        assert len(chunks) == 4
        assert chunks[-1]["error"]["type"] == "server_error"
        assert b"[DONE]" not in body

    def test_groq_names_its_error_event(self, emulator: EmulatorProcess) -> None:
        stream = frames(post(emulator, "/groq" + PATH, faulty("error-mid@2")).content)
        assert stream[-1].name == "error"


class TestStatuses:
    @pytest.mark.parametrize(
        ("shape", "name", "value"),
        [
            ("7", "retry-after", "7"),
            ("date", "retry-after", "Wed, 21 Oct 2093 07:28:00 GMT"),
            ("ms", "retry-after-ms", "250"),
            ("huge", "retry-after", "1000000000"),
            ("negative", "retry-after", "-5"),
            ("word", "retry-after", "soon"),
            ("never", "x-should-retry", "false"),
            ("reset", "x-ratelimit-reset-requests", "1m12.5s"),
        ],
    )
    def test_rate(self, emulator: EmulatorProcess, shape: str, name: str, value: str) -> None:
        answer = post(emulator, PATH, faulty(f"rate:{shape}"))
        assert answer.status_code == 429
        assert answer.headers[name] == value
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"

    def test_rate_without_hint(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("rate:none"))
        assert not [name for name in answer.headers if "retry" in name]

    @pytest.mark.parametrize(
        ("fault", "status", "code"),
        [
            ("quota", 429, "insufficient_quota"),
            ("billing", 402, "credit_balance_exhausted"),
            ("context", 400, "context_length_exceeded"),
            ("auth", 401, "invalid_api_key"),
            ("error:too_large", 413, "request_too_large"),
            ("error:not_found", 404, "model_not_found"),
        ],
    )
    def test_kinds(self, emulator: EmulatorProcess, fault: str, status: int, code: str) -> None:
        answer = post(emulator, PATH, faulty(fault))
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    @pytest.mark.parametrize(
        "status", [400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 503, 504, 529]
    )
    def test_status(self, emulator: EmulatorProcess, status: int) -> None:
        answer = post(emulator, PATH, faulty(f"status:{status}"))
        assert answer.status_code == status
        assert answer.json()["error"]["message"]

    @pytest.mark.parametrize("status", [502, 520, 524])
    def test_edge_statuses_are_html(self, emulator: EmulatorProcess, status: int) -> None:
        answer = post(emulator, PATH, faulty(f"status:{status}"))
        assert (answer.status_code, answer.text[:6]) == (status, "<html>")

    def test_redirect(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, PATH, faulty("redirect:http://127.0.0.2/other"))
        assert answer.status_code == 302
        assert answer.headers["location"] == "http://127.0.0.2/other"


class TestHeads:
    def raw(self, emulator: EmulatorProcess, fault: str) -> tuple[httpx2.Headers, bytes]:
        with plain_client() as client:
            url = emulator.base_url_plain + PATH
            with client.stream("POST", url, json=faulty(fault)) as response:
                return response.headers, b"".join(response.iter_raw())

    @pytest.mark.parametrize("coding", ["gzip", "zz-unknown"])
    def test_encoding_claim(self, emulator: EmulatorProcess, coding: str) -> None:
        headers, body = self.raw(emulator, f"encoding-claim:{coding}")
        assert headers["content-encoding"] == coding
        assert body.startswith(b"data: ")

    def test_gzip_bomb(self, emulator: EmulatorProcess) -> None:
        headers, body = self.raw(emulator, "gzip-bomb:5000000")
        assert headers["content-encoding"] == "gzip"
        assert len(body) < 10_000
        assert len(gzip.decompress(body)) == 5_000_000

    async def test_many_headers(self, emulator: EmulatorProcess) -> None:
        # Python's HTTP/1.1 parser refuses that many; HTTP/2 carries them.
        store = CertStore.from_pem_stack(Path(emulator.ca_file).read_bytes())
        client = wreq.Client(tls_verify=store)
        body = json.dumps(faulty("many-headers:300")).encode()
        response = await client.post(emulator.base_url_tls + PATH, body=body)
        names = [bytes(name) for name, _ in response.headers]
        assert len([name for name in names if name.startswith(b"x-noise")]) == 300

    def test_huge_header(self, emulator: EmulatorProcess) -> None:
        headers, _ = self.raw(emulator, "huge-header:20000")
        assert len(headers["x-noise"]) == 20_000


class TestUsage:
    def usages(self, emulator: EmulatorProcess, fault: str) -> Iterator[dict[str, int]]:
        body = body_of(emulator, fault, stream_options={"include_usage": True})
        return (chunk["usage"] for chunk in chunks_of(body) if chunk.get("usage"))

    def test_absent(self, emulator: EmulatorProcess) -> None:
        assert list(self.usages(emulator, "usage-absent")) == []

    def test_zero(self, emulator: EmulatorProcess) -> None:
        assert [usage["total_tokens"] for usage in self.usages(emulator, "usage-zero")] == [0]

    def test_negative(self, emulator: EmulatorProcess) -> None:
        (usage,) = self.usages(emulator, "usage-negative")
        assert usage["completion_tokens"] == -6

    def test_huge(self, emulator: EmulatorProcess) -> None:
        (usage,) = self.usages(emulator, "usage-huge")
        assert usage["completion_tokens"] == 10**12

    def test_twice(self, emulator: EmulatorProcess) -> None:
        assert len(list(self.usages(emulator, "usage-twice"))) == 2

    def test_growing(self, emulator: EmulatorProcess) -> None:
        counts = [usage["completion_tokens"] for usage in self.usages(emulator, "usage-growing")]
        assert counts[:6] == [1, 2, 3, 4, 5, 6]

    def test_after_done(self, emulator: EmulatorProcess) -> None:
        body = body_of(emulator, "usage-after-done")
        assert frames(body)[-1].json["usage"]["completion_tokens"] == 6
        assert frames(body)[-2].data == "[DONE]"


class TestOrderAndShape:
    def tool_deltas(self, emulator: EmulatorProcess, fault: str) -> list[dict[str, Any]]:
        model = f"emu:ttft=1,itl=0,tools=2,fault={fault}"
        return [
            call
            for chunk in chunks_of(post(emulator, PATH, chat(model)).content)
            for choice in chunk["choices"]
            for call in choice["delta"].get("tool_calls", [])
        ]

    def test_repeat(self, emulator: EmulatorProcess) -> None:
        good = [chunk["choices"] for chunk in chunks_of(body_of(emulator, "repeat@50"))]
        bad = [chunk["choices"] for chunk in chunks_of(body_of(emulator, "repeat@2"))]
        assert len(bad) == len(good) + 1
        assert bad[3] == bad[4]

    def test_swap(self, emulator: EmulatorProcess) -> None:
        text = "one+two+three+four"
        model = f"emu:ttft=1,itl=0,text={text},fault=swap@1"
        assert chat_text(post(emulator, PATH, chat(model)).content) == "one three two four"

    def test_finish_twice(self, emulator: EmulatorProcess) -> None:
        reasons = [
            chunk["choices"][0]["finish_reason"]
            for chunk in chunks_of(body_of(emulator, "finish-twice"))
        ]
        assert reasons[-2:] == ["stop", "stop"]

    def test_index_gap(self, emulator: EmulatorProcess) -> None:
        indexes = {delta["index"] for delta in self.tool_deltas(emulator, "index-gap")}
        assert indexes == {1, 3}

    def test_args_bytewise(self, emulator: EmulatorProcess) -> None:
        deltas = self.tool_deltas(emulator, "args-bytewise")
        pieces = [delta["function"].get("arguments", "") for delta in deltas]
        assert max(map(len, pieces)) == 1
        assert len(pieces) > 20

    def test_tools_in_one_chunk(self, emulator: EmulatorProcess) -> None:
        deltas = self.tool_deltas(emulator, "tools-in-one-chunk")
        assert len(deltas) == 2
        assert all(json.loads(delta["function"]["arguments"]) for delta in deltas)

    def test_split_id(self, emulator: EmulatorProcess) -> None:
        first, second = self.tool_deltas(emulator, "split-id")[:2]
        assert first["id"]
        assert "name" not in first["function"]
        assert second["function"]["name"]
        assert "id" not in second

    def test_length_after_tool(self, emulator: EmulatorProcess) -> None:
        model = "emu:ttft=1,itl=0,tools=1,fault=length-after-tool"
        last = chunks_of(post(emulator, PATH, chat(model)).content)[-1]
        assert last["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("fault", ["reset", "error:unavailable", "hang", "stall", "close-behind"])
def test_whole_answers_have_faults_too(emulator: EmulatorProcess, fault: str) -> None:
    with plain_client(SILENCE_S) as client:
        url = emulator.base_url_plain + PATH
        try:
            answer = client.post(url, json=faulty(fault, stream=False))
        except httpx2.ReadTimeout:
            assert fault in ("hang", "stall")
        except httpx2.RemoteProtocolError:
            assert fault == "reset"
        else:
            assert answer.status_code == (503 if fault.startswith("error") else 200)
