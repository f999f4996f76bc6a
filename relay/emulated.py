"""A relay with no provider keys: the built-in emulator as a child process, and a configuration
that points every well-known wire at it.

The child reads from a pipe that we hold: when this process is gone, however it went, the pipe
closes and the emulator ends with it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config import Config, ConfigError, parse

READY_TIMEOUT_S = 20.0
MODELS = ("emu-fast", "emu-slow", "emu-tools")


@dataclass(slots=True)
class Emulator:
    """A running emulator. `aclose` ends it."""

    process: asyncio.subprocess.Process
    directory: tempfile.TemporaryDirectory[str]
    tls_port: int
    ca_file: str

    async def aclose(self) -> None:
        """End the process and remove its certificates. Idempotent, bounded."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 5.0)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        self.directory.cleanup()


async def start_emulator(models: Mapping[str, Mapping[str, object]] | None = None) -> Emulator:
    """Start the emulator on free ports of this machine.

    Args:
        models: further behaviours by model name, as the emulator's own configuration takes them.

    Raises:
        ConfigError: it did not come up.
    """
    directory = tempfile.TemporaryDirectory(prefix="rtrelay-emulator-")
    settings = Path(directory.name) / "emulator.yaml"
    settings.write_text(json.dumps({"models": dict(models or {})}), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay.emulator",
        "--exit-with-parent",
        "--config",
        str(settings),
        "--port",
        "0",
        "--cert-dir",
        directory.name,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdout is None:
        raise ConfigError("the emulator has no output")
    try:
        line = await asyncio.wait_for(process.stdout.readline(), READY_TIMEOUT_S)
        ready = json.loads(line)
    except (TimeoutError, ValueError):
        process.kill()
        await process.wait()
        directory.cleanup()
        raise ConfigError("the built-in emulator did not start") from None
    return Emulator(process, directory, int(ready["tls_port"]), str(ready["ca_file"]))


def emulated_config(tls_port: int, ca_file: str, **server: Any) -> Config:
    """Two emulated providers, and aliases over them."""
    origin = f"https://127.0.0.1:{tls_port}"
    row = {
        "wire": "openai_chat",
        "base_url": f"{origin}/v1",
        "ca_file": str(Path(ca_file)),
        "auth": "none",
    }
    document: dict[str, Any] = {
        "providers": {
            "emulator": {**row, "models": list(MODELS)},
            "emulator-b": {**row, "models": [], "warm_connections": 1},
        },
        "models": {
            "fast": {
                "candidates": [{"provider": "emulator", "model": "emu-fast"}],
                "fallbacks": [{"provider": "emulator-b", "model": "emu-slow"}],
            },
            "demo": {"candidates": [{"provider": "emulator", "model": "emu-fast"}]},
        },
    }
    if server:
        document["server"] = server
    return parse(document)
