"""`relay serve`: where the configuration comes from, one worker or several, and what is announced.

With a file, its configuration; else providers from well-known keys in the environment; else the
built-in emulator, started as a child, so that a newcomer has something to talk to. It says which.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import structlog

from relay.config import Config, ConfigError, from_environment, load, unspoken_keys
from relay.emulated import Emulator, emulated_config, start_emulator
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

    Raises:
        ConfigError: there is no usable configuration.
    """
    emulator: Emulator | None = None
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
            config = emulated_config(emulator.tls_port, emulator.ca_file)
            source = "no provider keys are set: the built-in emulator answers, not a model"
    unspoken = unspoken_keys(os.environ) if path is None else []
    for warning in [*config.warnings(), *unspoken]:
        _log.warning("config", warning=warning)
    try:
        server = Worker(config, reload_config=reload_config, worker=worker)
        try:
            await server.start()
        except StartError as error:
            await server.aclose()
            raise ConfigError(str(error)) from error
        settle_memory()
        if announce is not None:
            announce(_welcome(server, config, source))
        await server.serve_until_stopped()
    finally:
        if emulator is not None:
            await emulator.aclose()
    return 0


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
