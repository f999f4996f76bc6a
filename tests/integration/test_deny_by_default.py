"""Without a key nothing is served: every path, every method and every RPC that there is.

What is walked is what the relay has registered, so that what is added later is walked too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rtrelay.v1 import relay_pb2
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings
from relay.frontends.passthrough_rules import AREAS
from relay.frontends.response_store import StoreLimits
from relay.governance.directory import REFUSED
from relay.governance.gate import MISSING
from relay.governance.token_text import mint
from relay.store.engine import engine_for
from tests.fakes.converse_client import reason_of, status_of
from tests.fakes.h2_server import H2Server, answer, stream_chunks
from tests.fakes.keys import PEPPER_TEXT, KeyDesk
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)

pytestmark = pytest.mark.sockets

OPEN = {("GET", "/healthz"), ("HEAD", "/healthz"), ("GET", "/readyz"), ("HEAD", "/readyz")}
EVERY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")
BAD = mint("virtual key").text
ADMINISTRATORS = mint("administrator").text


@pytest.fixture
async def relay(
    tmp_path: Path, upstream: H2Server, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[RelayUnderTest]:
    upstream.routes["/v1/chat/completions"] = stream_chunks(answer_chunks("Hello"))
    upstream.routes["/v1/files"] = answer(200, b"{}")
    monkeypatch.setenv("PEPPER", PEPPER_TEXT)
    row = provider(upstream.url, ca_file=ca_file, passthrough=True, models=["m"])
    document = {
        "server": {"grpc": {"reflection": True}, "http": {"responses_store": {}}},
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}"},
        "auth": {"pepper": "${PEPPER}", "sync_ms": 50},
        "audit": {"anchor": str(tmp_path / "audit.anchor")},
        "providers": {"lab": row},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


def paths_of(relay: RelayUnderTest) -> list[str]:
    """Everything that the shim may serve, an example of what is below each beginning, paths of
    nothing, and other spellings."""
    settings = HttpSettings(1000, 1.0, 1.0, responses_store=StoreLimits(10, 1000, 60.0))
    app = HttpApp(relay.worker.services, settings)
    served = [*app._routes, *(f"{begin}x" for begin in app._below)]
    assert len(served) > 10
    azure = "/openai/deployments/fast"
    return [
        *served,
        *(f"/openai{path}" for path in served if path.startswith("/v1/")),
        f"{azure}/chat/completions",
        f"{azure}/completions",
        f"{azure}/embeddings",
        *(f"/v1/{area}" for area in sorted(AREAS)),
        "/v1/files/x/content",
        "/pass/lab/files",
        "/pass/none/files",
        "/pass/lab/chat/completions",
        "/",
        "/nothing",
        "/v1/nothing",
        "/admin/state",
        "/metrics",
        "/healthz/",
        "//healthz",
        "/healthz/../v1/models",
        "/healthz%2f..%2fv1/models",
        "/HEALTHZ",
    ]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, MISSING),
        ({"authorization": f"Bearer {BAD}"}, REFUSED),
        ({"x-api-key": ADMINISTRATORS}, REFUSED),
    ],
)
async def test_no_path_is_served(
    relay: RelayUnderTest, upstream: H2Server, headers: dict[str, str], said: str
) -> None:
    # Everybody is one address here, and may be wrong so often.
    relay.worker.services.gate._throttle._burst = 1e9  # type: ignore[attr-defined]
    asked = 0
    for path in paths_of(relay):
        for method in EVERY_METHOD:
            if (method, path) in OPEN:
                continue
            body = b"{}" if method in ("POST", "PUT", "PATCH") else None
            told = await relay.http.request(method, path, headers=headers, content=body)
            where = f"{method} {path}: {told.status_code} {told.text[:100]}"
            if told.status_code == 400 and "Invalid HTTP request" in told.text:
                assert method == "FOO", where  # the parser knows no such method
                continue
            assert told.status_code == 401, where
            assert told.headers["www-authenticate"].startswith("Bearer"), where
            if method != "HEAD":
                assert told.json()["error"]["message"] == said, where
                assert "lab" not in told.text, where
                assert "fast" not in told.text.replace(path, ""), where
            asked += 1
    assert asked > 300
    assert not chats_and_files(upstream)


def chats_and_files(upstream: H2Server) -> list[str]:
    return [
        s.path for s in upstream.requests("/v1/chat/completions") + upstream.requests("/v1/files")
    ]


async def test_the_open_ones_are_open(relay: RelayUnderTest) -> None:
    for method, path in OPEN:
        assert (await relay.http.request(method, path)).status_code == 200
        told = await relay.http.request(method, path, headers={"authorization": f"Bearer {BAD}"})
        assert told.status_code == 200


@pytest.mark.parametrize("path", ["/v1/realtime?model=m", "/pass/lab/realtime", "/v1/models"])
@pytest.mark.parametrize("subprotocols", [None, [f"openai-insecure-api-key.{BAD}", "realtime"]])
async def test_no_websocket_is_opened(relay: RelayUnderTest, path: str, subprotocols: Any) -> None:
    url = f"ws://127.0.0.1:{relay.worker.http_port}{path}"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, proxy=None, subprotocols=subprotocols):
            pass
    assert caught.value.response.status_code == 401


RPCS = [
    f"/{service.full_name}/{method.name}"
    for service in relay_pb2.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]


@pytest.mark.parametrize("rpc", RPCS)
@pytest.mark.parametrize(
    "metadata", [(), (("authorization", f"Bearer {BAD}"),), (("x-api-key", ADMINISTRATORS),)]
)
async def test_no_rpc_is_served(
    relay: RelayUnderTest, upstream: H2Server, rpc: str, metadata: Any
) -> None:
    async def asks() -> AsyncIterator[bytes]:
        yield relay_pb2.ConverseRequest(setup=relay_pb2.Setup(model="fast")).SerializeToString()

    ask: Any = relay.channel.stream_stream(rpc)
    call = ask(asks(), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()  # the first frame of an answer, if there were one
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == (REFUSED if metadata else MISSING)
    assert reason_of(status_of(caught.value)) == "UNAUTHENTICATED"
    assert not chats_and_files(upstream)


async def test_every_service_of_the_server_is_one_of_these(relay: RelayUnderTest) -> None:
    """By reflection, with a key: the relay's own, health, which is open, and reflection itself."""
    key = await a_key(relay)
    found = await reflected(relay, (("authorization", f"Bearer {key}"),))
    assert found == {
        "rtrelay.v1.RelayService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_reflection_wants_a_key_and_health_does_not(relay: RelayUnderTest) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reflected(relay, ())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    health = health_pb2_grpc.HealthStub(relay.channel)
    told = await health.Check(health_pb2.HealthCheckRequest())
    assert told.status == health_pb2.HealthCheckResponse.SERVING
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()
    for rpc in ("/grpc.health.v1.Health/Nothing", "/grpc.health.v1.Health/../x", "/nothing/x"):
        ask: Any = relay.channel.unary_unary(rpc)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(b"")
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def reflected(relay: RelayUnderTest, metadata: Any) -> set[str]:
    async def ask() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    stub = reflection_pb2_grpc.ServerReflectionStub(relay.channel)
    async for told in stub.ServerReflectionInfo(ask(), metadata=metadata):
        return {service.name for service in told.list_services_response.service}
    return set()


async def a_key(relay: RelayUnderTest) -> str:
    store = relay.worker._config.store
    assert store is not None
    engine = engine_for(store.url.get_secret_value())
    desk = KeyDesk(engine)
    desk.found()
    minted = desk.key()
    engine.dispose()
    access = relay.worker.accounts.access
    assert access is not None
    await access.sync.look()
    return minted.text


async def test_with_a_key_the_same_is_served(relay: RelayUnderTest) -> None:
    """The walk would prove little if nothing were served to anybody."""
    key = await a_key(relay)
    told = await relay.chat(chat_body(stream=False), authorization=f"Bearer {key}")
    assert told.status_code == 200
    for path in ("/v1/models", "/openapi.json", "/v1/models/fast"):
        assert (await relay.http.get(path, headers={"api-key": key})).status_code == 200
    missing = await relay.http.get("/nothing", headers={"x-api-key": key})
    assert missing.status_code == 404
