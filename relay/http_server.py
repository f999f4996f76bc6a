"""An HTTP listener in a loop that others own: the shim and the admin port of a worker, the admin
port of a supervisor.

uvicorn's `Server.serve` without signals and loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from functools import partial
from typing import Any, Self, cast

import uvicorn

from relay.config import Listener
from relay.frontends.address_bound import AddressBound
from relay.frontends.asgi import Early
from relay.frontends.http_protocol import BoundedHttpProtocol
from relay.tls.door import Door

STOP_GRACE_S = 1.0
"""For the last bytes of a listener's connections once no generation runs."""


class StartError(Exception):
    """It cannot start; the message says what is in the way."""


class _Uvicorn(uvicorn.Server):
    """uvicorn without signal handlers, which the process has, without its ten looks a second at
    whether to end (`close` tells it), and with limits of time for TLS."""

    def __init__(self, config: uvicorn.Config, door: Door | None, slow_consumer_s: float) -> None:
        super().__init__(config)
        self._door = door
        self._slow_consumer_s = slow_consumer_s
        self._closing = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._door is None:
            await super().startup(sockets)
            return
        loop, door = asyncio.get_running_loop(), self._door
        protocol = partial(
            cast(Any, self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        self.servers = [
            await loop.create_server(
                protocol,
                sock=each,
                ssl=door.context,
                backlog=self.config.backlog,
                ssl_handshake_timeout=door.settings.handshake_timeout_ms / 1000,
                # For what a slow client has not taken yet, and its own goodbye.
                ssl_shutdown_timeout=self._slow_consumer_s,
            )
            for each in sockets or ()
        ]
        self.started = True

    def close(self) -> None:
        """Stop serving; `serve` then returns."""
        self.should_exit = True
        self._closing.set()

    async def main_loop(self) -> None:
        await self._closing.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """One listener; `start` makes it, `aclose` ends it."""

    def __init__(self, server: _Uvicorn, task: asyncio.Task[None], port: int) -> None:
        self._server = server
        self._task: asyncio.Task[None] | None = task
        self.port = port

    @classmethod
    async def start(
        cls,
        listener: Listener,
        app: Any,
        name: str,
        *,
        slow_consumer_s: float,
        reuse_port: bool = False,
        door: Door | None = None,
        early: Early | None = None,
        addresses: AddressBound | None = None,
    ) -> Self:
        """Returns when requests are served.

        Args:
            app: an ASGI application.
            name: of the listener in the configuration.
            slow_consumer_s: after so long a client that reads nothing is let go.
            reuse_port: other processes of ours listen there too.
            door: its TLS; None for plain text.
            early: answers in the application's place, by heads alone.
            addresses: bounds the connections of each.

        Raises:
            StartError: the address is taken or is not ours.

        Cancelled: nothing listens any more.
        """
        listening = listen(listener, name, reuse_port=reuse_port)
        protocol = partial(
            BoundedHttpProtocol,
            slow_consumer_s=slow_consumer_s,
            early=early,
            addresses=addresses,
        )
        server = _Uvicorn(
            uvicorn.Config(
                app,
                http=cast(Any, protocol),
                ws="none",
                loop="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=round(STOP_GRACE_S),
            ),
            door,
            slow_consumer_s,
        )
        task = asyncio.create_task(server.serve(sockets=[listening]), name=f"{name} listener")
        port: int = listening.getsockname()[1]
        made = cls(server, task, port)
        try:
            while not server.started:
                if task.done():
                    break
                await asyncio.sleep(0.005)
        except BaseException:
            await made.aclose()
            raise
        if task.done():
            await task
            raise StartError(f"the {name} listener stopped at once")
        return made

    @property
    def connections(self) -> set[Any]:
        """Those that are open now (uvicorn's protocols)."""
        return self._server.server_state.connections

    def close(self) -> None:
        """Take no connection any more; never waits."""
        self._server.close()

    async def aclose(self) -> None:
        """Let connections end, for a moment, and close. Idempotent; bounded in time."""
        task, self._task = self._task, None
        if task is None:
            return
        self._server.close()
        await asyncio.wait({task}, timeout=2 * STOP_GRACE_S + 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def refuse_taken(listener: Listener, name: str) -> None:
    """Try whether a listener's address can be had, by ourselves alone.

    Raises:
        StartError: it is taken or is not ours.
    """
    _bind(listener, name, reuse_port=False).close()


def listen(listener: Listener, name: str, *, reuse_port: bool) -> socket.socket:
    """
    Raises:
        StartError: the address is taken or is not ours.
    """
    listening = _bind(listener, name, reuse_port=reuse_port)
    try:
        listening.listen(2048)
    except OSError as error:  # another was faster between bind and here
        listening.close()
        raise _cannot_listen(listener, name, error) from error
    listening.setblocking(False)
    return listening


def _bind(listener: Listener, name: str, *, reuse_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY only on such sockets, and without it the
    # last frame of an answer waits 40 ms for a delayed ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((listener.host, listener.port))
    except OSError as error:
        bound.close()
        raise _cannot_listen(listener, name, error) from error
    return bound


def _cannot_listen(listener: Listener, name: str, error: OSError) -> StartError:
    return StartError(f"cannot listen on {listener.address} (server.{name}): {error.strerror}")
