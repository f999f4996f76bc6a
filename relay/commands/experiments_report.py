"""`relay experiments report`: read answers, compare arms, write the page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy import Engine

from relay.commands.moments import moment_us
from relay.config import Config, load
from relay.config.model import near
from relay.observability.experiments import from_log, from_store
from relay.observability.experiments.rows import Notes, Observed
from relay.store.audit_reader import reader_for

FORMATS: Final = ("md", "json")
_DEFAULT_US: Final = 28 * 86_400_000_000
_MISSING: Final = "scipy is needed for bounds and tests: pip install 'rtrelay[experiments]'"


class ExperimentsError(Exception):
    """It cannot be made; the message names the option."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Options of the command line."""

    names: Sequence[str] = ()
    config: Path | None = None
    logs: Sequence[Path] = ()
    database: Path | None = None
    since: str | None = None
    until: str | None = None
    confidence: float = 95.0
    file_format: str = ""
    output: Path | None = None


class _Tools(NamedTuple):
    """Of `relay.observability.experiments.written`."""

    written: Callable[..., str]
    copies_written: Callable[..., str]


def made(wish: Wish, now_us: int) -> str:
    """The text of the report.

    Raises:
        ExperimentsError, ConfigError, StoreUnavailable, OSError
    """
    tools = _tools()
    file_format = _format(wish)
    config, since_us, until_us = _range(wish, now_us)
    notes = Notes()
    found = _observed(wish, config, since_us, until_us, now_us, notes)
    rows = {} if config is None else config.policies.experiments
    return tools.written(
        found, rows, notes, confidence=wish.confidence / 100, is_json=file_format == "json"
    )


def copies_made(wish: Wish, now_us: int) -> str:
    """The text of the report on shadows, out of a store.

    Raises:
        ExperimentsError, ConfigError, StoreUnavailable, OSError
    """
    tools = _tools()
    file_format = _format(wish)
    config, since_us, until_us = _range(wish, now_us)
    engine = _engine(wish, config)
    try:
        found = from_store.copied_in(
            engine,
            now_us - _DEFAULT_US if since_us is None else since_us,
            now_us if until_us is None else until_us,
            Notes(),
        )
    finally:
        engine.dispose()
    for name in wish.names:
        if name not in found:
            raise ExperimentsError(f"there is no copy of a shadow {name!r}{near(name, found)}")
    wanted = {name: found[name] for name in wish.names or found}
    return tools.copies_written(
        wanted, confidence=wish.confidence / 100, is_json=file_format == "json"
    )


def _tools() -> _Tools:
    """
    Raises:
        ExperimentsError: scipy is not there.
    """
    try:
        from relay.observability.experiments.written import copies_written, written
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("scipy", "numpy"):
            raise
        raise ExperimentsError(_MISSING) from None
    return _Tools(written, copies_written)


def _range(wish: Wish, now_us: int) -> tuple[Config | None, int | None, int | None]:
    """The file, and from when to when."""
    if not 50 <= wish.confidence < 100:
        raise ExperimentsError("--confidence: a percentage from 50 to below 100 is expected")
    if wish.logs and wish.database is not None:
        raise ExperimentsError("--from-logs and --database do not go together")
    config = None if wish.config is None else load(wish.config)
    since_us = _moment("--since", wish.since, now_us)
    until_us = _moment("--until", wish.until, now_us)
    if since_us is not None and since_us >= (now_us if until_us is None else until_us):
        raise ExperimentsError("--since: it is not before --until")
    return config, since_us, until_us


def _format(wish: Wish) -> str:
    name = wish.file_format
    if not name:
        name = "json" if wish.output is not None and wish.output.suffix == ".json" else "md"
    if name not in FORMATS:
        raise ExperimentsError(f"--format: {', '.join(FORMATS)} are expected")
    return name


def _moment(option: str, text: str | None, now_us: int) -> int | None:
    if text is None:
        return None
    try:
        return moment_us(text, now_us)
    except ValueError as error:
        raise ExperimentsError(f"{option}: {error}") from None


def _observed(
    wish: Wish,
    config: Config | None,
    since_us: int | None,
    until_us: int | None,
    now_us: int,
    notes: Notes,
) -> dict[str, list[Observed]]:
    if wish.logs:
        found = from_log.observed_in(_lines(wish.logs), since_us, until_us, notes)
    else:
        found = _of_store(
            wish,
            config,
            now_us - _DEFAULT_US if since_us is None else since_us,
            now_us if until_us is None else until_us,
            notes,
        )
    known = {*found, *({} if config is None else config.policies.experiments)}
    for name in wish.names:
        if name not in known:
            raise ExperimentsError(
                f"there is no answer of an experiment {name!r}{near(name, known)}"
            )
    names = wish.names or sorted(found)
    return {name: found[name] for name in names if name in found}


def _of_store(
    wish: Wish, config: Config | None, since_us: int, until_us: int, notes: Notes
) -> dict[str, list[Observed]]:
    engine = _engine(wish, config)
    try:
        there = from_store.names_in(engine, since_us, until_us)
        wanted = [name for name in there if not wish.names or name in wish.names]
        return {
            name: list(from_store.observed_in(engine, name, since_us, until_us, notes))
            for name in wanted
        }
    finally:
        engine.dispose()


def _engine(wish: Wish, config: Config | None) -> Engine:
    if wish.database is not None:
        if not wish.database.is_file():
            raise ExperimentsError(f"--database: there is no file {wish.database}")
        url = f"sqlite:///{wish.database}"
    elif config is None:
        raise ExperimentsError("-c relay.yaml, --database FILE or --from-logs FILE is needed")
    elif config.store is None:
        raise ExperimentsError("there is no `store`: give it the log, --from-logs FILE")
    else:
        url = config.store.url.get_secret_value()
    return reader_for(url)


def _lines(paths: Sequence[Path]) -> Iterator[bytes]:
    for path in paths:
        if str(path) == "-":
            yield from sys.stdin.buffer
            continue
        try:
            with path.open("rb") as lines:
                yield from lines
        except OSError as error:
            raise ExperimentsError(
                f"--from-logs {path}: cannot be read: {error.strerror}"
            ) from None
