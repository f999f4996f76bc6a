"""Fixtures of the transport tests: certificates, and a world of any kind."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import cache
from pathlib import Path

import pytest

from relay.transport import TransportSettings
from tests.fakes.h2_server import SettingCodes
from tests.fakes.tls import CertAuthority
from tests.transport.worlds import World, WorldKind, world

QUIET = TransportSettings(
    probe_interval_s=60, ping_interval_s=60, backoff_initial_s=0.02, backoff_max_s=0.1
)
"""Nothing happens but what a test asks for."""


@pytest.fixture(scope="session")
def authority() -> CertAuthority:
    """The one the transports under test trust."""
    return CertAuthority()


@pytest.fixture(scope="session")
def ca_file(authority: CertAuthority, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its certificate as a PEM file."""
    return authority.ca_file(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def server_tls(authority: CertAuthority) -> Callable[[str], ssl.SSLContext]:
    """A server context for one wire, `h2` or `h1`."""

    @cache
    def context(wire: str) -> ssl.SSLContext:
        return authority.server_context(alpn=("h2",) if wire == "h2" else ("http/1.1",))

    return context


MakeWorld = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def make_world(server_tls: Callable[[str], ssl.SSLContext], ca_file: str) -> MakeWorld:
    """`async with make_world(kind, settings) as here`."""

    def make(
        kind: WorldKind,
        settings: TransportSettings = QUIET,
        h2_settings: dict[SettingCodes, int] | None = None,
    ) -> AbstractAsyncContextManager[World]:
        tls = server_tls(kind.wire) if kind.tls else None
        return world(kind, settings, tls=tls, ca_file=ca_file, h2_settings=h2_settings)

    return make


@pytest.fixture
async def here(request: pytest.FixtureRequest, make_world: MakeWorld) -> AsyncIterator[World]:
    """The world of the test's parameter, undisturbed by probes and pings."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(make_world(request.param))


@pytest.fixture
def pem_dir(tmp_path: Path) -> Path:
    """Somewhere for certificates of other authorities."""
    return tmp_path
