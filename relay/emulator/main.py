"""The emulator's process: sockets, certificates, ready line, signals.

Both ports are granian servers embedded in one uvloop, so that they share one script and one
report. granian (2.8) sets TCP_NODELAY on its listeners, which accepted sockets inherit: without
it delayed ACKs add 40 ms to a frame.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop
import yaml
from granian.constants import Interfaces
from granian.http import HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server
from pydantic import BaseModel, ConfigDict, ValidationError

from relay.emulator.app import EmulatorApp
from relay.emulator.cert_dir import CERT_DIR_HELP
from relay.emulator.certs import make_certs
from relay.emulator.distributions import parse_distribution
from relay.emulator.script import Script
from relay.emulator.ticker import Ticker

_READY_TIMEOUT_S = 10.0
_STOP_GRACE_S = 0.3


class EmulatorConfigError(ValueError):
    """The configuration file cannot be used; one line a fault, each naming its field."""


class EmulatorStartError(Exception):
    """It cannot listen where it should; nothing was started."""


class EmulatorConfig(BaseModel):
    """The file of `relay emulate -c`: every key is optional."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = 9443
    """TLS port; 0 picks a free one."""
    plain_port: int | None = None
    """Port without TLS (HTTP/1.1 and HTTP/2 with prior knowledge); 0 picks one, None: none."""
    cert_dir: Path | None = None
    """Where ca.pem, cert.pem and key.pem are kept; None: a temporary directory."""
    names: tuple[str, ...] = ()
    """Names in the certificate; loopback if empty. Others are a fault (U3)."""
    is_expired: bool = False
    """Whether the certificate is out of date (U3)."""
    max_concurrent_streams: int = 1000
    """Of one HTTP/2 connection, as its SETTINGS say (U15)."""
    distributions: Mapping[str, str] = {}
    """Named distributions, used as @name."""
    models: Mapping[str, str | Mapping[str, object]] = {}
    """Behaviour by model name: the text of `script`, or an object of the same keys."""


@dataclass(slots=True)
class Ready:
    """What the ready line says."""

    tls_port: int
    plain_port: int | None
    ca_file: str
    host: str
    pid: int = field(default_factory=os.getpid)

    def to_json(self) -> str:
        return json.dumps(
            {
                "ready": True,
                "tls_port": self.tls_port,
                "plain_port": self.plain_port,
                "ca_file": self.ca_file,
                "pid": self.pid,
            }
        )

    def to_text(self) -> str:
        """The same for people, with a provider row to paste."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        url = f"https://{host}:{self.tls_port}/v1"
        lines = [f"the emulator answers at {url}"]
        if self.plain_port is not None:
            lines.append(f"without TLS at http://{host}:{self.plain_port}/v1")
        row = f"wire: openai_chat, base_url: {json.dumps(url)}, ca_file: {json.dumps(self.ca_file)}"
        return "\n".join(
            [
                *lines,
                "as a provider of the relay, of which clients ask for lab/emu-fast:",
                "providers:",
                f"  lab: {{{row}, auth: none}}",
            ]
        )


def load_config(path: Path | None) -> EmulatorConfig:
    """Read and validate a configuration file; defaults without one.

    Raises:
        EmulatorConfigError: it cannot be read, is no YAML, or has faults.
    """
    if path is None:
        return EmulatorConfig()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EmulatorConfigError(f"cannot read {path.name}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: no UTF-8, or an impossible date; RecursionError: a thousand brackets.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise EmulatorConfigError(f"{path.name} is no valid YAML{where}") from error
    if document is None:
        return EmulatorConfig()
    if not isinstance(document, dict):
        raise EmulatorConfigError(f"{path.name} holds no mapping of keys")
    try:
        return EmulatorConfig.model_validate(document)
    except ValidationError as error:
        raise EmulatorConfigError(_describe(error)) from None


def _describe(error: ValidationError) -> str:
    """One line a field: its path, what is wrong, the nearest known name for an unknown key."""
    lines: dict[str, list[str]] = {}
    for fault in error.errors(include_url=False, include_input=False):
        # A row is one value of a mapping or list; what follows is pydantic's name of a form.
        path = ".".join(str(part) for part in fault["loc"][:2])
        message = fault["msg"]
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(path, EmulatorConfig.model_fields, 1)
            message = "unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
        lines.setdefault(path, []).append(message)
    return "\n".join(f"{path}: {', or: '.join(messages)}" for path, messages in lines.items())


def run(
    config: Path | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    plain_port: int | None = None,
    cert_dir: Path | None = None,
    ready_file: Path | None = None,
    exit_with_parent: bool = False,
    say: Callable[[str], object] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; arguments win over the configuration file.

    Args:
        ready_file: the ready line is written here as well (complete at once, by rename).
        exit_with_parent: end when standard input reaches its end, as it does when the process
            holding the other end of the pipe dies.
        say: shows a text to the person who started it, beside the ready line for scripts.

    Raises:
        EmulatorConfigError: the file cannot be used; nothing was started.
        EmulatorStartError: a port is taken, or is not ours; nothing was started.
    """
    given = {"host": host, "port": port, "plain_port": plain_port, "cert_dir": cert_dir}
    settings = load_config(config).model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    script = _script(settings)
    tell = say or (lambda _: None)
    with contextlib.ExitStack() as stack:
        directory = settings.cert_dir
        if directory is None:
            own = tempfile.TemporaryDirectory(prefix="rtrelay-emulator-")
            directory = Path(stack.enter_context(own))
        uvloop.run(
            _serve(
                settings,
                script,
                directory,
                ready_file,
                tell,
                exit_with_parent=exit_with_parent,
            )
        )
    tell("the emulator has stopped")
    # granian's threads wait for streams that are scripted never to end; nothing is left to save.
    sys.stdout.flush()
    os._exit(0)


