"""The way to the relay: one session of the client's, opened when it is first needed.

The seam is small so that another way (an RPC a generation) can be measured against it:
`tests/frameworks/bench_livekit.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rtrelay.client import Client
from rtrelay.errors import RelayError
from rtrelay.events import Event
from rtrelay.session import Session
from rtrelay.v1 import CancelReason, End


class Call(Protocol):
    """One generation; `rtrelay.Generation` is one."""

    @property
    def error(self) -> Exception | None:
        """The RelayError that it failed with, if it did."""

    def cancel(self, reason: CancelReason.ValueType = ...) -> None: ...

    def commit(self) -> None: ...

    async def ended(self) -> End:
        """Wait for the end: completed, cancelled or failed.

        Raises:
            RelayError: there is no end.
        """


class Transport(Protocol):
    """Starts generations."""

    def start(
        self,
        body: Mapping[str, Any],
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], object],
    ) -> Call:
        """Start one; it is on its way when this returns.

        Args:
            body: of a chat completion.
            arguments: of `Session.start`.
            on_event: called with each event, in the loop; never after a cancel.
        """

    async def open(self) -> None:
        """Have a connection before the first start.

        Raises:
            RelayError: there is none to be had; a later start tries again.
        """

    async def aclose(self) -> None:
        """Cancel what runs and close what was opened. Idempotent."""


class SessionTransport:
    """All generations over one session."""

    def __init__(
        self, make_client: Callable[[], Client], *, owns_client: bool, session: Mapping[str, Any]
    ) -> None:
        """
        Args:
            make_client: called once, in the loop that the first generation is started in.
            owns_client: whether it is closed with this.
            session: arguments of `Client.session`.
        """
        self._make_client = make_client
        self._owns_client = owns_client
        self._arguments = session
        self._client: Client | None = None
        self._session: Session | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def start(
        self,
        body: Mapping[str, Any],
        arguments: Mapping[str, Any],
        on_event: Callable[[Event], object],
    ) -> Call:
        """
        Raises:
            RuntimeError: it is closed, or is used by another event loop.
        """
        return self._open_session().start(body, **arguments, on_event=on_event)

    async def open(self) -> None:
        session = self._open_session()
        try:
            await session.__aenter__()
        except RelayError:
            if self._session is session:  # which has closed itself
                self._session = None
            raise

    async def aclose(self) -> None:
        self._is_closed = True
        session, client = self._session, self._client
        self._session = self._client = None
        try:
            if session is not None:
                await session.aclose()
        finally:
            if client is not None and self._owns_client:
                await client.aclose()

    def _open_session(self) -> Session:
        if self._is_closed:
            raise RuntimeError("the LLM is closed")
        loop = asyncio.get_running_loop()
        if self._session is None:
            if self._client is None:
                self._client = self._make_client()
            self._session = self._client.session(**self._arguments)
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError("an LLM belongs to one event loop; make one for each")
        return self._session
