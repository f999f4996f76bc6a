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


def test_places_of_one_machine_differ_by_number_and_address() -> None:
    host = socket.gethostname()
    assert place(None, "127.0.0.1:1") == place(0, "127.0.0.1:1") == f"{host}/127.0.0.1:1/0"
    assert place(3, "127.0.0.1:1") == f"{host}/127.0.0.1:1/3"
    assert place(3, "127.0.0.2:1") == f"{host}/127.0.0.2:1/3"


def test_long_names_leave_room_for_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "h" * 200)
    told = place(63, "a" * 300 + ":50051")
    assert told.startswith("h" * 40)
    assert told.endswith("a:50051/63")
    assert len(told) == MAX_PLACE
