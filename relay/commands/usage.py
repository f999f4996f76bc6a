"""`relay usage`: add it up, hand it out, hold it against an invoice, delete it.

`summary`, `export` and `reconcile` only read, also while the relay serves, and also a copy. That
the store itself was exported is in the audit log.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import orjson
import typer
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, ProgrammingError

from relay.administration.usage import told_of
from relay.commands.moments import length_s, moment_us
from relay.commands.own_acts import tell
from relay.commands.store_options import AsJson, ConfigPath, Database, Since, Until, wall_us
from relay.commands.usage_view import invoice_data, show_invoice, show_usage
from relay.config import Config, ConfigError, StoreConfig, load
from relay.governance import audit_actions as actions
from relay.governance.invoice import InvoiceError, compare, mapping_of, read_invoice
from relay.governance.money import micro_from_dollars
from relay.governance.periods import start_s, zone
from relay.store.audit_reader import reader_for
from relay.store.base import StoreUnavailable
from relay.store.engine import check_schema, engine_for, reading
from relay.store.reconcile import ours, providers
from relay.store.retention import checked_forget, counted_before, forget, purge
from relay.store.usage_export import Shape, export_rows
from relay.store.usage_fields import DIMENSIONS, Selection, UsageError, checked
from relay.store.usage_files import FORMATS, pieces
from relay.store.usage_names import by_id
from relay.store.usage_query import MEASURES, UsageQuery, as_data, ask

app = typer.Typer(no_args_is_help=True, help="what was used and what it cost")
_out = Console()

Where = Annotated[
    list[str] | None,
    typer.Option(help="DIMENSION=VALUE, like team=voice or label:user=u1; repeatable"),
]
Zone = Annotated[str, typer.Option(help="whose days and hours: Europe/Berlin")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


@contextlib.contextmanager
def _told(status: int = 1) -> Iterator[None]:
    """What is in the way, as one line on standard error."""
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        typer.echo(f"relay: the store cannot be read: {error.orig}", err=True)
    except (
        ConfigError,
        StoreUnavailable,
        UsageError,
        InvoiceError,
        OSError,
        UnicodeError,
    ) as error:
        typer.echo(f"relay: {error}", err=True)
    else:
        return
    raise typer.Exit(status) from None


def _url(config: Config) -> str:
    if config.store is None:
        raise ConfigError("there is no `store`: nothing is written down without one")
    return config.store.url.get_secret_value()


@contextlib.contextmanager
def _reader(path: Path, database: Path | None) -> Iterator[Engine]:
    url = _url(load(path)) if database is None else f"sqlite:///{database}"
    engine = reader_for(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _selection(since: str | None, until: str | None, where: list[str] | None) -> Selection:
    """
    Raises:
        UsageError
    """
    now_us = wall_us()
    try:
        since_us = None if since is None else moment_us(since, now_us)
        until_us = None if until is None else moment_us(until, now_us)
    except ValueError as error:
        raise UsageError(str(error)) from None
    wanted: dict[str, tuple[str, ...]] = {}
    for text in where or ():
        name, sign, value = text.partition("=")
        if not sign:
            raise UsageError(f"--where {text!r}: DIMENSION=VALUE is expected")
        checked(name, is_filter=True)
        wanted[name] = (*wanted.get(name, ()), value)
    return Selection(since_us, until_us, wanted)


def _print_json(value: Any) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


@app.command()
def summary(
    config: ConfigPath,
    by: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(DIMENSIONS)}; repeatable, or with commas")
    ] = None,
    since: Since = "30d",
    until: Until = None,
    where: Where = None,
    time_zone: Zone = "UTC",
    order: Annotated[
        str, typer.Option(help=f"a dimension, or {', '.join(MEASURES)}; -NAME: largest first")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="groups")] = 100,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Add up cost, tokens, requests and times."""
    names = tuple(name for text in by or () for name in text.split(",") if name)
    with _told(), _reader(config, database) as engine, reading(engine) as connection:
        selection = by_id(connection, _selection(since, until, where))
        report = ask(connection, UsageQuery(names, selection, time_zone, order, limit))
    if as_json:
        _print_json({**as_data(report), "time_zone": time_zone})
    else:
        show_usage(_out, report, names)


