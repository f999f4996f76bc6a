"""A relay with no provider keys: the built-in emulator as a child process, and a configuration
that points every well-known wire at it.

The child reads from a pipe that we hold: when this process is gone, however it went, the pipe
closes and the emulator ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from relay.config import Config, ConfigError, key_variables, parse, unspoken_keys

READY_TIMEOUT_S = 20.0
MODELS = ("emu-fast", "emu-slow", "emu-tools")


@dataclass(slots=True)
class Emulator:
    """A running emulator. `aclose` ends it."""

    process: asyncio.subprocess.Process
    directory: tempfile.TemporaryDirectory[str]
    tls_port: int
    ca_file: str

    def config_file(self) -> Path:
        """`emulated_config` as a file beside its certificates, for worker processes."""
        path = Path(self.directory.name) / "relay.yaml"
        document = _document(self.tls_port, self.ca_file)
        path.write_text(json.dumps(document), encoding="utf-8")  # which is YAML too
        return path

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

    Cancelled: the child is killed and its directory removed. The caller closes what is returned.
    """
    directory = tempfile.TemporaryDirectory(prefix="rtrelay-emulator-")
    try:
        return await _start_in(directory, models or {})
    except BaseException:
        directory.cleanup()
        raise


async def _start_in(
    directory: tempfile.TemporaryDirectory[str], models: Mapping[str, Mapping[str, object]]
) -> Emulator:
    settings = Path(directory.name) / "emulator.yaml"
    settings.write_text(json.dumps({"models": dict(models)}), encoding="utf-8")
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
    try:
        output = cast("asyncio.StreamReader", process.stdout)  # a pipe was asked for
        line = await asyncio.wait_for(output.readline(), READY_TIMEOUT_S)
        ready = json.loads(line)
    except (TimeoutError, ValueError):
        await _kill(process)
        raise ConfigError("the built-in emulator did not start") from None
    except BaseException:  # a cancel above all: the child must not outlive it
        await _kill(process)
        raise
    return Emulator(process, directory, int(ready["tls_port"]), str(ready["ca_file"]))


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def why_emulated(environment: Mapping[str, str]) -> str:
    """What to tell a person who gave neither a file nor a key of use."""
    answers = "the built-in emulator answers, not a model"
    if unspoken_keys(environment):
        accepted = ", ".join(key_variables())
        return f"no provider key that is set can be used (accepted: {accepted}): {answers}"
    return f"no provider keys are set: {answers}"


def emulated_config(tls_port: int, ca_file: str | None, **server: Any) -> Config:
    """Two emulated providers, and aliases over them; gRPC tools can list the service.

    Args:
        ca_file: None for a configuration that is only looked at.
        server: settings of the `server` section, over those of this demonstration.
    """
    return parse(_document(tls_port, ca_file, server))


def _document(
    tls_port: int, ca_file: str | None, server: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    given = dict(server or {})
    origin = f"https://127.0.0.1:{tls_port}"
    row = {
        "wire": "openai_chat",
        "base_url": f"{origin}/v1",
        "ca_file": ca_file,
        "auth": "none",
    }
    return {
        "server": {**given, "grpc": {"reflection": True, **given.get("grpc", {})}},
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
