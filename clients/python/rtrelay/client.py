"""The channels to one relay or several, and the sessions over them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc
import grpc.aio

from rtrelay._arguments import (
    addresses_of,
    callback,
    checked_credentials,
    checked_options,
    checked_provider,
    duration,
    is_unix,
    key_metadata,
    made,
)
from rtrelay._channels import Channels
from rtrelay._standby import Standby
from rtrelay._switchboard import Reconnect, Switchboard
from rtrelay.errors import RelayError, from_rpc
from rtrelay.session import Generation, Input, Session
from rtrelay.stats import Counts, PathChange, Stats
from rtrelay.v1 import (
    Budgets,
    FeedbackRequest,
    Prompt,
    PromptCache,
    RelayServiceStub,
    Setup,
)

if TYPE_CHECKING:
    from rtrelay.direct import Provider

CHANNEL_OPTIONS: Mapping[str, int] = {
    "grpc.keepalive_time_ms": 20_000,
    "grpc.keepalive_timeout_ms": 5_000,
    # Which grpcio 1.85 goes by instead: a minute, if it is not set.
    "grpc.http2.ping_timeout_ms": 5_000,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.http2.max_pings_without_data": 0,
    # A relay is on this machine or network; gRPC would obey `http_proxy`.
    "grpc.enable_http_proxy": 0,
    # How often an address is tried is for the session to say, within `Reconnect`. While gRPC itself
    # pauses, a try fails without looking at the address.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 100,
    "grpc.max_reconnect_backoff_ms": 100,
    # Connections end with their client.
    "grpc.use_local_subchannel_pool": 1,
}
"""The README of the package says why."""


_ANOTHER_MAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""Answers of a relay after which another one is asked."""


