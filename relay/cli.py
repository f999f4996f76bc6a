"""The `relay` command. Each subcommand is a few lines over a module of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from relay import __version__, logs
from relay.config import ConfigError
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
    _err.print(f"[red]relay:[/red] {message}", highlight=False, markup=True)
    return typer.Exit(1)


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes on the same ports")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Serve gRPC and the OpenAI-compatible HTTP shim until stopped."""
    logs.configure(is_verbose=verbose)
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
def version() -> None:
    """Print the version."""
    _out.print(__version__, highlight=False)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
