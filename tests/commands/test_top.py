"""`relay top` before real relays: in a pipe, and at a terminal of its own."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.commands import top_feed
from relay.commands.top import Wish, top
from relay.commands.top_feed import Feed, Lost, Place, TopError, checked_url
from tests.fakes.admin_tokens import owner_of
from tests.fakes.command import CTRL_C, Terminal, relay_command
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import keyed
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import RelayUnderTest, chat_body, relay_under_test

pytestmark = pytest.mark.sockets

SHOW_CURSOR = "\x1b[?25h"
MAIN_SCREEN = "\x1b[?1049l"


def document(emulator: EmulatorProcess, model: str = "emu-steady") -> dict[str, Any]:
    door = {"wire": "openai_chat", "base_url": f"{emulator.base_url_plain}/v1", "api_key": "key-1"}
    return {
        "providers": {"alpha": {**door, "api_key": "${file:key}"}},
        "models": {"fast": {"candidates": [{"provider": "alpha", "model": model}]}},
    }


def with_key(folder: Path) -> None:
    (folder / "key").write_text("key-of-the-tests")


def url_of(relay: RelayUnderTest) -> str:
    return f"http://127.0.0.1:{relay.worker.admin_port}"


async def test_one_frame_for_scripts(emulator: EmulatorProcess, tmp_path: Path) -> None:
    with_key(tmp_path)
    async with RelayProcess(tmp_path, document(emulator)) as relay, relay.http() as http:
        url = f"http://127.0.0.1:{relay.ports['admin']}"
        command = ("top", "--url", url, "--once", "--interval", "2")
        running = asyncio.create_task(relay_command(*command))
        while not running.done():  # the frame is of what came between its two readings
            body = {**chat_body("fast"), "stream": False, "max_tokens": 1}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        ran = await running
        assert (ran.status, ran.errors) == (0, "")
        assert "\x1b" not in ran.output
        lines = ran.output.splitlines()
        assert lines[0].startswith("All is well: ")
        (row,) = [line.split() for line in lines if line.startswith("alpha/emu-steady")]
        assert row[1] == "closed"
        assert float(row[2]) > 0, "requests a second"
        assert lines[-1].split()[0] == emulator.base_url_plain
        told = json.loads((await relay_command(*command, "--json", "--interval", "0.2")).output)
        assert told["line"].startswith("All is well: 0.0 requests/s over 1 target")
        (target,) = told["targets"]
        assert target["name"] == "alpha/emu-steady"
        assert target["samples"] > 0
        assert target["p50_ms"] > 100
        assert {"p90_ms", "p99_ms", "breaker", "in_flight", "limit"} <= target.keys()
        assert told["aliases"][0]["name"] == "fast"
        assert told["origins"][0]["connections"] >= 1


async def test_at_a_terminal(emulator: EmulatorProcess, tmp_path: Path) -> None:
    with_key(tmp_path)
    async with RelayProcess(tmp_path, document(emulator)) as relay, relay.http() as http:
        body = {**chat_body("fast"), "stream": False, "max_tokens": 1}
        assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
        url = f"http://127.0.0.1:{relay.ports['admin']}"
        async with Terminal("top", "--url", url, "--interval", "0.2") as terminal:
            await terminal.shows("\x1b[?1049h")
            await terminal.shows("alpha/emu-steady")
            await terminal.shows("by trouble")
            terminal.types("r")
            await terminal.shows("by rate")
            terminal.types("?")
            await terminal.shows("n name")
            terminal.types(" ")
            await terminal.shows("PAUSED")
            terminal.types(" ")
            relay.signal(signal.SIGKILL)
            await terminal.shows("Cannot reach")
            await terminal.shows("trying again. What is below is")
            terminal.types("q")
            assert await terminal.exited() == 0
            assert MAIN_SCREEN in terminal.screen
            assert SHOW_CURSOR in terminal.screen


async def test_it_waits_for_a_relay_and_ctrl_c_leaves() -> None:
    command = ("top", "--url", "http://127.0.0.1:9", "--interval", "0.2")
    async with Terminal(*command) as terminal:
        await terminal.shows("nobody answers there; trying again.")
        terminal.types(CTRL_C)
        assert await terminal.exited() == 0
        assert MAIN_SCREEN in terminal.screen


async def test_a_narrow_terminal_and_no_colour(
    emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The width of the terminal itself: COLUMNS is not set here."""
    with_key(tmp_path)
    monkeypatch.chdir(tmp_path)
    async with RelayProcess(tmp_path, document(emulator)) as relay:
        url = f"http://127.0.0.1:{relay.ports['admin']}"
        shown = await asyncio.to_thread(_at_width, url, 40, 12)
    assert "\x1b[3" not in shown.replace("\x1b[3J", ""), "no colour"
    frames = shown.partition("\x1b[?1049h")[2].split("\x1b[H")
    lines = [line for text in frames for line in _CODES.sub("", text).split("\r\n")]
    assert any(line.startswith("All is well") for line in lines)
    assert max(map(len, lines)) <= 40


