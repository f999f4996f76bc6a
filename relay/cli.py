"""The `relay` command. Each subcommand is a few lines over a module of its own, which is imported
when it runs: a server's imports take a second, and most commands need few of them.

The first thing is about `relay serve`: imports take a second, and SIGHUP would end the process
in it. Nothing is lost by ignoring one: the configuration is read after handlers are there.
"""

from __future__ import annotations

import os
import signal
import sys

if sys.argv[1:2] == ["serve"]:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Before gRPC is imported: it writes a line of its own about every handshake that failed, which
    # anybody can make it do, into a log of JSON.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import asyncio
import json
import time
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console
from rich.markup import escape

from relay import __version__
from relay.commands import banner
from relay.commands.lazy_groups import LazyGroups
from relay.commands.leaving import own_the_process
from relay.emulator.cert_dir import CERT_DIR_HELP

app = typer.Typer(
    cls=LazyGroups,
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


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def relay(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="print the version and leave"
        ),
    ] = False,
) -> None:
    """A low-latency relay between real-time agents and LLM providers."""


def _fail(message: str, status: int = 1) -> typer.Exit:
    _err.print("[red]relay:[/red]", escape(message), highlight=False, soft_wrap=True)
    return typer.Exit(status)


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="processes on the same ports")] = 1,
    verbose: Annotated[bool, typer.Option("--verbose", "-v")] = False,
) -> None:
    """Serve gRPC and the OpenAI-compatible HTTP shim until stopped."""
    from relay import logs
    from relay.config import ConfigError
    from relay.open_files import raise_open_files
    from relay.serving import run_worker, run_workers
    from relay.supervisor import FAILED_START_STATUS, WORKER_VARIABLE, WORKERS_VARIABLE
    from relay.workers.link import inherited

    logs.configure(level="debug" if verbose else "info", serves=True)
    raise_open_files()
    worker = os.environ.get(WORKER_VARIABLE)
    try:
        if workers > 1:
            # Not uvloop: its children get every signal's default back after `preexec_fn`, and a
            # SIGHUP that is forwarded to a worker while it starts would kill it.
            status = asyncio.run(run_workers(config, workers, announce=_announce))
        elif worker is not None:
            pipe = inherited(os.environ)
            of = int(os.environ.get(WORKERS_VARIABLE, "1"))
            status = uvloop.run(
                run_worker(config, announce=None, worker=int(worker), workers=of, pipe=pipe)
            )
        else:
            status = uvloop.run(run_worker(config, announce=_announce))
    except ConfigError as error:
        raise _fail(str(error), 1 if worker is None else FAILED_START_STATUS) from None
    raise typer.Exit(status)


def _announce(lines: list[str]) -> None:
    banner.tell("".join(f"{line}\n" for line in lines), sys.stdout)


@app.command()
def check(
    config: ConfigOption = None,
    with_probe: Annotated[
        bool, typer.Option("--probe", help="connect to every provider, over each HTTP version")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="print the file's JSON Schema and do nothing else")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="a request, an OpenAI chat body as JSON: print which rule decides it, and why"
        ),
    ] = None,
) -> None:
    """Validate a configuration and print what each name resolves to."""
    from relay import logs
    from relay.commands.check import find, print_probe, print_routes, probe
    from relay.config import ConfigError, json_schema

    if schema:
        typer.echo(json.dumps(json_schema(), indent=2))
        return
    try:
        found = find(config, os.environ)
    except ConfigError as error:
        raise _fail(str(error)) from None
    if found.note:
        _out.print(found.note, highlight=False, markup=False)
    if explain is not None:
        from relay.commands.check_explain import ExplainError, explain_file

        try:
            explain_file(explain, found.config, found.catalog, _out)
        except ExplainError as error:
            raise _fail(str(error)) from None
        return
    print_routes(_out, found.config, found.catalog)
    if with_probe:
        if found.is_emulated:
            raise _fail("there is nothing to probe: the emulator runs with `relay serve`")
        logs.configure(level="warning")
        results = uvloop.run(probe(found.config))
        print_probe(_out, results)
        reached = {row.provider for row in results if row.is_reachable}
        raise typer.Exit(0 if reached == set(found.catalog.endpoints) else 1)


@app.command()
def emulate(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="emulator.yaml")] = None,
    host: Annotated[str | None, typer.Option()] = None,
    port: Annotated[int | None, typer.Option(help="TLS port, default 9443")] = None,
    plain_port: Annotated[int | None, typer.Option(help="a second port without TLS")] = None,
    cert_dir: Annotated[Path | None, typer.Option(help=CERT_DIR_HELP)] = None,
) -> None:
    """Run the provider emulator: real wire formats, scripted latency and faults."""
    from relay.emulator.main import EmulatorConfigError, EmulatorStartError
    from relay.emulator.main import run as run_emulator

    try:
        run_emulator(
            config,
            host=host,
            port=port,
            plain_port=plain_port,
            cert_dir=cert_dir,
            say=partial(typer.echo, err=True),
        )
    except (EmulatorConfigError, EmulatorStartError) as error:
        raise _fail(str(error)) from None