@app.command()
def export(
    config: ConfigPath,
    file_format: Annotated[str, typer.Option("--format", help=", ".join(FORMATS))] = "csv",
    rows: Annotated[str, typer.Option(help="attempts, or generations with theirs")] = "attempts",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else printed")] = None,
    since: Since = None,
    until: Until = None,
    where: Where = None,
    has_open: Annotated[bool, typer.Option("--open", help="what is not over too")] = False,
    database: Database = None,
) -> None:
    """Write every row, however many there are."""
    with _told():
        shape: Shape
        if rows == "attempts":
            shape = "attempts"
        elif rows == "generations":
            shape = "generations"
        else:
            raise UsageError("--rows: attempts or generations is expected")
        with _reader(config, database) as engine, contextlib.ExitStack() as stack:
            with reading(engine) as connection:
                selection = by_id(connection, _selection(since, until, where))
            count = [0]
            pages = _counted(export_rows(engine, selection, shape, has_open=has_open), count)
            made = pieces(pages, shape, file_format)
            first = next(made)  # what is wrong with the question is told before there is a file
            file: BinaryIO = sys.stdout.buffer
            if output is not None:
                file = stack.enter_context(output.open("xb"))  # never over another
            if database is None:
                _tell_export(config, {**told_of(selection), "format": file_format, "rows": shape})
            file.write(first)
            for piece in made:
                file.write(piece)
            file.flush()
    typer.echo(f"{count[0]} rows", err=True)


def _tell_export(path: Path, detail: dict[str, Any]) -> None:
    loaded = load(path)
    with _writer(loaded) as engine:
        tell(loaded, engine, actions.USAGE_EXPORTED, detail)


def _counted(
    pages: Iterator[list[dict[str, Any]]], count: list[int]
) -> Iterator[list[dict[str, Any]]]:
    for page in pages:
        count[0] += len(page)
        yield page


