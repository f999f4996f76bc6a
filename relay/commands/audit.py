"""`relay audit`: look into the audit log, verify it, anchor it, hand it out.

`verify` and `list` only read, also of a copy, and hold a few thousand entries in memory however
many there are. That the store's own log was exported is in it.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import orjson
import typer
from rich.console import Console
from sqlalchemy import Engine

from relay.auditing import audit_of, checkpoint_of, keys_of
from relay.commands.audit_view import anchor_words, report_data, report_lines, show_rows
from relay.commands.moments import moment_us
from relay.commands.own_acts import tell
from relay.commands.store_options import AsJson, ConfigPath, Database, Since, Until, wall_us
from relay.config import Config, ConfigError, StoreConfig, load
from relay.governance import audit_actions as actions
from relay.governance.audit_anchor import AnchorError, read
from relay.governance.audit_chain import EMPTY, Anchor
from relay.governance.audit_checkpoint import AnchorRefused
from relay.governance.audit_export import (
    Header,
    NoExport,
    header_line,
    read_header,
    read_row,
    row_line,
)
from relay.governance.audit_verify import (
    CANNOT,
    AnchorLine,
    AnchorSource,
    Report,
    Verifier,
)
from relay.store.audit_reader import reader_for
from relay.store.audit_store import Selection, read_head, read_rows
from relay.store.base import StoreUnavailable
from relay.store.engine import check_schema, engine_for, reading

app = typer.Typer(no_args_is_help=True, help="the log of who did what, and who was refused")
_out = Console()

Actor = Annotated[str, typer.Option(help="admin:ID, key:ID, address:IP, relay")]
Action = Annotated[str, typer.Option(help="like key.denied; key.* for all of them")]
Organisation = Annotated[str, typer.Option(help="its id")]
Outcome = Annotated[str, typer.Option(help="done, denied, failed")]


@contextlib.contextmanager
def _told(status: int = 1) -> Iterator[None]:
    """What is in the way, as one line on standard error."""
    try:
        yield
    except (ConfigError, StoreUnavailable, AnchorError, AnchorRefused, NoExport, OSError) as error:
        typer.echo(f"relay: {error}", err=True)
        raise typer.Exit(status) from None


def _load(path: Path) -> Config:
    config = load(path)
    try:
        audit_of(config)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return config


@contextlib.contextmanager
def _reader(config: Config, database: Path | None) -> Iterator[Engine]:
    assert config.store is not None  # noqa: S101 - as `audit` says
    url = config.store.url.get_secret_value() if database is None else f"sqlite:///{database}"
    engine = reader_for(url)
    try:
        yield engine
    finally:
        engine.dispose()


def _selection(
    since: str | None, until: str | None, actor: str, action: str, organisation: str, outcome: str
) -> Selection:
    now_us = wall_us()
    try:
        since_us = None if since is None else moment_us(since, now_us)
        until_us = None if until is None else moment_us(until, now_us)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return Selection(since_us, until_us, actor, action, organisation, outcome)


@app.command("list")
def list_entries(
    config: ConfigPath,
    since: Since = None,
    until: Until = None,
    actor: Actor = "",
    action: Action = "",
    organisation: Organisation = "",
    outcome: Outcome = "",
    limit: Annotated[int, typer.Option(min=1, help="the newest ones")] = 50,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Show entries, the newest last."""
    with _told():
        selection = _selection(since, until, actor, action, organisation, outcome)
        with _reader(_load(config), database) as engine, reading(engine) as connection:
            newest = list(read_rows(connection, selection, newest_first=True, limit=limit))
    rows = newest[::-1]
    if as_json:
        for row in rows:
            typer.echo(row_line(row).decode())
    elif not show_rows(_out, rows):
        typer.echo("no entries")


