"""What one client asks for is his own matter: it moves no other client's answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from rtrelay.v1 import GenerateRequest

from relay.frontends import grpc_service
from tests.fakes.converse_client import start
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.relay_under_test import answer_chunks, chat_body, provider, relay_under_test

pytestmark = pytest.mark.sockets


@pytest.mark.parametrize("limit", ["x-relay-inter-token-ms", "x-relay-first-token-ms"])
async def test_an_impatient_client_takes_no_target_from_others(
    upstream: H2Server, ca_file: str, limit: str
) -> None:
    """More of them in a row than open a breaker, each with a limit of its own that no provider
    keeps; the target's is ten seconds."""
    upstream.routes["/v1/chat/completions"] = stream_chunks(answer_chunks("Hel", "lo"), gap_s=0.05)
    lab = provider(upstream.url, ca_file=ca_file, models=["m"])
    document = {"providers": {"lab": lab}}
    async with relay_under_test(document) as relay:
        for _ in range(8):
            told = await relay.http.post(
                "/v1/chat/completions", json=chat_body("lab/m", stream=False), headers={limit: "1"}
            )
            assert told.status_code == 504
        await relay.settled()
        async with relay.admin() as admin:
            state = (await admin.get("/admin/state")).json()
        assert state["targets"]["lab/m"]["breaker"]["state"] == "closed"
        assert state["targets"]["lab/m"]["breaker"]["trips"] == 0


async def test_calls_without_a_request_are_bounded_by_key(
    tmp_path: Path, upstream: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are charged to no limit yet, and all clients of a worker share its number of RPCs."""
    monkeypatch.setattr(grpc_service, "MAX_SILENT", 3)
    upstream.routes["/v1/chat/completions"] = stream_chunks(answer_chunks("Hello"))
    lab = provider(upstream.url, ca_file=ca_file, models=["m"])
    document = {
        "providers": {"lab": lab},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with keyed_relay(tmp_path, document) as keyed:
        loud = (("authorization", f"Bearer {await keyed.key('key_1')}"),)
        quiet = (("authorization", f"Bearer {await keyed.key('key_2')}"),)
        generate: Any = keyed.relay.channel.stream_stream("/rtrelay.v1.RelayService/Generate")
        silent = [generate(metadata=loud) for _ in range(4)]
        codes = [asyncio.ensure_future(one.code()) for one in silent]
        (first,), _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED)
        assert first.result() is grpc.StatusCode.RESOURCE_EXHAUSTED
        request = GenerateRequest(start=start())
        frames = [one async for one in keyed.relay.stub.Generate(request, metadata=quiet)]
        assert frames[-1].WhichOneof("frame") == "end"
        for one, code in zip(silent, codes, strict=True):
            if code is not first:
                await one.done_writing()
                assert await code is grpc.StatusCode.INVALID_ARGUMENT
        again = [one async for one in keyed.relay.stub.Generate(request, metadata=loud)]
        assert again[-1].WhichOneof("frame") == "end"
