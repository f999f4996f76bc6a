"""A relay with keys, and a desk that hands them out, over one SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from relay.governance.access import Access
from relay.store.engine import engine_for
from tests.fakes.keys import PEPPER_TEXT, KeyDesk
from tests.fakes.relay_under_test import Document, RelayUnderTest, relay_under_test

SYNC_MS = 50


def keyed(folder: Path, document: Document, **auth: Any) -> Document:
    """A configuration with keys in `folder`, and the pepper of the tests in a file there."""
    pepper = folder / "pepper"
    pepper.write_text(PEPPER_TEXT, encoding="utf-8")
    return {
        "store": {"url": f"sqlite:///{folder / 'relay.db'}"},
        "auth": {"pepper": f"${{file:{pepper}}}", "sync_ms": SYNC_MS, **auth},
        "audit": {"anchor": str(folder / "audit.anchor")},
        **document,
    }


class KeyedRelay:
    """A started worker, clients for it, and its keys."""

    def __init__(self, relay: RelayUnderTest, desk: KeyDesk) -> None:
        self.relay = relay
        self.desk = desk

    @property
    def access(self) -> Access:
        access = self.relay.worker.accounts.access
        assert access is not None
        return access

    async def heard(self) -> None:
        """Have the relay look at what the desk has done."""
        assert await self.access.sync.look()

    async def key(self, key_id: str = "key_1", team_id: str = "team_1", **more: Any) -> str:
        """A new key that the relay knows of."""
        text = self.desk.key(key_id, team_id, **more).text
        await self.heard()
        return text


@asynccontextmanager
async def keyed_relay(folder: Path, document: Document, **auth: Any) -> AsyncIterator[KeyedRelay]:
    """Start a worker; an organisation with a team, `org_1` and `team_1`, is there."""
    async with relay_under_test(keyed(folder, document, **auth)) as relay:
        engine = engine_for(f"sqlite:///{folder / 'relay.db'}")
        desk = KeyDesk(engine)
        desk.found()
        try:
            yield KeyedRelay(relay, desk)
        finally:
            engine.dispose()
