"""What a process is called."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from relay.instance import MAX_PLACE, instance_id, place


def test_one_process_has_one_name_that_no_other_has() -> None:
    assert instance_id() == instance_id()
    assert len(instance_id()) <= 48  # of the ledger's column
    script = "from relay.instance import instance_id; print(instance_id())"
    names = {
        subprocess.run(
            [sys.executable, "-c", script], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    }
    assert len({*names, instance_id()}) == 3


def test_a_fork_is_another_process() -> None:
    reading, writing = os.pipe()
    mine = instance_id()
    child = os.fork()
    if child == 0:
        os.write(writing, instance_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    theirs = os.read(reading, 100).decode()
    os.close(reading)
    assert theirs.startswith("i_")
    assert theirs != mine == instance_id()


def test_places_of_one_machine_differ_by_number() -> None:
    assert place(None) == place(0) == f"{socket.gethostname()}/0"
    assert place(3) == f"{socket.gethostname()}/3"


def test_a_long_host_name_leaves_room_for_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 200)
    assert place(63).endswith("h/63")
    assert len(place(63)) == MAX_PLACE
