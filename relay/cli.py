"""The `relay` command. Each subcommand is a few lines over a module of its own.

The first thing is about `relay serve`: imports take half a second, and SIGHUP would end the process
in it. Nothing is lost by ignoring one: the configuration is read after handlers are there.
"""

from __future__ import annotations

import signal
import sys

if sys.argv[1:2] == ["serve"]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

import os
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from relay import __version__, logs
from relay.commands.chat import ChatError
from relay.commands.chat import chat as run_chat
from relay.commands.check import print_probe, print_routes, probe
from relay.commands.demo import demo as run_demo
from relay.config import ConfigError, from_environment, load
from relay.emulator.main import run as run_emulator
from relay.routing.catalog import Catalog
from relay.server import StartError
from relay.serving import run_worker
from relay.supervisor import WORKER_VARIABLE, run_supervised

app = typer.Typer(
    help="A low-latency relay between real-time agents and LLM providers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "-c",
        "--config",
        help="YAML file; without it providers come from keys in"
        " the environment, else from the built-in emulator",
    ),
]


def _fail(message: str) -> typer.Exit:
    _err.print("[red]relay:[/red]", escape(message), highlight=False, soft_wrap=True)
    return typer.Exit(1)


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes on the same ports")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Serve gRPC and the OpenAI-compatible HTTP shim until stopped."""
    logs.configure(level="debug" if verbose else "info")
    worker = os.environ.get(WORKER_VARIABLE)
    try:
        if workers > 1:
            status = run_supervised(config, workers)
        elif worker is not None:
            status = uvloop.run(run_worker(config, announce=None, worker=int(worker)))
        else:
            status = uvloop.run(run_worker(config, announce=_announce))
    except ConfigError as error:
        raise _fail(str(error)) from None
    raise typer.Exit(status)


def _announce(lines: list[str]) -> None:
    for line in lines:
        _out.print(line, highlight=False, soft_wrap=True)


@app.command()
def check(
    config: ConfigOption = None,
    with_probe: Annotated[
        bool, typer.Option("--probe", help="connect to every provider, over each HTTP version")
    ] = False,
) -> None:
    """Validate a configuration and print what each name resolves to."""
    try:
        found = load(config) if config is not None else from_environment(os.environ)
        catalog = Catalog(found) if found is not None else None
    except ConfigError as error:
        raise _fail(str(error)) from None
    if found is None or catalog is None:
        raise _fail("give a file with -c, or set a provider key in the environment")
    print_routes(_out, found, catalog)
    if with_probe:
        results = uvloop.run(probe(found, catalog))
        print_probe(_out, results)
        reached = {row.provider for row in results if row.is_reachable}
        raise typer.Exit(0 if reached == set(catalog.endpoints) else 1)


@app.command()
def emulate(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="emulator.yaml")] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option(help="TLS port, default 9443")] = None,
    plain_port: Annotated[int | None, typer.Option(help="a second port without TLS")] = None,
    cert_dir: Annotated[Path | None, typer.Option(help="where ca.pem is written")] = None,
) -> None:
    """Run the provider emulator: real wire formats, scripted latency and faults."""
    run_emulator(config, host=host, port=port, plain_port=plain_port, cert_dir=cert_dir)


@app.command()
def demo() -> None:
    """Play a scripted voice call through a real relay, and show where the time went."""
    logs.configure(level="warning")
    try:
        raise typer.Exit(uvloop.run(run_demo(_out)))
    except (ConfigError, StartError) as error:
        raise _fail(str(error)) from None


@app.command()
def chat(
    address: Annotated[str, typer.Option(help="gRPC address of the relay")] = "127.0.0.1:50051",
    model: Annotated[str, typer.Option(help="alias, provider/model or model")] = "fast",
    message: Annotated[str | None, typer.Option("-m", help="say this and leave")] = None,
    timeline: Annotated[bool, typer.Option(help="show where each turn's time went")] = True,
) -> None:
    """Talk to a running relay over gRPC; Ctrl-C interrupts an answer."""
    try:
        status = uvloop.run(run_chat(_out, address, model, message, with_timeline=timeline))
    except ChatError as error:
        raise _fail(str(error)) from None
    raise typer.Exit(status)


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__, highlight=False)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