@app.command()
def replay(
    policy: Annotated[Path, typer.Option(help="configuration to try: what it says of models")],
    log: Annotated[
        list[Path],
        typer.Option(
            "--from",
            help="log of the relay, which is its standard error (relay serve 2> relay.log);"
            " may be given again",
        ),
    ],
    alias: Annotated[str | None, typer.Option(help="this one alone; else all that were asked")] = (
        None
    ),
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
    runs: Annotated[int, typer.Option(min=1, max=1000, help="replays, each with its draws")] = 5,
    seed: Annotated[int, typer.Option(help="of the draws")] = 0,
) -> None:
    """Say what a policy would have done to latency, dead air and money, from a recorded log."""
    from relay.commands.replay import ReplayError
    from relay.commands.replay import replay as run_replay

    try:
        found = run_replay(policy, log, alias=alias, runs=runs, seed=seed)
    except ReplayError as error:
        raise _fail(str(error)) from None
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    else:
        found.show(_out)


@app.command()
def measure(
    config: ConfigOption = None,
    provider: Annotated[
        list[str] | None, typer.Option(help="row of the file; may be given again, as all names may")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="at each --provider, by its name there; without one an alias or provider/model"
        ),
    ] = None,
    same: Annotated[
        list[str] | None,
        typer.Option(help="class of models (`relay check` shows them): every door that has it"),
    ] = None,
    tier: Annotated[
        list[str] | None, typer.Option(help="service tier to ask at; `default` is the row's")
    ] = None,
    samples: Annotated[int, typer.Option(min=2, max=1000, help="requests to each door")] = 30,
    max_usd: Annotated[
        float, typer.Option(min=0.0001, max=1000, help="no request is sent that could go over it")
    ] = 0.10,
    yes: Annotated[
        bool, typer.Option("--yes", help="send; without it the worst cost is printed, no more")
    ] = False,
    unpriced: Annotated[
        bool, typer.Option("--unpriced", help="ask doors too whose price is not known")
    ] = False,
    priors: Annotated[
        bool, typer.Option(help="leave what is found in the SQLite store, for workers")
    ] = True,
    long_tokens: Annotated[
        int, typer.Option(min=200, max=100_000, help="of every second prompt, about")
    ] = 2000,
    output_tokens: Annotated[int, typer.Option(min=1, max=4096, help="of an answer")] = 16,
    effort: Annotated[str, typer.Option(help="of reasoning: none, minimal, low, ...")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False,
) -> None:
    """Take the time to first token of doors in turn, with your keys and your money."""
    from relay import logs
    from relay.commands.check import find
    from relay.commands.measure import MeasureError, Wish, finish, prepare
    from relay.commands.measure import measure as run_measure
    from relay.config import ConfigError
    from relay.measuring.choice import Named
    from relay.measuring.prompts import Shape
    from relay.measuring.rounds import Bound

    wish = Wish(
        Named(provider or (), model or (), same or (), tier or ()),
        Bound(samples, max_usd * 1e6),
        Shape(long_tokens, output_tokens, effort),
        is_confirmed=yes,
        allows_unpriced=unpriced,
        keeps_priors=priors,
        as_json=as_json,
    )
    console = _err if as_json else _out
    try:
        found = find(config, os.environ)
        doors, path = prepare(console, found, wish)
        logs.configure(level="warning")
        measured = uvloop.run(run_measure(found.config, doors, wish, _err))
        raise typer.Exit(finish(console, _out, measured, wish, path))
    except (ConfigError, MeasureError) as error:
        raise _fail(str(error)) from None


@app.command()
def demo() -> None:
    """Play a scripted voice call through a real relay, and show where the time went."""
    from relay import logs
    from relay.commands.demo import demo as run_demo
    from relay.config import ConfigError
    from relay.http_server import StartError

    logs.configure(level="warning")
    try:
        raise typer.Exit(uvloop.run(run_demo(_out)))
    except (ConfigError, StartError) as error:
        raise _fail(str(error)) from None


