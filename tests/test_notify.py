"""What systemd hears: over a real socket, and from a real relay."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.notify import Notifier
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import eventually

pytestmark = pytest.mark.sockets


class Ear:
    """systemd's end."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)
        self._told: list[str] = []

    def heard(self) -> list[str]:
        """All so far."""
        try:
            while True:
                self._told.append(self._socket.recv(1000).decode())
        except BlockingIOError:
            return self._told

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[tuple[Ear, str]]:
    address = str(tmp_path / "notify")
    one = Ear(address)
    yield one, address
    one.close()


async def test_ready_alive_and_stopping(ear: tuple[Ear, str]) -> None:
    one, address = ear
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environ)
    assert not environ  # children do not speak for us
    notifier.ready()
    await eventually(lambda: one.heard().count("WATCHDOG=1") >= 3)
    notifier.stopping()
    await notifier.aclose()
    told = one.heard()
    assert (told[0], told[-1]) == ("READY=1", "STOPPING=1")


async def test_an_abstract_address_and_no_watchdog(tmp_path: Path) -> None:
    name = f"rtrelay-test-{os.getpid()}"
    one = Ear(f"\0{name}")
    try:
        notifier = Notifier({"NOTIFY_SOCKET": f"@{name}"})
        notifier.ready()
        assert one.heard() == ["READY=1"]
        await notifier.aclose()
    finally:
        one.close()


@pytest.mark.parametrize("address", ["", "/nowhere/at/all"])
async def test_nobody_listens(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "no number"})
    notifier.ready()
    notifier.stopping()
    await notifier.aclose()


async def test_a_relay_tells(
    ear: tuple[Ear, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, address = ear
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    async with RelayProcess(tmp_path, {}) as relay:
        await eventually(one.heard)
        assert one.heard() == ["READY=1"]
        relay.signal(signal.SIGTERM)
        assert await relay.exited() == 0
        assert one.heard() == ["READY=1", "STOPPING=1"]