@app.command()
def verify(
    config: ConfigPath,
    file: Annotated[
        Path | None, typer.Option("--file", help="an export instead of the store")
    ] = None,
    database: Database = None,
    anchors: Annotated[
        list[Path] | None,
        typer.Option(help="file of anchors instead of audit.anchor; may be given again"),
    ] = None,
    no_anchors: Annotated[
        bool, typer.Option("--no-anchors", help="look at the chain alone")
    ] = False,
    partial: Annotated[
        bool, typer.Option("--partial", help="an export of chosen entries: each by itself")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say whether the log is as it was written; status 0: yes, 1: no, 2: it cannot be told.

    Tells changed entries, gaps, a cut end, two histories and a wrong key apart.
    """
    began_s = time.monotonic()
    with _told(CANNOT):
        loaded = _load(config)
        sources = [] if no_anchors else _sources(loaded, anchors)
        if file is not None:
            of = f"the export {file.name}"
            with file.open("rb") as opened:
                report = _verify_file(loaded, opened, sources, is_partial=partial)
        else:
            of = "the audit log"
            report = _verify_store(loaded, database, sources)
    took_s = time.monotonic() - began_s
    if as_json:
        typer.echo(orjson.dumps(report_data(report, took_s), option=orjson.OPT_INDENT_2).decode())
    else:
        for line in report_lines(report, of=of):
            typer.echo(line)
        if report.entries > 100_000:
            typer.echo(f"{took_s:.1f} s, {report.entries / took_s:,.0f} entries a second")
    raise typer.Exit(report.status)


def _sources(config: Config, given: list[Path] | None) -> list[AnchorSource]:
    """The anchors, as they are now: before the rows are, which may become more.

    Raises:
        AnchorError: a file is not there. An attacker who takes it away is not to be helped by it.
    """
    if given:
        return [read(path) for path in given]
    path = audit_of(config).anchor
    if path is None:
        return []
    if not Path(path).exists():
        raise AnchorError(
            f"there is no file {path} (audit.anchor): `relay audit checkpoint` makes the first"
            " anchor, --no-anchors goes without"
        )
    return [read(Path(path))]


def _verify_store(config: Config, database: Path | None, sources: list[AnchorSource]) -> Report:
    verifier = Verifier(keys_of(config), sources)
    with _reader(config, database) as engine, reading(engine) as connection:
        head = read_head(connection)
        take = verifier.take
        for row in read_rows(connection):
            take(row)
    return verifier.report(head)


def _verify_file(
    config: Config, file: BinaryIO, sources: list[AnchorSource], *, is_partial: bool
) -> Report:
    header = read_header(file.readline(1 << 16))
    if header.selection and not is_partial:
        raise NoExport("the file has chosen entries only: --partial looks at each by itself")
    own = header.anchor
    if own is None:
        if not header.selection and file.read(1):
            raise NoExport("the file has entries and no anchor of its own")
    else:  # those that were made later say nothing of this file
        sources = [one._replace(lines=_until(one.lines, own.seq)) for one in sources]
        sources.append(AnchorSource("the file's own anchor", [AnchorLine(1, own)]))
    verifier = Verifier(keys_of(config), sources, is_partial=is_partial)
    for number, line in enumerate(file, 2):
        try:
            verifier.take(read_row(line))
        except NoExport as error:
            raise NoExport(f"line {number}: {error}") from None
    return verifier.report(None, has_head=False)


def _until(lines: Iterable[AnchorLine], seq: int) -> Iterator[AnchorLine]:
    return (line for line in lines if line.anchor is None or line.anchor.seq <= seq)


@app.command()
def checkpoint(config: ConfigPath) -> None:
    """Anchor the log's end now, as a worker does every audit.checkpoint_s."""
    with _told():
        loaded = _load(config)
        with _reader(loaded, None) as engine:
            made = checkpoint_of(loaded, engine)
            if made is None:
                raise ConfigError("audit.anchor: no file is named")
            anchor = made.run(wall_us())
    typer.echo("nothing new" if anchor is None else anchor_words(anchor.at_us, anchor.seq))


@app.command()
def export(
    config: ConfigPath,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else printed")] = None,
    since: Since = None,
    until: Until = None,
    actor: Actor = "",
    action: Action = "",
    organisation: Organisation = "",
    outcome: Outcome = "",
    database: Database = None,
) -> None:
    """Write entries as JSON lines with their MACs; `verify --file` looks at such a file.

    That it was done is in the log first, and not in the file; what is exported of a copy is not."""
    with _told():
        loaded = _load(config)
        selection = _selection(since, until, actor, action, organisation, outcome)
        with _reader(loaded, database) as engine, contextlib.ExitStack() as stack:
            file: BinaryIO = sys.stdout.buffer
            if output is not None:
                file = stack.enter_context(output.open("xb"))  # never over another
            count = _export(loaded, engine, selection, file, is_told=database is None)
            file.flush()
    typer.echo(f"{count} entries", err=True)


def _export(
    config: Config, engine: Engine, selection: Selection, file: BinaryIO, *, is_told: bool
) -> int:
    now_us, key = wall_us(), keys_of(config)[0]
    said = {name: value for name, value in selection._asdict().items() if value not in (None, "")}
    count = 0
    with reading(engine) as connection:
        head = read_head(connection) or EMPTY
        if is_told:
            _tell_export(config, said)
        anchor = None if head == EMPTY else Anchor.of(head, now_us, key)
        file.write(header_line(Header(now_us, said, anchor)) + b"\n")
        for row in read_rows(connection, selection):
            file.write(row_line(row) + b"\n")
            count += 1
    return count


def _tell_export(config: Config, said: dict[str, object]) -> None:
    """Before anything is handed out; beside the snapshot that is.

    Raises:
        StoreUnavailable
    """
    store = config.store or StoreConfig()
    url = store.url.get_secret_value()
    engine = engine_for(url, pool_size=1, durability=store.durability)
    try:
        check_schema(engine)
        tell(config, engine, actions.AUDIT_EXPORTED, {"selection": said})
    finally:
        engine.dispose()