class Client:
    """One channel to each relay (a second one while it drains); make one per process and keep it.

    Use it in `async with`. Nothing is opened before the first session; leaving closes the sessions
    that are still open and all channels.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        key: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        model: str = "",
        budgets: Budgets | None = None,
        labels: Mapping[str, str] | None = None,
        prompt_cache: PromptCache.ValueType = PromptCache.PROMPT_CACHE_UNSPECIFIED,
        client_name: str = "rtrelay-python",
        client_version: str = "",
        reconnect: Reconnect | None = None,
        channel_options: Mapping[str, int | str] | None = None,
        direct: Provider | None = None,
        direct_after_ms: float = 150,
        direct_return_ms: float = 3000,
        on_path_change: Callable[[PathChange], object] | None = None,
    ) -> None:
        """
        Args:
            addresses: `host:port` or `unix:/path`, in the order in which they are tried.
            key: sent with each call as `authorization: Bearer KEY`; over a network use TLS.
            credentials: of TLS (`grpc.ssl_channel_credentials()`); plain text without. Unix
                sockets are always plain.
            model: of starts that name none, and so are the next three: fields of `Setup`.
            client_name: for the relay's logs and metrics.
            reconnect: how streams are opened; None for the defaults.
            channel_options: added to `CHANNEL_OPTIONS`, over which they win.
            direct: asked while no relay answers, see `rtrelay.direct`. The client keeps it warm
                from its first session on, and closes it with itself.
            direct_after_ms: how long a relay may take to say that it has a generation, before
                `direct` is asked; the same again where a stream breaks before the first output.
            direct_return_ms: once a relay is back, the sessions return to it at a moment drawn from
                so long.
            on_path_change: called in the loop when a session leaves the relay, and when it returns.

        Raises:
            TypeError, ValueError: an argument cannot be right; the error names it.
        """
        self._addresses = addresses_of(addresses)
        self._metadata = key_metadata(key)
        self._credentials = checked_credentials(credentials)
        self._defaults = made(
            Setup,
            client_name=client_name,
            client_version=client_version,
            model=model,
            budgets=budgets,
            labels=labels,
            prompt_cache=prompt_cache,
        )
        self._reconnect = reconnect or Reconnect()
        self._options = checked_options({**CHANNEL_OPTIONS, **(channel_options or {})})
        self._channels = Channels(self._make_channel)
        self._counts = Counts()
        callback("on_path_change", on_path_change)
        duration("direct_after_ms", direct_after_ms)
        duration("direct_return_ms", direct_return_ms)
        self._standby: Standby | None = None
        if direct is not None:
            self._standby = Standby(
                checked_provider(direct),
                self._counts,
                after_s=direct_after_ms / 1e3,
                return_within_s=direct_return_ms / 1e3,
                on_path_change=on_path_change,
            )
        self._shared: list[Session] = []
        self._sessions: set[Session] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else f"{len(self._sessions)} sessions"
        return f"<Client of {', '.join(self._addresses)}: {state}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close sessions and channels. Idempotent. If it is cancelled here, channels are closed
        nevertheless."""
        self._is_closed = True
        sessions = list(self._sessions)
        try:
            await asyncio.gather(*(session.aclose() for session in sessions))
        finally:
            try:
                if self._standby is not None:
                    await self._standby.aclose()
            finally:
                await self._channels.aclose()

    async def open(self) -> None:
        """Have the session that `generate` uses ready, so that the first answer waits for nothing.

        Raises:
            RelayError: no address gave a stream. Nothing is left open then.
            RuntimeError: the client is closed, or belongs to another event loop.
        """
        self._shared.append(await self.session().__aenter__())

    @property
    def stats(self) -> Stats:
        """Which ways the generations of all sessions went so far."""
        return self._counts.look()

    def generate(self, prompt: Input, **options: Any) -> Generation:
        """One answer, over a session that the client keeps for those who want none of their own, or
        another one where the relay's limit of generations at once is reached.

        Args:
            options: those of `Session.start`.

        Raises:
            RuntimeError: the client is closed.
            TypeError, ValueError: an argument cannot be right; the error names it.
        """
        shared = next((one for one in self._shared if one.has_room), None)
        if shared is None:
            self._shared = [one for one in self._shared if not one.is_closed]
            shared = self.session()
            self._shared.append(shared)
        return shared.start(prompt, **options)

    def session(
        self,
        *,
        model: str = "",
        budgets: Budgets | None = None,
        labels: Mapping[str, str] | None = None,
        prompt_cache: PromptCache.ValueType = PromptCache.PROMPT_CACHE_UNSPECIFIED,
        prewarm_prompt: Prompt | None = None,
    ) -> Session:
        """A session, to be used in `async with`. What is given goes over the client's defaults:
        labels are added, budgets merged field by field.

        Raises:
            RuntimeError: the client is closed.
            TypeError, ValueError: an argument cannot be right; the error names it.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        setup = Setup()
        setup.CopyFrom(self._defaults)
        setup.MergeFrom(
            made(
                Setup,
                model=model,
                budgets=budgets,
                labels=labels,
                prompt_cache=prompt_cache,
                prewarm_prompt=prewarm_prompt,
            )
        )
        switchboard = Switchboard(
            self._addresses,
            self._channels,
            setup,
            self._metadata,
            self._reconnect,
            self._counts,
            self._standby,
        )
        session = Session(switchboard, on_closed=self._sessions.discard)
        self._sessions.add(session)
        return session

    async def feedback(
        self,
        request_id: str,
        *,
        score: float | None = None,
        label: str = "",
        comment: str = "",
        timeout_s: float = 5.0,
    ) -> bool:
        """Say how good an answer was. Relays are asked in their order, until one takes it.

        Args:
            request_id: of the answer's end (`End.request_id`).
            score: from 0 to 1; this or `label` is needed.
            timeout_s: for each relay.

        Returns:
            Whether it counts for an experiment.

        Raises:
            RelayError: no relay took it; the last one's word.
            RuntimeError: the client is closed, or belongs to another event loop.

        Cancelled: it may have been taken.
        """
        if self._is_closed:
            raise RuntimeError("the client is closed")
        self._channels.check_loop()
        word = FeedbackRequest(request_id=request_id, label=label, comment=comment)
        if score is not None:
            word.score = score
        failure: RelayError | None = None
        for address in self._addresses:
            channel = self._channels.acquire(address)
            try:
                stub: Any = RelayServiceStub(channel)
                taken = await stub.Feedback(word, timeout=timeout_s, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                failure = from_rpc(error)
                if error.code() not in _ANOTHER_MAY:
                    break
            else:
                return bool(taken.counts_for_experiment)
            finally:
                await self._channels.release(channel)
        if failure is None:
            raise RuntimeError("a client has an address at least")
        raise failure

    def _make_channel(self, address: str) -> grpc.aio.Channel:
        if self._credentials is None or is_unix(address):
            return grpc.aio.insecure_channel(address, options=self._options)
        return grpc.aio.secure_channel(address, self._credentials, options=self._options)
