"""The balancers' configurations: nginx's is run, with two relays behind it, Envoy's only read."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest

from tests.deploy.files import DEPLOY, document, longest_answer_s
from tests.fakes.converse_client import Conversation, generate, start
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.nginx import nginx_path, wait_for
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chat_body,
    provider,
    relay_under_test,
)
from tests.fakes.server_process import free_port
from tests.fakes.tls import CertAuthority

CALLS = 12

needs_nginx = pytest.mark.skipif(not nginx_path(), reason="nginx is not installed")


# --- nginx ------------------------------------------------------------------------------------


@contextmanager
def nginx_as_deployed(
    directory: Path, authority: CertAuthority, relays: list[RelayUnderTest]
) -> Iterator[int]:
    """nginx by the very file, with this machine's addresses, certificate and folder in it."""
    text = (DEPLOY / "proxy" / "nginx.conf").read_text("utf-8")
    key, chain = authority.key_and_chain()
    (directory / "key.pem").write_bytes(key)
    (directory / "chain.pem").write_bytes(chain)
    port = free_port()
    changes = {
        " /tmp/": f" {directory}/",  # first: this machine's paths may begin like it
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/run/secrets/tls_certificate": str(directory / "chain.pem"),
        "/run/secrets/tls_key": str(directory / "key.pem"),
        "worker_processes auto;": "worker_processes 1;\ndaemon off;",
        "worker_connections 16384": "worker_connections 256",
        "error_log stderr warn;": "error_log stderr error;",
    }
    for number, relay in enumerate(relays, start=1):
        changes[f"relay-{number}:50051"] = f"127.0.0.1:{relay.worker.grpc_port}"
        changes[f"relay-{number}:8080"] = f"127.0.0.1:{relay.worker.http_port}"
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    if os.geteuid() == 0:
        text = "user root;\n" + text
    config = directory / "nginx.conf"
    config.write_text(text)
    command = [nginx_path(), "-e", "stderr", "-p", str(directory), "-c", str(config)]
    tried = subprocess.run([*command, "-t", "-q"], capture_output=True, text=True, check=False)
    assert (tried.returncode, tried.stderr) == (0, "")
    process = subprocess.Popen(command)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def speak(exchange: Exchange) -> None:
    kind = ("content-type", "text/event-stream")
    await exchange.head(200, kind, ("transfer-encoding", "chunked"))
    for data in answer_chunks("One", " two"):
        await exchange.chunk(data)
    await exchange.chunk(b"")


def asked(relay: RelayUnderTest) -> int:
    return relay.worker.services.planner.alias("fast").counters.requests


@needs_nginx
@pytest.mark.sockets
async def test_nginx_balances_calls_and_streams_both_kinds(tmp_path: Path) -> None:
    authority = CertAuthority()
    async with AsyncExitStack() as stack:
        lab = await stack.enter_async_context(H1Server())
        lab.routes["/v1/chat/completions"] = speak
        document = {
            "providers": {"lab": provider(lab.url)},
            "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        }
        relays = [await stack.enter_async_context(relay_under_test(document)) for _ in range(2)]
        port = stack.enter_context(nginx_as_deployed(tmp_path, authority, relays))
        root = Path(authority.ca_file(tmp_path))
        credentials = grpc.ssl_channel_credentials(root.read_bytes())
        # One connection, as an agent has: its calls go to both relays all the same.
        channel = await stack.enter_async_context(
            grpc.aio.secure_channel(f"localhost:{port}", credentials)
        )
        for _ in range(CALLS):
            generated = await generate(channel, start())
            assert (generated.error, generated.text) == (None, "One two")
        assert [asked(relay) for relay in relays] == [CALLS / 2, CALLS / 2]

        async with Conversation(channel) as session:  # a call that goes both ways, for as long
            for number in range(2):
                await session.start(f"g{number}")
                assert (await session.ended(f"g{number}")).text == "One two"

        trust = ssl.create_default_context(cafile=str(root))
        http = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"https://localhost:{port}", verify=trust, trust_env=False)
        )
        for _ in range(2):
            response = await http.post("/v1/chat/completions", json=chat_body())
            assert response.text.endswith("data: [DONE]\n\n")

        # One relay goes: what comes is answered by the other, and no call is lost on the way.
        relays[0].worker.stop()
        await relays[0].worker.drain()
        await relays[0].worker.aclose()
        for _ in range(CALLS):
            generated = await generate(channel, start())
            assert (generated.error, generated.text) == (None, "One two")
            response = await http.post("/v1/chat/completions", json=chat_body())
            assert response.text.endswith("data: [DONE]\n\n")


# --- Envoy ------------------------------------------------------------------------------------


def find(value: Any, key: str) -> list[Any]:
    """Every value of a key, anywhere."""
    found: list[Any] = []
    if isinstance(value, dict):
        found += [inner for name, inner in value.items() if name == key]
        found += [hit for inner in value.values() for hit in find(inner, key)]
    elif isinstance(value, list):
        found += [hit for inner in value for hit in find(inner, key)]
    return found


def test_envoy_s_parts_fit_together() -> None:
    text = (DEPLOY / "proxy" / "envoy.yaml").read_text("utf-8")
    assert "<<:" not in text  # which Envoy's parser does not know
    envoy = document("proxy/envoy.yaml")
    clusters = {row["name"] for row in envoy["static_resources"]["clusters"]}
    assert {name for name in find(envoy, "cluster") if isinstance(name, str)} == clusters
    assert {row["cluster_name"] for row in find(envoy, "load_assignment")} == clusters
    for name in find(envoy, "@type"):
        assert re.fullmatch(r"type\.googleapis\.com/envoy(\.\w+)+\.v3\.\w+", name)
    address = envoy["admin"]["address"]["socket_address"]
    assert address["address"] == "127.0.0.1"


def test_envoy_lets_streams_live_and_repeats_no_request_that_was_begun() -> None:
    envoy = document("proxy/envoy.yaml")
    routes = find(envoy, "routes")[0]
    streamed = [row["route"] for row in routes if "health" not in row["match"]["prefix"]]
    assert {row["timeout"] for row in streamed} == {"0s"}
    assert {row["retry_policy"]["retry_on"] for row in streamed} == {
        "connect-failure,refused-stream"
    }
    for idle in (*find(envoy, "stream_idle_timeout"), *find(envoy, "idle_timeout")):
        assert int(idle.removesuffix("s")) > max(3600, longest_answer_s("relay.yaml"))
    checks = find(envoy, "health_checks")
    assert checks[0][0]["grpc_health_check"] == {"service_name": "rtrelay.v1.RelayService"}
    assert checks[1][0]["http_health_check"] == {"path": "/readyz"}


def test_nginx_waits_longer_than_relays_do() -> None:
    text = (DEPLOY / "proxy" / "nginx.conf").read_text("utf-8")
    read_s = {name: int(value) for name, value in re.findall(r"(\w+_read_timeout) (\d+)s", text)}
    assert read_s["grpc_read_timeout"] > 3600  # session_idle_ms
    assert read_s["proxy_read_timeout"] > 900  # the longest class
    assert "non_idempotent" not in text
