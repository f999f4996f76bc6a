"""What the emulator reports of streams, above all of those that the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import httpx2
import pytest
import wreq
from wreq.tls import CertStore

from tests.emulator.calls import USER, chat, plain_client, post
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

PATH = "/v1/chat/completions"
PROMPT_NS = 50_000_000
"""Bound on cancel to report; typical is 0.6 ms, the rest is for a loaded machine."""


@pytest.fixture
async def client(emulator: EmulatorProcess) -> wreq.Client:
    store = CertStore.from_pem_stack(Path(emulator.ca_file).read_bytes())
    made = wreq.Client(tls_verify=store)
    await made.get(f"{emulator.base_url_tls}/v1/models")  # the connection is warm
    return made


async def opened(emulator: EmulatorProcess, model: str, count: int) -> None:
    await asyncio.to_thread(emulator.wait_for_streams, model, "open", count)


def test_clean_stream(emulator: EmulatorProcess) -> None:
    model = "emu:ttft=20,itl=2,tokens=5,seed=901"
    post(emulator, PATH, chat(model), {"x-client-request-id": "mine-1"})
    (stream,) = emulator.streams(model=model)
    assert stream["outcome"] == "clean"
    assert stream["request_id"] == "mine-1"
    assert stream["prompt_start"] == USER[:64]
    assert stream["tokens"] == 5
    assert stream["status"] == 200
    assert stream["start_ns"] < stream["head_ns"] <= stream["first_token_ns"] < stream["end_ns"]
    assert stream["first_token_ns"] - stream["start_ns"] >= 18_000_000


async def test_cancel_before_headers(emulator: EmulatorProcess, client: wreq.Client) -> None:
    """RST_STREAM while nothing has been sent, with other streams on the same connection."""
    hanging, living = "emu:fault=hang,seed=902", "emu:ttft=1,itl=20,tokens=20,seed=902"
    url = emulator.base_url_tls + PATH
    good = await client.post(url, body=json.dumps(chat(living)).encode())
    tasks = [
        asyncio.ensure_future(client.post(url, body=json.dumps(chat(hanging)).encode()))
        for _ in range(5)
    ]
    await opened(emulator, hanging, 5)
    cancelled_ns = time.monotonic_ns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    streams = await asyncio.to_thread(emulator.wait_for_streams, hanging, "abandoned", 5)
    assert {stream["phase"] for stream in streams} == {"before_headers"}
    assert max(stream["end_ns"] for stream in streams) - cancelled_ns < PROMPT_NS
    assert bytes(await good.bytes()).endswith(b"[DONE]\n\n")


async def test_cancel_mid_stream(emulator: EmulatorProcess, client: wreq.Client) -> None:
    model = "emu:ttft=1,itl=5,tokens=2000,seed=903"
    url = emulator.base_url_tls + PATH
    response = await client.post(url, body=json.dumps(chat(model)).encode())
    async with response.stream() as stream:
        async for _ in stream:
            break
        cancelled_ns = time.monotonic_ns()
    (left,) = await asyncio.to_thread(emulator.wait_for_streams, model, "abandoned")
    assert left["phase"] == "mid_stream"
    assert left["end_ns"] - cancelled_ns < PROMPT_NS
    assert left["tokens"] < 100


def test_http1_client_closes(emulator: EmulatorProcess) -> None:
    model = "emu:fault=silent,seed=904"
    with plain_client() as client:
        url = emulator.base_url_plain + PATH
        with client.stream("POST", url, json=chat(model)) as response:
            assert response.status_code == 200
    (left,) = emulator.wait_for_streams(model, "abandoned")
    assert left["phase"] == "before_first_token"


def test_faults_are_told_from_cancels(emulator: EmulatorProcess) -> None:
    for fault, outcome in (("cut@1", "cut"), ("reset@1", "reset"), ("status:500", "clean")):
        model = f"emu:ttft=1,itl=0,tokens=3,fault={fault},seed=905"
        with (
            contextlib.suppress(httpx2.RemoteProtocolError, httpx2.ReadError),
            plain_client() as client,
        ):
            client.post(emulator.base_url_plain + PATH, json=chat(model))
        (stream,) = emulator.wait_for_streams(model, outcome)
        assert stream["fault"] == fault.partition("@")[0].partition(":")[0]


def test_summary_and_since(emulator: EmulatorProcess) -> None:
    model = "emu:ttft=1,itl=0,tokens=2,seed=906"
    post(emulator, PATH, chat(model))
    report = emulator.report()
    assert report["streams"]["models"][model] == {"opened": 1, "clean": 1}
    assert report["process"]["cpu_s"] > 0
    assert report["connections_open"] >= 1
    last = report["streams"]["last_id"]
    post(emulator, PATH, chat(model))
    assert [stream["id"] for stream in emulator.streams(since=last)] == [last + 1]


def test_reset_forgets(tmp_path: Path) -> None:
    with EmulatorProcess(cert_dir=tmp_path) as own:
        own.script("m", {"text": "x"})
        post(own, PATH, chat("emu-instant"))
        own.reset()
        assert own.streams() == []
        assert own.report()["streams"]["opened"] == 0
