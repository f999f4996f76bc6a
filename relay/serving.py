"""`relay serve`: where the configuration comes from, one worker or several, and what is announced.

With a file, its configuration; else providers from well-known keys in the environment; else the
built-in emulator, started as a child, so that a newcomer has something to talk to. It says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Self

import structlog

from relay.config import Config, ConfigError, from_environment, load, unspoken_keys
from relay.emulated import emulated_config, start_emulator
from relay.server import StartError, Worker

_log = structlog.get_logger("relay.serving")

Announce = Callable[[list[str]], None]


async def run_worker(
    path: Path | None, *, announce: Announce | None, worker: int | None = None
) -> int:
    """Serve in this process until stopped; returns its exit status.

    Args:
        announce: shows lines to the person who started it; None in a supervised worker.
        worker: number of a supervised worker, which shares its ports; None if it is alone.

    SIGTERM or SIGINT before it serves ends it as one after does: status 0, nothing left behind.

    Raises:
        ConfigError: there is no usable configuration.

    Cancelled: listeners, upstream connections and the emulator are closed first.
    """
    with _Signals() as signals:
        async with contextlib.AsyncExitStack() as stack:
            try:
                server, lines = await _start(stack, path, worker)
            except asyncio.CancelledError:
                if not signals.is_stop_asked:
                    raise
            if signals.is_stop_asked:  # asked too, though the cancel came too late to be seen
                _log.info("stopped_while_starting")
                return 0
            if announce is not None:
                announce(lines)
            signals.hand_over()
            await server.serve_until_stopped()
            signals.take_back()
    return 0


async def _start(
    stack: contextlib.AsyncExitStack, path: Path | None, worker: int | None
) -> tuple[Worker, list[str]]:
    """A worker that serves, and what to tell the person who started it; `stack` closes it all."""
    reload_config: Callable[[], Config] | None = None
    if path is not None:
        config = load(path)
        source = f"configuration {path.name}"
        reload_config = _loader(path)
    else:
        from_keys = from_environment(os.environ)
        if from_keys is not None:
            config = from_keys
            source = f"provider keys in the environment: {', '.join(config.providers)}"
        else:
            emulator = await start_emulator()
            stack.push_async_callback(emulator.aclose)
            config = emulated_config(emulator.tls_port, emulator.ca_file)
            source = "no provider keys are set: the built-in emulator answers, not a model"
    unspoken = unspoken_keys(os.environ) if path is None else []
    for warning in [*config.warnings(), *unspoken]:
        _log.warning("config", warning=warning)
    server = Worker(config, reload_config=reload_config, worker=worker)
    stack.push_async_callback(server.aclose)
    try:
        await server.start()
    except StartError as error:
        raise ConfigError(str(error)) from error
    settle_memory()
    return server, _welcome(server, config, source)


class _Signals:
    """SIGTERM, SIGINT and SIGHUP for as long as the worker does not listen to them itself.

    Without it, one that comes while we start would kill the process and leave behind what was
    made so far, and one that comes while the emulator is being closed would cut that short.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._hup_before = signal.getsignal(signal.SIGHUP) or signal.SIG_DFL
        self._wants_reload = False
        self.is_stop_asked = False

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)
        signal.signal(signal.SIGHUP, self._hup_before)  # ignored: we are about to end

    def _listen(self) -> None:
        self._loop.add_signal_handler(signal.SIGTERM, self._stop)
        self._loop.add_signal_handler(signal.SIGINT, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def hand_over(self) -> None:
        """The worker takes the signals next, before anything is awaited: no handler is removed,
        so that there is no moment without one."""
        self._task = None
        if self._wants_reload:
            self._loop.call_soon(signal.raise_signal, signal.SIGHUP)

    def take_back(self) -> None:
        """The worker has stopped; what is left to close is closed whatever comes."""
        self._listen()

    def _stop(self) -> None:
        if self._task is not None and not self.is_stop_asked:
            self.is_stop_asked = True
            self._task.cancel()

    def _reload(self) -> None:
        self._wants_reload = True


def settle_memory() -> None:
    """Keep the garbage collector off the hot path: a setting of the process, made once it serves.

    What the start allocated stays for ever, so it is not looked at again; and a young collection
    every 700 allocations is several a request for nothing, since a request leaves no cycles. The
    old generation is still collected, over what requests have left.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _loader(path: Path) -> Callable[[], Config]:
    return lambda: load(path)


def _welcome(worker: Worker, config: Config, source: str) -> list[str]:
    host = config.server.http.host
    model = next(iter([*config.models, *worker.services.catalog.names()]), "MODEL")
    return [
        f"rtrelay serves ({source})",
        f"  gRPC   {config.server.grpc.host}:{worker.grpc_port}",
        f"  HTTP   http://{host}:{worker.http_port}/v1   (OpenAI-compatible)",
        f"  admin  http://{config.server.admin.host}:{worker.admin_port}",
        "try:",
        f"  curl -N http://{host}:{worker.http_port}/v1/chat/completions"
        " -H 'content-type: application/json' -d"
        f' \'{{"model": "{model}", "stream": true, "messages":'
        ' [{"role": "user", "content": "Hello!"}]}\'',
    ]
