"""`relay report`: weeks of a relay on one page, out of its accounts or its log."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args

import orjson
from sqlalchemy.exc import OperationalError, ProgrammingError

from relay.commands.moments import moment_us
from relay.config import Config, load
from relay.governance.periods import zone
from relay.observability.report import from_log, from_store
from relay.observability.report.build import Builder, By, Report, Settings
from relay.observability.report.data import as_data
from relay.observability.report.html import html
from relay.observability.report.markdown import markdown
from relay.observability.report.objectives import Objective
from relay.observability.report.page import page, title
from relay.observability.report.rows import Generation, SourceNotes
from relay.observability.report.words import lines
from relay.store.audit_reader import reader_for
from relay.store.base import StoreUnavailable
from relay.store.engine import reading
from relay.store.usage_fields import Selection, UsageError, checked
from relay.store.usage_names import by_id

FORMATS: Final = ("md", "html", "json")
Format = Literal["md", "html", "json"]
OPTION_OBJECTIVE: Final = "objective"
_LOG_FIELDS: Final[dict[str, Callable[[dict[str, Any]], Sequence[str]]]] = {
    "alias": lambda row: [row.get("asked") or ""],
    "key": lambda row: [row.get("key") or ""],
    "surface": lambda row: [row.get("frontend") or ""],
    "tag": lambda row: row.get("tags") or [],
}
"""What lines of the log can be chosen by, beside `label:NAME`."""


class ReportError(Exception):
    """It cannot be made; the message names the option."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Options of the command line."""

    config: Path | None = None
    logs: Sequence[Path] = ()
    database: Path | None = None
    since: str | None = None
    until: str | None = None
    by: str = ""
    where: Sequence[str] = ()
    time_zone: str = "UTC"
    objective: float | None = None
    within_ms: float | None = None
    dead_air_ms: float = 1500.0
    file_format: str = ""
    output: Path | None = None


def report(wish: Wish, now_us: int) -> str:
    """Make it and write it; what is to be told on standard error, empty for nothing.

    Raises:
        ReportError, ConfigError, UsageError, StoreUnavailable, OSError
    """
    file_format = _format(wish)
    if wish.output is not None and not wish.output.parent.is_dir():
        raise ReportError(f"--output: there is no folder {wish.output.parent}")
    try:
        found = made(wish, now_us)
    except (OperationalError, ProgrammingError) as error:
        raise ReportError(f"the store cannot be read: {error.orig}") from None
    unreadable = found.notes.unreadable
    if unreadable and not found.notes.readable:
        names = ", ".join(map(str, wish.logs))
        raise ReportError(
            f"--from-logs {names}: {lines(unreadable)} could not be read, and no other is there (a"
            " log is what `relay serve` writes to standard error: relay serve 2> relay.log)"
        )
    told = [f"{lines(unreadable)} of the log could not be read"] if unreadable else []
    text = _text(found, file_format)
    if wish.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write(wish.output, text)
        told.insert(0, f"{found.whole.totals.generations} generations, {wish.output}")
    return "\n".join(told)


def made(wish: Wish, now_us: int) -> Report:
    """
    Raises:
        ReportError, ConfigError, UsageError, StoreUnavailable, OSError
    """
    if wish.by not in get_args(By):
        raise ReportError(f"--by: {', '.join(filter(None, get_args(By)))} are expected")
    try:
        where = zone(wish.time_zone)
    except ValueError as error:
        raise ReportError(f"--time-zone: {error}") from None
    since_us, until_us = (
        _moment("--since", wish.since, now_us),
        _moment("--until", wish.until, now_us),
    )
    if since_us is not None and since_us >= (now_us if until_us is None else until_us):
        raise ReportError("--since: it is not before --until")
    if wish.logs and wish.database is not None:
        raise ReportError("--from-logs and --database do not go together")
    config = None if wish.config is None else load(wish.config)
    settings = Settings(
        objectives=_objectives(wish, config),
        dead_air_ms=wish.dead_air_ms,
        by=cast("By", wish.by),
        where=where,
    )
    builder, notes = Builder(settings), SourceNotes()
    chosen = _chosen(wish.where)
    end_us = now_us if until_us is None else min(until_us, now_us)  # nobody knows what comes
    if wish.logs:
        source = _of_logs(wish, notes, since_us, end_us, chosen)
    else:
        if since_us is None:
            since_us = now_us - 28 * 86_400_000_000
        source = _of_store(wish, config, notes, Selection(since_us, end_us, chosen))
    for one in source:
        builder.add(one)
    if wish.logs and until_us is None and builder.last_us is not None:
        end_us = builder.last_us + 1  # a log ends when it ends
    return builder.done(since_us, end_us, notes)


