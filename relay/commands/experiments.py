"""`relay experiments`: what the arms of experiments did, and which arm somebody is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from relay.commands.experiments_report import ExperimentsError, Wish, copies_made, made
from relay.commands.own_acts import tell
from relay.commands.store_options import AsJson, ConfigPath, Database, Since, Until, wall_us
from relay.config import Config, ConfigError, load
from relay.config.model import near
from relay.content import GenerateRequest, Policy
from relay.governance import audit_actions as actions
from relay.policy.experiments import Experiments
from relay.store.arm_rows import ArmRow
from relay.store.arm_store import ArmStore, delete_in, write_in
from relay.store.base import StoreUnavailable
from relay.store.engine import check_schema, engine_for, writing

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
    _written(made, wish)


@app.command()
def shadows(
    names: Annotated[
        list[str] | None, typer.Argument(help="shadows; none: all in the range")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML file of the relay: its store")
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
    """Compare copies with what they are copies of: failures, time, cost, length, likeness."""
    _written(
        copies_made,
        Wish(names or (), config, (), database, since, until, confidence, file_format, output),
    )


def _written(make: Callable[[Wish, int], str], wish: Wish) -> None:
    try:
        text = make(wish, wall_us())
        if wish.output is not None:
            wish.output.write_text(text, encoding="utf-8")
    except (OperationalError, ProgrammingError) as error:
        raise _fail(f"the store cannot be read: {error.orig}") from None
    except (ExperimentsError, ConfigError, StoreUnavailable, OSError) as error:
        raise _fail(str(error)) from None
    if wish.output is None:
        typer.echo(text, nl=False)


@app.command()
def assign(
    experiment: str,
    unit: Annotated[
        str, typer.Argument(help="a session, user, key or tenant: what it is sticky to")
    ],
    config: ConfigPath,
    tenant: Annotated[
        str, typer.Option(help="with keys: whose session or user it is, a team's id")
    ] = "",
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
        key_id=unit if row.sticky == "key" else tenant,  # any: with keys, tenants are teams
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


@app.command()
def stops(config: ConfigPath, as_json: AsJson = False) -> None:
    """List the arms that do not run, and why."""
    loaded, engine = _opened(config)
    try:
        rows = ArmStore(engine).all()
    except StoreUnavailable as error:
        raise _fail(str(error)) from None
    finally:
        engine.dispose()
    shown = [row for row in rows if _holds(loaded, row)]
    if as_json:
        typer.echo(orjson.dumps([row._asdict() for row in shown]).decode())
        return
    for row in shown:
        at = datetime.fromtimestamp(row.at_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M")
        why = f"{row.respect}: {row.in_arm} in the arm, {row.in_control} in the control"
        typer.echo(f"{row.experiment}  {row.arm}  {at} (UTC)  {why}")
    if not shown:
        typer.echo("every arm runs")


@app.command()
def stop(experiment: str, arm: str, config: ConfigPath) -> None:
    """Stop an arm: its traffic goes to the control, in all workers, within seconds."""
    loaded, engine = _opened(config)
    try:
        row = _row_of(loaded, experiment, arm)
        detail = {"experiment": experiment, "arm": arm, "respect": row.respect}
        tell(loaded, engine, actions.ARM_STOPPED, detail)
        with writing(engine) as connection:
            write_in(connection, row)
    except StoreUnavailable as error:
        raise _fail(str(error)) from None
    finally:
        engine.dispose()
    typer.echo(f"{arm} of {experiment} is stopped")


@app.command()
def resume(experiment: str, arm: str, config: ConfigPath) -> None:
    """Let an arm run again, judged anew, in all workers, within seconds."""
    loaded, engine = _opened(config)
    try:
        _row_of(loaded, experiment, arm)
        tell(loaded, engine, actions.ARM_RESUMED, {"experiment": experiment, "arm": arm})
        with writing(engine) as connection:
            is_found = delete_in(connection, experiment, arm)
    except StoreUnavailable as error:
        raise _fail(str(error)) from None
    finally:
        engine.dispose()
    if not is_found:
        raise _fail(f"{arm} of {experiment} is not stopped")
    typer.echo(f"{arm} of {experiment} runs again")


def _opened(path: Path) -> tuple[Config, Engine]:
    """The file, and its store."""
    try:
        loaded = load(path)
    except ConfigError as error:
        raise _fail(str(error)) from None
    if loaded.store is None:
        raise _fail("there is no `store`: which arms are stopped is known to workers alone")
    engine = engine_for(loaded.store.url.get_secret_value())
    try:
        check_schema(engine)
    except StoreUnavailable as error:
        raise _fail(str(error)) from None
    return loaded, engine


def _holds(config: Config, row: ArmRow) -> bool:
    found = config.policies.experiments.get(row.experiment)
    return found is not None and any(
        (arm.name, arm.use, found.edition) == (row.arm, row.use, row.edition) for arm in found.arms
    )


def _row_of(config: Config, experiment: str, arm: str) -> ArmRow:
    rows = config.policies.experiments
    row = rows.get(experiment)
    if row is None:
        raise _fail(f"there is no experiment {experiment!r}{near(experiment, rows)}")
    uses = {one.name: one.use for one in row.arms}
    if arm not in uses:
        raise _fail(f"{experiment} has no arm {arm!r}{near(arm, uses)}")
    if arm == row.control_arm:
        raise _fail(f"{arm} is the control of {experiment}: there is nothing to put in its place")
    return ArmRow(experiment, arm, row.edition, uses[arm], "told", 0, 0, 0.0, wall_us())


def _fail(text: str) -> typer.Exit:
    typer.echo(f"relay: {text}", err=True)
    return typer.Exit(1)