_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def _at_width(url: str, columns: int, rows: int) -> str:
    """What is shown until the second reading, and while it is left with `q`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-m", "relay.cli", "top", "--url", url, "--interval", "0.2"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**kept, "NO_COLOR": "1", "TERM": "xterm-256color"},
    )
    os.close(slave)
    seen, has_left = "", False
    try:
        while True:
            try:
                data = os.read(master, 65_536)
            except OSError:  # EIO: nobody has the other end any more
                return seen
            seen += data.decode(errors="replace")
            if not has_left and "requests/s" in seen:
                os.write(master, b"q")
                has_left = True
    finally:
        process.kill()
        process.wait()
        os.close(master)


async def test_lines_for_programs_end_with_their_reader(emulator: EmulatorProcess) -> None:
    async with relay_under_test({"providers": {}, "models": {}}) as relay:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "relay.cli", "top", "--json", "--interval", "0.2", "--url", url_of(relay)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        rows = [json.loads(await process.stdout.readline()) for _ in range(2)]
        assert rows[0]["at_us"] < rows[1]["at_us"]
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 10)
        assert (process.returncode, errors) == (0, b"")


async def test_where_keys_are_needed(tmp_path: Path) -> None:
    whole = keyed(tmp_path, {"providers": {}, "models": {}})
    token = owner_of(whole)
    async with relay_under_test(whole) as relay:
        command = ("top", "--url", url_of(relay), "--once", "--interval", "0.2")
        refused = await relay_command(*command)
        assert refused.status == 1
        assert "RTRELAY_ADMIN_TOKEN" in refused.errors
        wrong = await relay_command(*command, "--token", "rta_wrong")
        assert wrong.status == 1
        assert "is not good" in wrong.errors
        assert "rta_wrong" not in wrong.errors
        good = await relay_command(*command, "--token", token)
        assert (good.status, good.errors) == (0, "")
        async with Terminal("top", "--url", url_of(relay)) as terminal:
            assert await terminal.exited() == 1
            assert "\x1b[?1049h" not in terminal.screen, "told beneath the command"
            assert "RTRELAY_ADMIN_TOKEN" in terminal.screen.replace("\r\n", " ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sort", "luck"), "--sort: "),
        (("--url", "ftp://x"), "--url: "),
        (("--url", "http://user:secret@127.0.0.1"), "--url: no user or password"),
        (("--cert-file", "x.pem"), "--cert-file and --key-file go together"),
        (("--ca-file", "none.pem"), "--ca-file: none.pem"),
        (("--token", "ä"), "--token: "),
        (("--url", "http://127.0.0.1:9", "--once"), "cannot reach http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_is_told(arguments: tuple[str, ...], words: str) -> None:
    ran = CliRunner().invoke(app, ["top", *arguments], env={"COLUMNS": "200"})
    assert ran.exit_code == 1
    assert words in ran.stderr
    assert "secret" not in ran.stderr


@contextlib.asynccontextmanager
async def answering(*parts: bytes, is_endless: bool = False) -> AsyncIterator[str]:
    """A server that says the same to everybody; the last part again and again."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                writer.write(part)
                await writer.drain()
            while is_endless:
                await asyncio.sleep(0.01)
                writer.write(parts[-1])
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_another_server_is_no_relay() -> None:
    async with (
        answering(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as url,
        Feed(Place(url, "")) as feed,
    ):
        with pytest.raises(TopError, match="no admin listener"):
            await feed.read()


async def test_an_answer_is_bounded_in_bytes_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    endless = answering(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 1000, is_endless=True)
    async with endless as url, Feed(Place(url, "")) as feed:
        with monkeypatch.context() as patch:
            patch.setattr(top_feed, "MOST_BYTES", 4_000)
            with pytest.raises(TopError, match="more than 4000 bytes"):
                await feed.read()
        monkeypatch.setattr(top_feed, "TIMEOUT_S", 0.2)  # bytes come all the time
        with pytest.raises(Lost, match=r"no answer within 0\.2 s"):
            await feed.read()


async def test_numbers_beyond_all_are_written(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    state = b'{"uptime_s": 1e308, "sessions": 1e308, "generations": -1e308, "targets": []}'
    body = (
        b'{"uptime_s": 1e308, "workers": {"0": {"restarts": 1e308, "pid": 1e308, "silent_s": 1e308,'
        b' "state": ' + state + b"}}}"
    )
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    async with answering(head.encode() + body) as url:
        for as_json in (True, False):
            assert await top(Place(url, ""), Wish(0.01, is_once=True, as_json=as_json)) == 0


def test_addresses() -> None:
    assert checked_url("relay:8081/") == "http://relay:8081"
    assert checked_url("https://r/base/admin/state") == "https://r/base"
    assert "rta_x" not in repr(Place("http://r", "rta_x"))
