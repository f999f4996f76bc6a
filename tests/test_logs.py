"""What the standard library's loggers say: one JSON object a line, tracebacks too."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from datetime import datetime

import orjson

from relay.logs import JsonLines


def lines_of(log: logging.Logger) -> io.StringIO:
    """What this logger writes, as `configure` would have it written."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    log.handlers, log.propagate = [handler], False
    return stream


def test_record_is_one_json_object() -> None:
    log = logging.getLogger("lib.part")
    stream = lines_of(log)
    log.warning('a "quoted" %s\nand a second line', "word")
    (line,) = stream.getvalue().splitlines()
    value = orjson.loads(line)
    assert value["event"] == 'a "quoted" word\nand a second line'
    assert (value["level"], value["logger"]) == ("warning", "lib.part")
    assert datetime.fromisoformat(value["timestamp"]).tzinfo is not None


def test_traceback_is_a_field_of_its_line() -> None:
    log = logging.getLogger("lib.part")
    stream = lines_of(log)
    try:
        raise ValueError("what went\nwrong")
    except ValueError as error:
        log.error("It failed\n", exc_info=error)
    (line,) = stream.getvalue().splitlines()
    value = orjson.loads(line)
    assert "Traceback (most recent call last)" in value["exception"]
    assert "what went\nwrong" in value["exception"]


def test_text_that_is_no_unicode_is_written_too() -> None:
    log = logging.getLogger("lib.part")
    stream = lines_of(log)
    log.warning("half a character: %s", "\ud800")
    assert "half a character" in orjson.loads(stream.getvalue())["event"]


_TELLING = """
import logging, sys, structlog
from relay.governance.known_secrets import KnownSecrets
from relay.logs import configure, hide_with

def send(headers):
    local = "of the function " + headers[9:]
    raise ValueError(f"cannot send {headers}")

configure()
hide_with(KnownSecrets(["canary-0123456789"]).hide)
try:
    send("x-extra: canary-0123456789")
except ValueError as error:
    structlog.get_logger().error("bug", exc_info=error)
    structlog.get_logger().exception("bug")
    logging.getLogger("lib").error("it was %s", error, exc_info=error, stack_info=True)
"""


def test_tracebacks_hold_neither_secrets_nor_local_variables() -> None:
    done = subprocess.run([sys.executable, "-c", _TELLING], capture_output=True, check=True)
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert len(lines) == 3
    assert all("ValueError: cannot send x-extra: ***" in line["exception"] for line in lines)
    assert lines[2]["event"] == "it was cannot send x-extra: ***"
    assert b"of the function canary" not in done.stderr
    assert b"canary-0123" not in done.stderr


_PROCESS = """
import asyncio
from relay.logs import configure

async def main():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

configure()
asyncio.run(main())
"""


def test_whole_process_writes_one_json_object_a_line() -> None:
    done = subprocess.run([sys.executable, "-c", _PROCESS], capture_output=True, check=True)
    (line,) = done.stderr.splitlines()
    value = orjson.loads(line)
    assert value["logger"] == "asyncio"
    assert "ZeroDivisionError" in value["exception"]
