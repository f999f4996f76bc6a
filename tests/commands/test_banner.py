"""What is told at the start: whole where somebody reads, and no trouble where nobody can."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from relay.commands.banner import tell

TEXT = "rtrelay serves\n  gRPC   127.0.0.1:50051\n"


@contextmanager
def pipe() -> Iterator[tuple[int, TextIO]]:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        try:
            yield read, stream
        finally:
            os.close(read)


def test_it_is_told() -> None:
    with pipe() as (read, stream):
        tell(TEXT, stream)
        assert os.read(read, 4096).decode() == TEXT
    text = io.StringIO()
    tell(TEXT, text)
    assert text.getvalue() == TEXT


def test_what_stands_before_it_comes_before_it() -> None:
    with pipe() as (read, stream):
        stream.write("first\n")
        tell(TEXT, stream)
        assert os.read(read, 4096).decode() == f"first\n{TEXT}"


def test_a_full_pipe_is_not_waited_for() -> None:
    with pipe() as (read, stream):
        os.set_blocking(stream.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(stream.fileno(), bytes(65_536))
        os.set_blocking(stream.fileno(), True)
        held = fcntl.fcntl(stream.fileno(), fcntl.F_GETPIPE_SZ)
        tell(TEXT, stream)
        assert len(os.read(read, held + 4096)) == held


def test_no_room_and_no_reader_are_no_trouble() -> None:
    with open("/dev/full", "w") as stream:
        tell(TEXT, stream)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        tell(TEXT, stream)
