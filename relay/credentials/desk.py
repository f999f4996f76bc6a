"""Who keeps the credentials of a process and has those renewed that end: never beside a request.

One task a credential that must be fetched. A request takes what is there; a renewal puts another
value in its place, and streams under way, which have sent theirs, see nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import structlog

from relay.config.credentials import AzureEntraConfig, GoogleConfig
from relay.config.file_digest import digest_of
from relay.config.providers import ProviderConfig, ProxyUrl
from relay.credentials.ask import Ask, Way
from relay.credentials.base import Credential, Renewing
from relay.credentials.build import build
from relay.errors import CredentialUnavailable
from relay.transport.base import Transport

_log = structlog.get_logger("relay.credentials")

FIRST_WAIT_S = 5.0
"""How long a start, or a reload, waits for credentials that have nothing yet."""
FAULT_WAIT_S = 30.0
"""After a mistake of ours in a renewal."""
_SOONEST_S = 0.05
_NEARLY_S = 0.001
"""Timers are no finer: what is due so soon is due."""

OnSecret = Callable[[str, Sequence[str]], None]


@runtime_checkable
class Waking(Protocol):
    """A credential that can become due by something else than time."""

    on_due: Callable[[], None] | None


@dataclass(slots=True, eq=False)
class _Kept:
    """One credential of those that are kept."""

    credential: Credential
    way: Way
    owner: str
    """Stands for it where its secrets are known."""
    provider: str = ""
    """Of the first row that has it: for people."""
    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    """It has been fetched, or the first try has failed."""


class CredentialDesk:
    """Order: `of` for each row (a catalog does that), `start`; for another configuration `of`,
    `fetch`, `retain`; `aclose` before the transport's.

    Args:
        on_secret: told of a credential's secrets when it is made and after each renewal, with a
            word that stands for it: the last word on them counts.
        now_s: monotonic; the clock that credentials are asked by.
        wall_s: seconds since 1970.
        make_ask: how renewals ask; by default over the transport.
        is_quiet: write nothing to the log: for commands, whose users read `describe`.
    """

    def __init__(
        self,
        on_secret: OnSecret = lambda _owner, _values: None,
        *,
        now_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
        make_ask: Callable[[Transport, Way], Ask] | None = None,
        is_quiet: bool = False,
    ) -> None:
        self._on_secret = on_secret
        self._now_s = now_s
        self._is_quiet = is_quiet
        self._make_ask = make_ask or (lambda t, way: Ask(t, way, now_s=now_s, wall_s=wall_s))
        self._kept: dict[tuple[object, ...], _Kept] = {}
        self._transport: Transport | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._made = 0

    def of(self, row: ProviderConfig) -> Credential:
        """See `relay.credentials.base.Desk`. A file of keys or roots that holds something else than
        before makes another configuration."""
        key, way = _key_of(row)
        kept = self._kept.get(key)
        if kept is None:
            self._made += 1
            kept = self._kept[key] = _Kept(build(row), way, f"credential-{self._made}")
            self._on_secret(kept.owner, kept.credential.secrets())
        return kept.credential

    async def start(self, transport: Transport, wanted: Mapping[str, Credential]) -> None:
        """Begin to renew, over this transport, which stays its owner's; returns as `fetch` does.

        Args:
            wanted: by provider, as `of` gave them.
        """
        self._transport = transport
        await self.fetch(wanted)

    def lacks(self, wanted: Mapping[str, Credential]) -> bool:
        """Whether one of these has to be fetched and nobody has tried yet."""
        return any(not kept.tried.is_set() for kept in self._renewing(wanted))

    async def fetch(self, wanted: Mapping[str, Credential]) -> None:
        """Have these renewed from now on; return when each has been tried once, but after
        `FIRST_WAIT_S` at most: one that cannot be had holds up nobody. Raises nothing.

        Cancelled: they are kept all the same.
        """
        kept = self._renewing(wanted)
        for one in kept:
            self._begin(one)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WAIT_S):
                for one in kept:  # in turn: the last to come is what is waited for
                    await one.tried.wait()

    def retain(self, wanted: Mapping[str, Credential]) -> None:
        """Keep these alone. Whoever still holds another has it to its end."""
        stay = {id(credential) for credential in wanted.values()}
        for key, kept in list(self._kept.items()):
            if id(kept.credential) in stay:
                continue
            del self._kept[key]
            if kept.task is not None:
                kept.task.cancel()
                self._leaving.add(kept.task)
                kept.task.add_done_callback(self._leaving.discard)
        for kept in self._renewing(wanted):
            self._begin(kept)

    async def aclose(self) -> None:
        """End all renewals. Idempotent; bounded by what a cancelled request takes."""
        tasks = [kept.task for kept in self._kept.values() if kept.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._leaving, return_exceptions=True)

    # --- one credential -----------------------------------------------------------------------

    def _renewing(self, wanted: Mapping[str, Credential]) -> list[_Kept]:
        """Those that must be fetched, each once."""
        by_id = {id(kept.credential): kept for kept in self._kept.values()}
        found: dict[int, _Kept] = {}
        for provider, credential in wanted.items():
            kept = by_id.get(id(credential))
            if kept is not None and isinstance(credential, Renewing):
                kept.provider = kept.provider or provider
                found[id(credential)] = kept
        return list(found.values())

    def _begin(self, kept: _Kept) -> None:
        if kept.task is not None or self._transport is None:
            return
        credential = kept.credential
        assert isinstance(credential, Renewing)  # noqa: S101 - as `_renewing` chose it
        if isinstance(credential, Waking):
            credential.on_due = kept.wake.set
        ask = self._make_ask(self._transport, kept.way)
        kept.task = asyncio.get_running_loop().create_task(
            self._run(kept, credential, ask), name=f"renew {kept.provider}"
        )

    async def _run(self, kept: _Kept, credential: Renewing, ask: Ask) -> None:
        """Renew it whenever it is due, until cancelled."""
        while True:
            wait_s = credential.due_s(self._now_s())
            if wait_s > _NEARLY_S:
                kept.wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await kept.wake.wait()
                continue
            await self._renew(kept, credential, ask)
            kept.tried.set()
            if credential.due_s(self._now_s()) <= _NEARLY_S:
                await asyncio.sleep(_SOONEST_S)

    async def _renew(self, kept: _Kept, credential: Renewing, ask: Ask) -> None:
        says = {"provider": kept.provider, "kind": credential.kind}
        try:
            await credential.renew(ask)
        except CredentialUnavailable as error:
            now_s = self._now_s()
            self._tell(
                "warning",
                "credential_not_renewed",
                **says,
                why=error.public_message,
                usable=credential.wait_s(now_s) == 0,
                next_try_s=round(credential.due_s(now_s), 1),
            )
        except Exception as error:  # noqa: BLE001 - it must not end the renewals to come
            # Its text may hold what it was fetched with.
            self._tell("error", "credential_renewal_failed", **says, error=type(error).__name__)
            kept.tried.set()
            await asyncio.sleep(FAULT_WAIT_S)
        else:
            state = credential.describe(self._now_s())
            ends_s = state.expires_in_s
            self._tell(
                "info",
                "credential_renewed",
                **says,
                source=state.source,
                expires_in_s=None if ends_s is None else round(ends_s),
            )
        # Also of one that was not given: a file that was read anew holds secrets.
        self._on_secret(kept.owner, credential.secrets())

    def _tell(self, level: str, event: str, **fields: Any) -> None:
        if not self._is_quiet:
            getattr(_log, level)(event, **fields)


def _key_of(row: ProviderConfig) -> tuple[tuple[object, ...], Way]:
    config = row.credentials
    path = None
    if isinstance(config, GoogleConfig):
        path = config.file
    elif isinstance(config, AzureEntraConfig):
        path = config.certificate_file
    proxy = None if row.egress_proxy is None else ProxyUrl(row.egress_proxy.get_secret_value())
    way = Way(proxy, row.ca_file, digest_of(row.ca_file), row.allow_private)
    return (config, digest_of(path), row.auth, row.region, way), way
