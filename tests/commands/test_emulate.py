"""`relay emulate`: what it tells people and scripts, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.config import load
from relay.emulator.main import EmulatorConfig, Ready, main
from tests.fakes.command import WAIT_S, relay_command

# --- what it tells --------------------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_scripts_read_a_line_and_people_a_row_to_paste(
    tmp_path: Path, number: signal.Signals
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "relay.cli", "emulate", "--port", "0", "--plain-port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(WAIT_S):
            ready = json.loads(await process.stdout.readline())
            told = [(await process.stderr.readline()).decode() for _ in range(5)]
            assert Path(ready["ca_file"]).parent.parent == temporary
            told_url = f"https://127.0.0.1:{ready['tls_port']}/v1"
            assert told[0] == f"the emulator answers at {told_url}\n"
            assert f"http://127.0.0.1:{ready['plain_port']}/v1" in told[1]
            (tmp_path / "relay.yaml").write_text("".join(told[3:]))
            row = load(tmp_path / "relay.yaml").providers["lab"]
            assert (row.base_url, row.ca_file) == (told_url, ready["ca_file"])
            process.send_signal(number)
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert (process.returncode, output) == (0, b"")
    assert errors == b"the emulator has stopped\n"
    assert not list(temporary.iterdir()), "its certificates are of no use to anybody now"


def test_readme_shows_the_row_that_people_are_told() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    told = Ready(EmulatorConfig().port, None, "certs/ca.pem", EmulatorConfig().host).to_text()
    row = told.partition("\nproviders:\n")[2]
    assert f"```yaml\nproviders:\n{row}\n```" in readme


# --- what keeps it from starting ------------------------------------------------------------


@pytest.mark.sockets
@pytest.mark.parametrize("option", ["--port", "--plain-port"])
async def test_port_that_another_shares_is_refused(tmp_path: Path, option: str) -> None:
    """As a second emulator does; its certificates are not touched."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        free = ("--port", "0") if option != "--port" else ()
        directory = tmp_path / "certs"
        ran = await relay_command("emulate", *free, option, str(port), "--cert-dir", str(directory))
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors == f"relay: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert not directory.exists()


@pytest.mark.sockets
async def test_both_ports_cannot_be_one(unused_tcp_port: int) -> None:
    port = str(unused_tcp_port)
    ran = await relay_command("emulate", "--port", port, "--plain-port", port)
    assert (ran.status, ran.errors) == (1, f"relay: port and plain_port are both {port}\n")


def said(path: Path) -> list[str]:
    """What the command says of a file that it refuses."""
    shown = CliRunner().invoke(app, ["emulate", "-c", str(path)])
    assert shown.exit_code == 1
    assert shown.stdout == ""
    lines = shown.stderr.removeprefix("relay: ").splitlines()
    assert lines
    return lines


def test_file_that_is_not_there(tmp_path: Path) -> None:
    assert said(tmp_path / "none.yaml") == ["cannot read none.yaml: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("port: 0\nmodels: {a: [1\n", ["e.yaml is no valid YAML in line 3"]),
        ("a\0b", ["e.yaml is no valid YAML"]),
        ("- port", ["e.yaml holds no mapping of keys"]),
        ("prot: 1", ["prot: unknown key; did you mean 'port'?"]),
        ("colour: red", ["colour: unknown key"]),
        (
            "port: many\nmax_concurrent_stream: 5",
            [
                "port: Input should be a valid integer, unable to parse string as an integer",
                "max_concurrent_stream: unknown key; did you mean 'max_concurrent_streams'?",
            ],
        ),
        (
            "models: {greeter: 7}",
            [
                "models.greeter: Input should be a valid string,"
                " or: Input should be a valid dictionary"
            ],
        ),
        ("models: {greeter: {tfft: 5}}", ["models.greeter: unknown parameter 'tfft'"]),
        (
            "models: {a: 'ttft=1', b: 'fault=boom'}",
            ["models.b: fault=boom: unknown fault 'boom'"],
        ),
        (
            "distributions: {quick: '1..2', odd: 'soon'}\nmodels: {a: {ttft: '@slow'}}",
            [
                "distributions.odd: could not convert string to float: 'soon'",
                "models.a: ttft=@slow: no distribution named 'slow'",
            ],
        ),
    ],
)
def test_faults_of_the_file_are_named(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    assert said(path) == lines


def test_the_module_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-c", str(tmp_path / "none.yaml")])
    assert caught.value.code == 2
    expected = "relay.emulator: cannot read none.yaml: No such file or directory\n"
    assert tuple(capsys.readouterr()) == ("", expected)
