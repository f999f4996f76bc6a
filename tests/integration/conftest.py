"""What integration tests share: an authority of their own, and its certificate on disk.

`relay serve` runs on uvloop, tests on asyncio's own loop, whose transports differ in when they
write, pause and close. So the modules that see most of that run on both.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.fakes.h2_server import H2Server
from tests.fakes.servers import own_redis, redis_server, redis_url
from tests.fakes.tls import CertAuthority

__all__ = ["own_redis", "redis_server", "redis_url"]

ON_BOTH_LOOPS = frozenset(
    {
        "test_commit_headers",
        "test_end_to_end",
        "test_http_edge",
        "test_passthrough_websocket",
        "test_slow_requests",
        "test_tls_http",
    }
)
"""Modules; together they take five seconds more. With `RELAY_FULL=1` all do but the corpus, in
which the loop changes nothing."""

IS_FULL = os.environ.get("RELAY_FULL") == "1"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """On which loops an async test runs, by the name that its id gets when there are two."""
    name = item.path.stem
    if name in ON_BOTH_LOOPS or (IS_FULL and name != "test_corpus"):
        return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@pytest.fixture(scope="session")
def authority() -> CertAuthority:
    """Who signs for the fake providers."""
    return CertAuthority()


@pytest.fixture(scope="session")
def ca_file(authority: CertAuthority, tmp_path_factory: pytest.TempPathFactory) -> str:
    """PEM file of the authority."""
    return authority.ca_file(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def upstream(authority: CertAuthority) -> AsyncIterator[H2Server]:
    """A fake provider over TLS and HTTP/2."""
    async with H2Server(tls=authority.server_context(alpn=("h2",))) as server:
        yield server


@pytest.fixture
async def spare(authority: CertAuthority) -> AsyncIterator[H2Server]:
    """A second fake provider, for what the first one cannot do."""
    async with H2Server(tls=authority.server_context(alpn=("h2",))) as server:
        yield server
