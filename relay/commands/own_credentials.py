"""The credentials of a command that asks providers itself: fetched once before, kept while it
runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay import logs
from relay.auditing import secrets_of
from relay.config import Config
from relay.credentials.desk import CredentialDesk
from relay.routing.catalog import Catalog
from relay.transport.base import Transport


@asynccontextmanager
async def catalog_with_credentials(config: Config, transport: Transport) -> AsyncIterator[Catalog]:
    """A catalog whose rows with tokens have one, where it came within `desk.FIRST_WAIT_S`; those of
    the others say why they have none. From here on logs hide the secrets of the configuration.

    Args:
        transport: stays its owner's, who closes it after this.

    Raises:
        ConfigError: as `Catalog`.
    """
    secrets = secrets_of(config)
    logs.hide_with(secrets.hide)
    desk = CredentialDesk(secrets.learn_passing)
    try:
        catalog = Catalog(config, desk)
        ends = catalog.endpoints.items()
        await desk.start(transport, {name: end.credential for name, end in ends})
        yield catalog
    finally:
        await desk.aclose()