async def _serve(
    settings: EmulatorConfig,
    script: Script,
    cert_dir: Path,
    ready_file: Path | None,
    tell: Callable[[str], object],
    *,
    exit_with_parent: bool,
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    if _is_leader_without_terminal():
        # The first terminal that such a process opens becomes its own, granian opens ours without
        # O_NOCTTY (`stream_reset`), and the first reset would then hang up on the emulator.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if exit_with_parent:
        _watch_stdin(loop, stop)
    tls_port = _free_port(settings.host, settings.port)
    plain_port = None
    if settings.plain_port is not None:
        plain_port = _free_port(settings.host, settings.plain_port)
    if tls_port == plain_port:
        raise EmulatorStartError(f"port and plain_port are both {tls_port}")
    certs = make_certs(cert_dir, settings.names, is_expired=settings.is_expired)
    ports = {tls_port} if plain_port is None else {tls_port, plain_port}
    app = EmulatorApp(script, Ticker(loop), ports)
    servers = [_server(app, settings, tls_port, certs.chain, certs.key)]
    if plain_port is not None:
        servers.append(_server(app, settings, plain_port, None, None))
    serving = [asyncio.ensure_future(server.serve()) for server in servers]
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await _until_listening(settings.host, ports, serving)
        shown = Ready(tls_port, plain_port, str(certs.ca.resolve()), settings.host)
        ready = shown.to_json()
        if ready_file is not None:
            partial = ready_file.with_name(ready_file.name + ".part")
            partial.write_text(ready + "\n")
            partial.replace(ready_file)
        sys.stdout.write(ready + "\n")
        sys.stdout.flush()
        tell(shown.to_text())
        await asyncio.wait([stopping, *serving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for server in servers:
            server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait(serving, timeout=_STOP_GRACE_S)


def _is_leader_without_terminal() -> bool:
    """Whether it was started as a service is, or by `setsid`."""
    if os.getsid(0) != os.getpid():
        return False
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return True
    return False


def _server(
    app: EmulatorApp, settings: EmulatorConfig, port: int, cert: Path | None, key: Path | None
) -> Server:
    return Server(
        app,
        address=settings.host,
        port=port,
        interface=Interfaces.RSGI,
        websockets=False,
        backlog=1024,
        log_level=LogLevels.error,
        http2_settings=HTTP2Settings(max_concurrent_streams=settings.max_concurrent_streams),
        ssl_cert=cert,
        ssl_key=key,
    )


def _script(settings: EmulatorConfig) -> Script:
    script = Script(any_file=settings.host in ("127.0.0.1", "::1", "localhost"))
    faults: list[str] = []
    for name, text in settings.distributions.items():
        try:
            script.distributions[name] = parse_distribution(text, script.distributions)
        except ValueError as error:
            faults.append(f"distributions.{name}: {error}")
    for model, source in settings.models.items():
        try:
            script.set_model(model, script.parse(source))
        except ValueError as error:
            faults.append(f"models.{model}: {error}")
    if faults:
        raise EmulatorConfigError("\n".join(faults))
    return script


def _free_port(host: str, port: int) -> int:
    """A port that nobody has, the given one unless it is 0.

    granian shares its ports (SO_REUSEPORT): a second emulator on one would start without a word
    and get a part of the connections.

    Raises:
        EmulatorStartError: it is taken, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise EmulatorStartError(f"cannot listen on {host}:{port}: {error.strerror}") from error
        return int(probe.getsockname()[1])


async def _until_listening(
    host: str, ports: set[int], serving: Sequence[asyncio.Future[object]]
) -> None:
    async with asyncio.timeout(_READY_TIMEOUT_S):
        for port in ports:
            while True:
                for server in serving:
                    if server.done():
                        server.result()
                        raise OSError(f"the server on port {port} ended at once")
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    break
                await asyncio.sleep(0.01)


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    def wait_for_end() -> None:
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(stop.set)

    # A thread, not a reader on the loop: standard input may be a file, which epoll refuses.
    threading.Thread(target=wait_for_end, daemon=True, name="parent-watch").start()


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m relay.emulator`."""
    parser = argparse.ArgumentParser(prog="relay.emulator", description="LLM provider emulator")
    parser.add_argument("-c", "--config", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int, help="TLS port; 0 picks a free one (default 9443)")
    parser.add_argument("--plain-port", type=int, help="port without TLS; 0 picks a free one")
    parser.add_argument("--cert-dir", type=Path, help=CERT_DIR_HELP)
    parser.add_argument("--ready-file", type=Path, help="also write the ready line here")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="end when standard input is closed"
    )
    options = parser.parse_args(arguments)
    try:
        run(
            options.config,
            host=options.host,
            port=options.port,
            plain_port=options.plain_port,
            cert_dir=options.cert_dir,
            ready_file=options.ready_file,
            exit_with_parent=options.exit_with_parent,
        )
    except EmulatorConfigError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    except EmulatorStartError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
