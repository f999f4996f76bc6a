"""A configuration's catalog with credentials that serve, for commands that ask providers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.config import Config
from relay.credentials.desk import CredentialDesk
from relay.routing.catalog import Catalog
from relay.server import credentials_of, transport_settings
from relay.transport import make_transport


@asynccontextmanager
async def fetched(config: Config) -> AsyncIterator[Catalog]:
    """Tokens are fetched, at most five seconds long, and renewed until the block is left. One that
    cannot be had says why where it is used.

    Raises:
        ConfigError: a credential cannot be used.
    """
    desk = CredentialDesk(is_quiet=True)
    catalog = Catalog(config, desk)
    transport = make_transport(config.transport.engine, transport_settings(config))
    try:
        await desk.start(transport, credentials_of(catalog))
        yield catalog
    finally:
        await desk.aclose()
        await transport.aclose()