# --- what is asked for ----------------------------------------------------------------------


def _format(wish: Wish) -> Format:
    name = wish.file_format
    if not name and wish.output is not None:
        name = {".html": "html", ".htm": "html", ".json": "json"}.get(wish.output.suffix, "md")
    name = name or "md"
    if name not in FORMATS:
        raise ReportError(f"--format: {', '.join(FORMATS)} are expected")
    return cast("Format", name)


def _moment(option: str, text: str | None, now_us: int) -> int | None:
    if text is None:
        return None
    try:
        return moment_us(text, now_us)
    except ValueError as error:
        raise ReportError(f"{option}: {error}") from None


def _objectives(wish: Wish, config: Config | None) -> tuple[Objective, ...]:
    if (wish.objective is None) != (wish.within_ms is None):
        raise ReportError("--objective and --within go together")
    if wish.objective is not None and wish.within_ms is not None:
        if not 0 < wish.objective < 100:
            raise ReportError("--objective: a percentage above 0 and below 100 is expected")
        if not 0 < wish.within_ms <= 3_600_000:
            raise ReportError("--within: milliseconds above 0, an hour at most, are expected")
        return (Objective(OPTION_OBJECTIVE, wish.objective, wish.within_ms),)
    if config is None:
        return ()
    return tuple(
        Objective(name, row.percent, row.first_content_ms, row.aliases)
        for name, row in config.objectives.items()
    )


def _chosen(where: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in where:
        name, sign, value = text.partition("=")
        if not sign:
            raise ReportError(f"--where {text!r}: DIMENSION=VALUE is expected")
        checked(name, is_filter=True)
        found[name] = (*found.get(name, ()), value)
    return found


# --- where it is read from ------------------------------------------------------------------


def _of_store(
    wish: Wish, config: Config | None, notes: SourceNotes, selection: Selection
) -> Iterator[Generation]:
    if wish.database is not None:
        if not wish.database.is_file():
            raise ReportError(f"--database: there is no file {wish.database}")
        url = f"sqlite:///{wish.database}"
    elif config is None:
        raise ReportError("-c relay.yaml, --database FILE or --from-logs FILE is needed")
    elif config.store is None:
        raise ReportError("there is no `store`: give it the log, --from-logs FILE")
    else:
        url = config.store.url.get_secret_value()
    engine = reader_for(url)
    try:
        with reading(engine) as connection:
            selection = by_id(connection, selection)
        yield from from_store.generations_of(engine, selection, notes)
    finally:
        engine.dispose()


def _of_logs(
    wish: Wish,
    notes: SourceNotes,
    since_us: int | None,
    until_us: int,
    chosen: dict[str, tuple[str, ...]],
) -> Iterator[Generation]:
    if wish.by == "team" or "team" in chosen:
        raise ReportError("--by, --where: a log knows no teams; alias, key, tag and labels it does")
    for name in chosen:
        if name not in _LOG_FIELDS and not name.startswith("label:"):
            known = ", ".join((*_LOG_FIELDS, "label:NAME"))
            raise ReportError(f"--where: of a log only {known} can be asked for, not {name}")

    def wanted(row: dict[str, Any]) -> bool:
        return all(any(each in values for each in _log_values(row, name)) for name, values in rows)

    rows = list(chosen.items())
    return from_log.generations_of(
        _lines(wish.logs), notes, since_us=since_us, until_us=until_us, wanted=wanted
    )


def _log_values(row: dict[str, Any], name: str) -> Sequence[str]:
    if name.startswith("label:"):
        return [str((row.get("labels") or {}).get(name[6:], ""))]
    return _LOG_FIELDS[name](row)


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        if str(path) == "-":
            yield from sys.stdin.buffer
            continue
        try:
            with path.open("rb") as lines:
                yield from lines
        except OSError as error:
            raise ReportError(f"--from-logs {path}: cannot be read: {error.strerror}") from None


# --- how it is written ----------------------------------------------------------------------


def _text(found: Report, file_format: Format) -> str:
    if file_format == "json":
        return orjson.dumps(as_data(found), option=orjson.OPT_INDENT_2).decode() + "\n"
    blocks = page(found)
    return html(title(found), blocks) if file_format == "html" else markdown(blocks)


def _write(path: Path, text: str) -> None:
    """Whole or not at all; over an older report."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


__all__ = ["ReportError", "StoreUnavailable", "UsageError", "Wish", "report"]