@app.command()
def reconcile(
    invoice: Annotated[Path, typer.Argument(help="CSV of the provider, with a header")],
    config: ConfigPath,
    provider: Annotated[str, typer.Option(help="the row of `providers` that it is for")],
    preset: Annotated[
        str, typer.Option(help="plain, openai, anthropic: what columns are")
    ] = "plain",
    column: Annotated[
        list[str] | None, typer.Option(help="FIELD=COLUMN, like amount=cost_usd; repeatable")
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="THEIRS=OURS, a model's name; repeatable")
    ] = None,
    time_zone: Zone = "UTC",
    since: Annotated[str | None, typer.Option(help="first day; else the invoice's")] = None,
    until: Annotated[str | None, typer.Option(help="last day, included")] = None,
    where: Where = None,
    tolerance: Annotated[str, typer.Option(help="percent of ours that is fine")] = "0",
    tolerance_usd: Annotated[str, typer.Option(help="dollars a line that are fine")] = "0",
    shows_all: Annotated[bool, typer.Option("--all", help="lines that agree too")] = False,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Hold an invoice against our accounts, by day and model.

    Status 0: all within the tolerance; 1: something differs; 2: it cannot be told, or rows of the
    invoice could not be read.
    """
    with _told(2):
        named, renamed = _pairs("--column", column), _pairs("--rename", rename)
        percent, micro = _percent(tolerance), _micro("--tolerance-usd", tolerance_usd)
        try:
            where_days = zone(time_zone)
        except ValueError as error:
            raise UsageError(f"--time-zone: {error}") from None
        mapping = mapping_of(preset, named)
        with invoice.open(encoding="utf-8-sig", newline="") as file:
            read = read_invoice(file, mapping, where=where_days, named=named)
        days = sorted(day for day, _ in read.lines)
        if not days and (since is None or until is None):
            raise InvoiceError(
                f"no row of {invoice.name} can be read"
                + (f"; {read.bad[0]}" if read.bad else ": it has a header alone")
            )
        first = _day("--since", since) if since is not None else days[0]
        last = _day("--until", until) if until is not None else days[-1]
        read.lines = {key: one for key, one in read.lines.items() if first <= key[0] <= last}
        with _reader(config, database) as engine, reading(engine) as connection:
            asked = by_id(connection, _selection(None, None, where))
            selection = Selection(
                _begin_us(first, time_zone),
                _begin_us(last + timedelta(days=1), time_zone),
                asked.where,
            )
            mine = ours(connection, provider, selection, time_zone)
            known = [] if mine else providers(connection, selection)
        found = compare(
            read, mine, tolerance_percent=percent, tolerance_micro=micro, rename=renamed
        )
    if as_json:
        _print_json(invoice_data(found))
    else:
        show_invoice(_out, found, shows_all=shows_all)
        if not mine:
            others = ", ".join(known) or "none"
            typer.echo(f"there is nothing of {provider!r} on these days; there are: {others}")
    raise typer.Exit(found.status)


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    found = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise UsageError(f"{option} {text!r}: NAME=VALUE is expected")
        found[name] = value
    return found


def _percent(text: str) -> Decimal:
    try:
        found = Decimal(text.strip().removesuffix("%"))
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or found < 0:
        raise UsageError(f"--tolerance {text!r}: a percentage from 0 is expected")
    return found


def _micro(option: str, text: str) -> int:
    try:
        return micro_from_dollars(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _day(option: str, text: str) -> Any:
    try:
        return datetime.strptime(text.strip(), "%Y-%m-%d").date()
    except ValueError:
        raise UsageError(f"{option} {text!r}: a day like 2026-11-27 is expected") from None


def _begin_us(day: Any, time_zone: str) -> int:
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC).replace(tzinfo=zone(time_zone))
    return start_s("day", time_zone, int(noon.timestamp()) * 1_000_000) * 1_000_000


# --- what deletes ---------------------------------------------------------------------------


@contextlib.contextmanager
def _writer(config: Config) -> Iterator[Engine]:
    store = config.store or StoreConfig()
    engine = engine_for(_url(config), pool_size=1, durability=store.durability)
    try:
        check_schema(engine)
        yield engine
    finally:
        engine.dispose()


@app.command("purge")
def purge_command(
    config: ConfigPath,
    older_than: Annotated[str, typer.Option(help="like 90d; one day at least")],
    yes: Yes = False,
) -> None:
    """Delete old generations and attempts for good. What budgets were charged stays."""
    with _told():
        try:
            seconds = length_s(older_than)
        except ValueError as error:
            raise UsageError(f"--older-than: {error}") from None
        if seconds < 86_400:
            raise UsageError("--older-than: one day (1d) is the least")
        loaded = load(config)
        before_us = wall_us() - round(seconds) * 1_000_000
        with _writer(loaded) as engine:
            if not yes:
                with reading(engine) as connection:
                    count = counted_before(connection, before_us)
                typer.confirm(f"delete {count} generations for good?", abort=True)
            tell(loaded, engine, actions.USAGE_PURGED, {"before_us": before_us})
            count = purge(engine, before_us)
    typer.echo(f"{count} generations deleted")


@app.command("forget")
def forget_command(
    config: ConfigPath,
    key: Annotated[str, typer.Option(help="id or name")] = "",
    session: Annotated[str, typer.Option(help="its id")] = "",
    label: Annotated[str, typer.Option(help="NAME=VALUE, like user=u1")] = "",
    since: Since = None,
    until: Until = None,
    yes: Yes = False,
) -> None:
    """Blank labels, session, turn and trace of somebody's generations; money stays.

    Backups, exports and the log of the process are not touched.
    """
    with _told():
        where = [f"key={key}"] if key else []
        where += [f"session={session}"] if session else []
        if label and "=" not in label:
            raise UsageError("--label: NAME=VALUE is expected")
        where += [f"label:{label}"] if label else []
        selection = _selection(since, until, where)
        checked_forget(selection)
        loaded = load(config)
        with _writer(loaded) as engine:
            with reading(engine) as connection:
                selection = by_id(connection, selection)
                count = ask(connection, UsageQuery(selection=selection)).total
            found = (count["requests"] or 0) + (count["open"] or 0)
            if not yes:
                typer.confirm(f"forget who is behind {found} generations?", abort=True)
            detail = {"by": sorted(selection.where), "key": list(selection.where.get("key", ()))}
            tell(loaded, engine, actions.USAGE_FORGOTTEN, detail)
            changed = forget(engine, selection)
    typer.echo(f"{changed} generations blanked")
