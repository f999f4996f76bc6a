"""The package around the service: its versions, its documentation, its example."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import fields
from importlib import metadata
from pathlib import Path

import pytest
from rtrelay.pipecat import RelayLLMSettings, _versions

from tests.frameworks.world import World

CLIENT = Path(__file__).parents[2] / "clients" / "python"

OF_PIPECAT = {
    "filter_incomplete_user_turns",
    "user_turn_completion_config",
    "use_provider_thinking_default",
}
"""Settings that Pipecat's own parts use among themselves."""


def test_the_extra_is_what_is_checked() -> None:
    text = (CLIENT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'pipecat = ["{_versions.TESTED}"]' in text
    assert _versions.TESTED.endswith("<1.15")
    _versions.check_pipecat()  # this one


@pytest.mark.parametrize("version", ["1.13.2", "1.15.0", "2.14.0"])
def test_another_pipecat_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: version)
    with pytest.raises(ImportError, match=rf"pipecat-ai>=1.14,<1.15.*found {version}"):
        _versions.check_pipecat()
    monkeypatch.setenv(_versions.ANY_VERSION, "1")
    _versions.check_pipecat()


def test_no_pipecat_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ImportError, match=r"extra `pipecat` of rtrelay-client.*not installed"):
        _versions.check_pipecat()


def test_every_setting_is_documented() -> None:
    page = (CLIENT / "docs" / "pipecat.md").read_text(encoding="utf-8")
    names = {field.name for field in fields(RelayLLMSettings)} - OF_PIPECAT
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


async def runs(*code: str, **environment: str) -> tuple[int, str]:
    """A Python of its own; its exit code, and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *code),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(50):
        out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


async def test_importing_it_opens_nothing() -> None:
    code = (
        "import asyncio, threading, rtrelay.pipecat as p;"
        "p.RelayLLMService();"
        "assert threading.active_count() == 1, threading.enumerate();"
        "print('quiet')"
    )
    status, out = await runs("-c", code)
    assert (status, out.splitlines()[-1:]) == (0, ["quiet"]), out


async def test_without_a_relay_the_example_says_so(unused_tcp_port: int) -> None:
    status, out = await runs(
        str(CLIENT / "examples" / "pipecat_agent.py"),
        "Hello",
        RTRELAY_ADDRESS=f"127.0.0.1:{unused_tcp_port}",
    )
    assert status == 1
    assert "LLM answer failed" in out.splitlines()[-1]


@pytest.mark.sockets
async def test_the_example_runs(world: World) -> None:
    world.script("pipecat-example", {"ttft": "20", "itl": "10", "text": "A long story. " * 9})
    status, out = await runs(
        str(CLIENT / "examples" / "pipecat_agent.py"),
        RTRELAY_ADDRESS=world.address,
        RTRELAY_MODEL="lab/pipecat-example",
    )
    assert status == 0, out
    assert "> How does it end?" in out
    assert out.count(" tokens in ") == 2
    first, second = out.split("> How does it end?")
    assert first.count("story. ") < second.count("story. ") == 9
    await world.idle()
