"""What integration tests share: an authority of their own, and its certificate on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.fakes.h2_server import H2Server
from tests.fakes.tls import CertAuthority


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
