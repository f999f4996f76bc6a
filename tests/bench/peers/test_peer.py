"""A peer that cannot be had, or does not start, costs its column and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bench.peers import __main__ as command
from bench.peers import peer as peers
from bench.peers.all import PEERS
from bench.peers.peer import Client, Peer, PeerError, PeerProcess, Place
from bench.peers.rig import QUICK, PeerRig
from bench.processes import EmulatorProcess

_LISTEN = (
    "import os, socket, sys, time\n"
    "print(sorted(os.environ), flush=True)\n"
    "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    emulator: Any = SimpleNamespace(base_url="https://127.0.0.1:1", ca_file="ca", tls_port=1)
    return Place(emulator, tmp_path)


def started(place: Place, code: str, **more: Any) -> PeerProcess:
    command = [sys.executable, "-c", code, str(place.port)]
    return PeerProcess("some", command, place, environment={"SOME": "1"}, **more)


def test_it_is_ready_when_it_listens_and_inherits_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    process = started(place, _LISTEN)
    try:
        assert process.pids()
        assert process.rss_kib() > 1000
        assert "'SOME'" in process.last_words()
        assert "PROXY" not in process.last_words()
    finally:
        process.stop()
    process.stop()


def test_one_that_ends_is_told_with_its_last_words(place: Place) -> None:
    with pytest.raises(PeerError, match="ended with 3; its last words: no such option"):
        started(place, "print('no such option'); raise SystemExit(3)")


def test_one_that_does_not_get_ready_is_ended(place: Place, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match=r"was not ready within 0.2 s; it left no message"):
        started(
            place,
            "import time; time.sleep(60)",
            timeout_s=0.2,
            ready_file=tmp_path / "never",
        )


def test_a_program_that_is_not_there(place: Place, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="No such file"):
        PeerProcess("some", [str(tmp_path / "none")], place, environment={})
    with pytest.raises(PeerError, match="not installed here"):
        peers.installed(tmp_path, "bin/none")


def test_an_installer_that_fails_says_its_last_line(tmp_path: Path) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('first\\nno such version')"]
    with pytest.raises(PeerError, match="failed: no such version"):
        peers.run(failing)


def test_what_a_lock_installed_is_installed_again_when_the_lock_changes(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.write_text("one")
    assert not peers.is_installed(tmp_path, lock)
    peers.mark_installed(tmp_path, lock)
    assert peers.is_installed(tmp_path, lock)
    lock.write_text("two")
    assert not peers.is_installed(tmp_path, lock)


class _Absent(Peer):
    name = "absent"
    title = "Absent"
    version = "1"

    def install(self) -> None:
        raise PeerError("no such package")

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        raise PeerError("not installed here")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Peer:
    peer = _Absent()
    monkeypatch.setitem(PEERS, "absent", peer)
    return peer


def test_installing_goes_on_without_one(absent: Peer, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.install(["absent"]) == 0
    assert "absent: skipped: no such package" in capsys.readouterr().out


def test_a_run_goes_on_without_one(absent: Peer, tmp_path: Path, place: Place) -> None:
    rig = PeerRig(QUICK)
    rig.emulator = cast(EmulatorProcess, place.emulator)
    rig._open_peer(absent, tmp_path / "absent")
    assert rig.skipped == {"absent": "not installed here"}
    assert not rig.arms
    rig.close()
