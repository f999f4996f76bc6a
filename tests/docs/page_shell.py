"""A page followed to the letter: its files are written, its commands run in one shell, in order.

A `sh` block that only starts a server (`relay serve ...`, `relay emulate ...`) is one that the
reader runs in a terminal of its own: it goes to the background, and what follows waits until it
listens. Ports that pages name are free ones here; nothing else is changed.
"""

from __future__ import annotations

import os
import shlex
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import yaml

from tests.docs.pages import ROOT, Block

WAIT_S: Final = 50.0
NAMED_PORTS: Final = (8080, 8081, 50051, 9443, 9480)
_SERVERS: Final = {"relay serve": 8080, "relay emulate": 9443}
_LISTENS_LATER: Final = {8080: (8080, 8081)}
"""The ports that a server opens one after the other: workers or the supervisor may be first."""
_PRELUDE: Final = """set -e -o pipefail
PIDS=""
trap '[ -z "$PIDS" ] || kill $PIDS 2>/dev/null; wait' EXIT
listens() {
  for _ in $(seq 400); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; then return 0; fi
    sleep 0.05
  done
  echo "nobody listens on port $1" >&2; cat server-*.log >&2; return 1
}
"""


def free_ports(count: int) -> list[int]:
    """Different ones."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def follow(blocks: Iterable[Block], folder: Path) -> str:
    """Do what the page says; its output.

    Raises:
        AssertionError: a command failed; the block's line is told, and what was said.
    """
    ports = dict(zip(NAMED_PORTS, free_ports(len(NAMED_PORTS)), strict=True))
    script = [_PRELUDE]
    for number, block in enumerate(blocks):
        text = _ported(block.text, ports)
        where = f"docs/{block.page}:{block.line}"
        if block.language == "yaml" and block.file_name:
            # When the page comes to it: a later one of the same name takes its place.
            made = folder / f"block-{number}"
            made.write_text(_with_listeners(text, ports))
            script.append(f"cp {made.name} {block.file_name}")
        elif block.language == "sh" and (port := _server_of(text)):
            command = " ".join(line for line in text.splitlines() if line.strip())
            script.append(f'>server-{number}.log 2>&1 {command} & PIDS="$PIDS $!"')
            script += [f"listens {ports[each]}" for each in _LISTENS_LATER.get(port, (port,))]
        elif block.language == "sh":
            script += [f"echo {shlex.quote('=== ' + where)}", text]
            if "> relay.yaml <<" in text:  # at free ports too
                script.append(f"printf '%s\\n' {shlex.quote(_listeners(ports))} >> relay.yaml")
        elif block.language == "python":
            made = folder / (block.file_name or f"block-{number}.py")
            made.write_text(text)
            script += [f"echo {shlex.quote('=== ' + where)}", f"python3 {made.name}"]
    _write_relay(folder / "bin", ports)
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=_environment(folder, ports),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    told = f"{ran.stdout}\n{ran.stderr}"
    assert ran.returncode == 0, told[-4000:]
    return told


def _server_of(text: str) -> int:
    """The port of the server that a block starts, and nothing else; 0 for another block."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(lines) != 1:
        return 0
    return next((port for start, port in _SERVERS.items() if lines[0].startswith(start)), 0)


def _ported(text: str, ports: dict[int, int]) -> str:
    for named, port in ports.items():
        text = text.replace(f":{named}", f":{port}").replace(f"port {named}", f"port {port}")
    return text


def _with_listeners(text: str, ports: dict[int, int]) -> str:
    """The same file, at free ports where it does not say where."""
    document = yaml.safe_load(text)
    if not isinstance(document, dict) or "server" in document or "providers" not in document:
        return text
    return f"{text}{_listeners(ports)}"


def _listeners(ports: dict[int, int]) -> str:
    addresses = {"http": 8080, "admin": 8081, "grpc": 50051}
    server = {name: {"address": f"127.0.0.1:{ports[port]}"} for name, port in addresses.items()}
    return yaml.safe_dump({"server": server})


def _write_relay(folder: Path, ports: dict[int, int]) -> None:
    """The commands that pages name, as they are where the package is installed."""
    folder.mkdir()
    relay = f"""#!/bin/bash
case "$1" in
  chat) shift; set -- chat --address 127.0.0.1:{ports[50051]} "$@" ;;
  emulate) shift; set -- emulate --port {ports[9443]} --plain-port {ports[9480]} "$@" ;;
esac
exec {shlex.quote(sys.executable)} -m relay.cli "$@"
"""
    for name, text in (
        ("relay", relay),
        ("python3", f'#!/bin/bash\nexec {shlex.quote(sys.executable)} "$@"\n'),
    ):
        path = folder / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _environment(folder: Path, ports: dict[int, int]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")}
    paths = [str(ROOT), str(ROOT / "clients" / "python")]
    return {
        **kept,
        "PATH": f"{folder / 'bin'}:{kept.get('PATH', '')}",
        "PYTHONPATH": ":".join(paths),
        "COLUMNS": "160",
        "NO_PROXY": "127.0.0.1,localhost",
        "RTRELAY_ADDRESS": f"127.0.0.1:{ports[50051]}",
    }