@app.command()
def chat(
    address: Annotated[str, typer.Option(help="gRPC address of the relay")] = "127.0.0.1:50051",
    model: Annotated[str, typer.Option(help="alias, provider/model or model")] = "fast",
    message: Annotated[
        str | None, typer.Option("-m", "--message", help="say this and leave")
    ] = None,
    timeline: Annotated[bool, typer.Option(help="show where each turn's time went")] = True,
    tls: Annotated[
        bool, typer.Option("--tls", help="speak TLS; the next three options imply it")
    ] = False,
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM: whom to trust, instead of public authorities")
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(help="PEM: certificate of this client (mTLS)")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="PEM: its key")] = None,
) -> None:
    """Talk to a running relay over gRPC; Ctrl-C interrupts an answer.

    Where the relay asks for keys, put one into the environment variable RTRELAY_KEY.
    """
    from relay.commands.chat import ChatError
    from relay.commands.chat import chat as run_chat
    from relay.commands.client_tls import ClientTls

    way = ClientTls(tls, ca_file, cert_file, key_file)
    talk = run_chat(_out, address, model, message, with_timeline=timeline, tls=way)
    try:
        status = uvloop.run(talk)
    except ChatError as error:
        raise _fail(str(error)) from None
    raise typer.Exit(status)


@app.command()
def top(
    url: Annotated[str, typer.Option(help="of the admin listener")] = "http://127.0.0.1:8081",
    token: Annotated[
        str,
        typer.Option(
            help="of an administrator, where the relay asks for one; the environment variable is"
            " seen by fewer people than an option",
            envvar="RTRELAY_ADMIN_TOKEN",
            show_envvar=True,
        ),
    ] = "",
    interval: Annotated[
        float, typer.Option(min=0.2, max=3600, help="seconds between two readings")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="print one frame of two readings and leave")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="for programs; without --once a line a reading")
    ] = False,
    sort: Annotated[
        str, typer.Option(help="targets by trouble, name, rate, errors, p50, p99, flight")
    ] = "trouble",
    ca_file: Annotated[
        Path | None, typer.Option(help="PEM: whom to trust, instead of public authorities")
    ] = None,
    cert_file: Annotated[
        Path | None, typer.Option(help="PEM: certificate of this client (mTLS)")
    ] = None,
    key_file: Annotated[Path | None, typer.Option(help="PEM: its key")] = None,
) -> None:
    """Watch a running relay: what is wrong now, targets, hedges, pools, workers. q leaves."""
    from relay.commands.top import Wish
    from relay.commands.top import top as run_top
    from relay.commands.top_feed import Place, TopError

    place = Place(url, token, ca_file, cert_file, key_file)
    try:
        status = uvloop.run(run_top(place, Wish(interval, once, as_json, sort)))
    except TopError as error:
        raise _fail(str(error)) from None
    raise typer.Exit(status)


@app.command()
def report(
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="YAML file of the relay: its store and `objectives`"),
    ] = None,
    from_logs: Annotated[
        list[Path] | None,
        typer.Option(help="log of a relay without a store, - for standard input; repeatable"),
    ] = None,
    database: Annotated[
        Path | None, typer.Option(help="a copy of an SQLite store, instead of the store itself")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="2026-11-02 (UTC), or a time ago: 4w, the default; of a log all of it"),
    ] = None,
    until: Annotated[str | None, typer.Option(help="as --since; not included")] = None,
    by: Annotated[str, typer.Option(help="a part for each alias, team or key")] = "",
    where: Annotated[
        list[str] | None,
        typer.Option(help="DIMENSION=VALUE, like team=voice or alias=fast; repeatable"),
    ] = None,
    time_zone: Annotated[str, typer.Option(help="whose days and weeks: Europe/Berlin")] = "UTC",
    objective: Annotated[
        float | None, typer.Option(help="percent of generations, instead of the file's objectives")
    ] = None,
    within: Annotated[
        float | None, typer.Option(help="milliseconds in which they get their first content")
    ] = None,
    dead_air: Annotated[
        float, typer.Option(min=1, help="milliseconds beyond which a wait is dead air")
    ] = 1500.0,
    file_format: Annotated[
        str, typer.Option("--format", help="md, html, json; else by the file's name")
    ] = "",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else printed")] = None,
) -> None:
    """Tell of weeks: error budget, providers, dead air, what hedges cost and what they bought."""
    from relay.commands.report import ReportError, StoreUnavailable, UsageError, Wish
    from relay.commands.report import report as run_report
    from relay.config import ConfigError

    wish = Wish(
        config,
        from_logs or (),
        database,
        since,
        until,
        by,
        where or (),
        time_zone,
        objective,
        within,
        dead_air,
        file_format,
        output,
    )
    try:
        told = run_report(wish, time.time_ns() // 1000)
    except (ReportError, ConfigError, UsageError, StoreUnavailable, OSError) as error:
        raise _fail(str(error)) from None
    if told:
        typer.echo(told, err=True)


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__, highlight=False)


def main() -> None:
    """Entry point of the console script."""
    own_the_process()
    app()


if __name__ == "__main__":
    main()
