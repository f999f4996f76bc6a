"""`relay serve`: where the configuration comes from, one worker or several, and what is announced.

With a file, its configuration; else providers from well-known keys in the environment; else the
built-in emulator, started as a child, so that a newcomer has something to talk to. It says which.
Several workers all ask the same: one file, the same keys, or one emulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import structlog

from relay import logs
from relay.admin_port import AdminPort
from relay.auditing import secrets_of
from relay.config import Config, ConfigError, from_environment, load, unspoken_keys
from relay.config_warnings import warnings
from relay.emulated import Emulator, emulated_config, start_emulator, why_emulated
from relay.http_server import StartError, refuse_taken
from relay.notify import Notifier
from relay.server import Worker
from relay.supervisor import Supervisor
from relay.workers.link import SupervisorLink

_log = structlog.get_logger("relay.serving")

Announce = Callable[[list[str]], None]


async def run_worker(
    path: Path | None,
    *,
    announce: Announce | None,
    worker: int | None = None,
    workers: int = 1,
    pipe: socket.socket | None = None,
) -> int:
    """Serve in this process until stopped; returns its exit status.

    Args:
        announce: shows lines to the person who started it; None in a supervised worker.
        worker: number of a supervised worker, which shares its ports; None if it is alone.
        workers: how many share this machine's memory.
        pipe: to the supervisor; closed at the end.

    SIGTERM or SIGINT before it serves ends it as one after does: status 0, nothing left behind.

    Raises:
        ConfigError: there is no usable configuration.

    Cancelled: listeners, upstream connections and the emulator are closed first.
    """
    with _Signals() as signals:
        async with contextlib.AsyncExitStack() as stack:
            try:
                link = None
                if pipe is not None:
                    link = await SupervisorLink.connect(pipe)
                    stack.push_async_callback(link.aclose)
                server, lines = await _start(stack, path, worker, link, workers)
            except asyncio.CancelledError:
                if not signals.is_stop_asked:
                    raise
            if signals.is_stop_asked:  # asked too, though the cancel came too late to be seen
                _log.info("stopped_while_starting")
                return 0
            if announce is not None:
                announce(lines)
                notifier = Notifier(os.environ)
                stack.push_async_callback(notifier.aclose)
                server.on_stop = notifier.stopping
                notifier.ready()
            signals.hand_over()
            await server.serve_until_stopped()
            signals.take_back()
    return 0


async def run_workers(path: Path | None, count: int, *, announce: Announce) -> int:
    """Serve in several processes on the same ports until stopped; returns the exit status.

    Signals are taken as by `run_worker`.

    Raises:
        ConfigError: there is no usable configuration, a port is taken or is 0 (workers could not
            share it), or no worker would start with it.

    Cancelled: the workers are told to drain and are not waited for; the emulator is closed first.
    """
    with _Signals() as signals:
        async with contextlib.AsyncExitStack() as stack:
            try:
                supervisor, lines = await _start_supervisor(stack, path, count)
            except asyncio.CancelledError:
                if not signals.is_stop_asked:
                    raise
            if signals.is_stop_asked:
                _log.info("stopped_while_starting")
                return 0
            announce(lines)
            notifier = Notifier(os.environ)
            stack.push_async_callback(notifier.aclose)
            supervisor.on_ready, supervisor.on_stop = notifier.ready, notifier.stopping
            signals.hand_over()
            is_served = await supervisor.run()
            signals.take_back()
    return 0 if is_served else 1


async def _start_supervisor(
    stack: contextlib.AsyncExitStack, path: Path | None, count: int
) -> tuple[Supervisor, list[str]]:
    """A supervisor whose admin port is served, and what to tell the person who started it; `stack`
    closes it all.

    Raises:
        ConfigError: see `run_workers`.
    """
    found = await _find(stack, path)
    config, server = found.config, found.config.server
    logs.hide_with(secrets_of(config).hide)
    if 0 in (server.grpc.port, server.http.port):
        raise ConfigError("--workers needs fixed ports")
    if config.exposed:  # else one worker after another would die of it
        raise ConfigError("\n".join(config.exposed))
    if found.emulator is not None:
        path = found.emulator.config_file()
    supervisor = Supervisor(path, count, hang_limit_s=server.worker_hang_ms / 1000)
    try:  # and workers would share a port with whoever else shares it
        for name, listener in server.listeners.items():
            refuse_taken(listener, name)
        admin = await AdminPort.open(config, path, supervisor)
    except StartError as error:
        raise ConfigError(str(error)) from error
    stack.push_async_callback(admin.aclose)
    return supervisor, [
        f"rtrelay starts {count} workers ({found.source})",
        f"  gRPC   {server.grpc.address}{_with_tls(config, 'grpc')}",
        f"  HTTP   {_scheme(config, 'http')}://{server.http.address}/v1   (OpenAI-compatible)",
        f"  admin  {_scheme(config, 'admin')}://{server.admin.host}:{admin.number}"
        "   (of all workers; /dashboard)",
    ]


class _Found(NamedTuple):
    """A configuration and where it comes from."""

    config: Config
    source: str
    emulator: Emulator | None = None


async def _find(stack: contextlib.AsyncExitStack, path: Path | None) -> _Found:
    """The file, the keys in the environment, or the emulator, which `stack` then closes.

    Raises:
        ConfigError: there is no usable one.
    """
    if path is not None:
        return _Found(load(path), f"configuration {path.name}")
    from_keys = from_environment(os.environ)
    if from_keys is not None:
        names = ", ".join(from_keys.providers)
        return _Found(from_keys, f"provider keys in the environment: {names}")
    emulator = await start_emulator()
    stack.push_async_callback(emulator.aclose)
    return _Found(
        emulated_config(emulator.tls_port, emulator.ca_file),
        why_emulated(os.environ),
        emulator,
    )


async def _start(
    stack: contextlib.AsyncExitStack,
    path: Path | None,
    worker: int | None,
    link: SupervisorLink | None,
    workers: int,
) -> tuple[Worker, list[str]]:
    """A worker that serves, and what to tell the person who started it; `stack` closes it all."""
    config, source, _ = await _find(stack, path)
    unspoken = unspoken_keys(os.environ) if path is None else []
    for warning in [*warnings(config), *unspoken]:
        _log.warning("config", warning=warning)
    reload_config = None if path is None else _loader(path)
    server = Worker(config, reload_config=reload_config, worker=worker, link=link, workers=workers)
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


def _scheme(config: Config, name: str) -> str:
    return "http" if config.tls_of(name) is None else "https"


def _with_tls(config: Config, name: str) -> str:
    """Beside an address; nothing where it is plain."""
    tls = config.tls_of(name)
    if tls is None:
        return ""
    return "   (mTLS)" if tls.requires_clients else "   (TLS)"


def _welcome(worker: Worker, config: Config, source: str) -> list[str]:
    host = config.server.http.host
    names = worker.services.catalog.names()
    model = names[0] if names else f"{next(iter(config.providers), 'PROVIDER')}/MODEL"
    scheme, tls = _scheme(config, "http"), config.tls_of("http")
    trust = "" if tls is None else " --cacert CA.pem"
    if tls is not None and tls.requires_clients:
        trust += " --cert CLIENT.pem --key CLIENT-KEY.pem"
    key = " -H 'authorization: Bearer rtk_...'" if config.has_keys else ""
    lines = [
        f"rtrelay serves ({source})",
        f"  gRPC   {config.server.grpc.host}:{worker.grpc_port}{_with_tls(config, 'grpc')}",
        f"  HTTP   {scheme}://{host}:{worker.http_port}/v1   (OpenAI-compatible)",
        f"  admin  {_scheme(config, 'admin')}://{config.server.admin.host}:{worker.admin_port}"
        "   (/dashboard)",
        "try:",
        f"  curl -N{trust} {scheme}://{host}:{worker.http_port}/v1/chat/completions"
        f"{key} -H 'content-type: application/json' -d"
        f' \'{{"model": "{model}", "stream": true, "messages":'
        ' [{"role": "user", "content": "Hello!"}]}\'',
    ]
    if not names:
        lines.append("  with the provider's own name of a model for MODEL: there is no alias, and")
        lines.append("  no row that lists models")
    return lines
