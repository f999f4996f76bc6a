"""`relay experiments`: what the arms of experiments did, and which arm somebody is in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from sqlalchemy.exc import OperationalError, ProgrammingError

from relay.commands.experiments_report import ExperimentsError, Wish, made
from relay.commands.store_options import AsJson, ConfigPath, Database, Since, Until, wall_us
from relay.config import ConfigError, load
from relay.config.model import near
from relay.content import GenerateRequest, Policy
from relay.policy.experiments import Experiments
from relay.store.base import StoreUnavailable

app = typer.Typer(no_args_is_help=True, help="what the arms of experiments did")


@app.callback()
def group() -> None:
    """What the arms of experiments did, and which arm somebody is in."""


@app.command()
def report(
    names: Annotated[
        list[str] | None, typer.Argument(help="experiments; none: all in the range")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="YAML file of the relay: its store, and the weights"),
    ] = None,
    from_logs: Annotated[
        list[Path] | None,
        typer.Option(help="log of a relay without a store, - for standard input; repeatable"),
    ] = None,
    database: Database = None,
    since: Since = None,
    until: Until = None,
    confidence: Annotated[float, typer.Option(help="percent")] = 95.0,
    file_format: Annotated[
        str, typer.Option("--format", help="md, json; else by the file's name")
    ] = "",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else printed")] = None,
) -> None:
    """Compare arms: failures, first content, cost, what clients left, feedback, with bounds."""
    wish = Wish(
        names or (),
        config,
        from_logs or (),
        database,
        since,
        until,
        confidence,
        file_format,
        output,
    )
    try:
        text = made(wish, wall_us())
        if output is not None:
            output.write_text(text, encoding="utf-8")
    except (OperationalError, ProgrammingError) as error:
        raise _fail(f"the store cannot be read: {error.orig}") from None
    except (ExperimentsError, ConfigError, StoreUnavailable, OSError) as error:
        raise _fail(str(error)) from None
    if output is None:
        typer.echo(text, nl=False)


@app.command()
def assign(
    experiment: str,
    unit: Annotated[
        str, typer.Argument(help="a session, user, key or tenant: what it is sticky to")
    ],
    config: ConfigPath,
    tenant: Annotated[str, typer.Option(help="whose session or user it is: a team's id")] = "",
    as_json: AsJson = False,
) -> None:
    """Tell which arm somebody is in by the file, whether or not it runs now; guard rails aside."""
    try:
        rows = load(config).policies.experiments
    except ConfigError as error:
        raise _fail(str(error)) from None
    row = rows.get(experiment)
    if row is None:
        raise _fail(f"there is no experiment {experiment!r}{near(experiment, rows)}")
    if row.sticky == "none":
        raise _fail(f"{experiment} is sticky to nothing: each request is divided by itself")
    running = row.model_copy(update={"enabled": True, "starts_at": None, "ends_at": None})
    policy = Policy(
        tenant=unit if row.sticky == "tenant" else tenant,
        key_id=unit if row.sticky == "key" else "",
        session_id=unit if row.sticky == "session" else "",
    )
    request = GenerateRequest(
        row.model, (), user=unit if row.sticky == "user" else "", policy=policy
    )
    found = Experiments({experiment: running}).assign(row.model, request, 0.0, lambda: 0.0)
    if as_json:
        value = {
            "experiment": experiment,
            "arm": None if found is None else found.arm,
            "use": row.model if found is None else found.use,
            "unit": None if found is None else found.unit,
        }
        typer.echo(orjson.dumps(value).decode())
    elif found is None:
        typer.echo(f"{unit} does not take part, and gets {row.model}")
    else:
        typer.echo(f"{unit} is in arm {found.arm}, and gets {found.use}")


def _fail(text: str) -> typer.Exit:
    typer.echo(f"relay: {text}", err=True)
    return typer.Exit(1)
