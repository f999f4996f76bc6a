"""`relay store`: bring the tables up, look whether all is sound, take a copy and put one back.

Of an SQLite file the relay does it all itself, a copy also while workers write. Of PostgreSQL its
own tools are used: `pg_dump` is run where it is installed, and told otherwise; `pg_restore` is told
and never run. No password gets into a process's arguments.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy import Engine, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from relay.auditing import store_of
from relay.commands.own_acts import own_act, tell
from relay.commands.store_options import ConfigPath
from relay.config import Config, ConfigError, StoreConfig, load
from relay.governance import audit_actions as actions
from relay.store import schema
from relay.store.backup import back_up, problems_of, put_back
from relay.store.base import StoreUnavailable
from relay.store.counters import differences
from relay.store.engine import (
    engine_for,
    migrate,
    reading,
    require_ours,
    revision_of,
    told,
    writing,
)
from relay.store.rebuild import repair
from relay.store.revisions import HEAD, require_usable
from relay.store.sqlite_file import require_sound

app = typer.Typer(no_args_is_help=True, help="the database: tables, soundness, copies")
_out = Console()
_err = Console(stderr=True)
_MAX_SHOWN: Final = 20


def _fail(message: str) -> NoReturn:
    _err.print("[red]relay:[/red]", escape(message), highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _say(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)


def _opened(config: Path) -> tuple[Config, str]:
    """The configuration, and its store's address."""
    try:
        loaded = load(config)
    except ConfigError as error:
        _fail(str(error))
    if loaded.store is None:
        _fail(f"{config.name} has no `store`")
    return loaded, loaded.store.url.get_secret_value()


def _engine(config: Config, url: str) -> Engine:
    store = config.store or StoreConfig()
    return engine_for(url, pool_size=1, durability=store.durability)


def _note(config: Config, url: str, action: str, detail: dict[str, Any]) -> None:
    """To the audit log, if it can be: a store that is full or damaged is to be saved all the
    same."""
    engine = _engine(config, url)
    try:
        with told():
            tell(config, engine, action, detail)
    except (StoreUnavailable, SQLAlchemyError) as error:
        why = str(error) if isinstance(error, StoreUnavailable) else type(error).__name__
        _err.print(f"not in the audit log: {escape(why)}", highlight=False, soft_wrap=True)
    finally:
        engine.dispose()


def _file(url: str) -> Path | None:
    """Of SQLite; None of PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(str(parsed.database))


@app.command("migrate")
def migrate_command(config: ConfigPath) -> None:
    """Bring the tables to what this version of the relay works with."""
    loaded, url = _opened(config)
    engine = _engine(loaded, url)
    try:
        if (file := _file(url)) is not None:
            require_sound(file)
            require_ours(file)
        before = revision_of(engine)
        if migrate(engine):
            _note(loaded, url, actions.STORE_MIGRATED, {"from": before or "", "to": HEAD})
            _say(f"the tables are at revision {HEAD} (before: {before or 'none'})")
        else:
            _say(f"the tables are at revision {before}; there is nothing to do")
    except StoreUnavailable as error:
        _fail(str(error))
    finally:
        engine.dispose()


@app.command()
def check(
    config: ConfigPath,
    repairs: Annotated[
        bool, typer.Option("--repair", help="set counters that are wrong to their sums")
    ] = False,
) -> None:
    """See whether the file is sound, and every budget's counters are the sums of its accounts."""
    loaded, url = _opened(config)
    engine = _engine(loaded, url)
    problems: list[str] = []
    try:
        if (file := _file(url)) is not None:
            if not file.exists():
                _fail(f"there is no file {file}; a relay makes it when it starts")
            problems += problems_of(file)
            if problems:
                _tell(problems)
            _say(f"{file.name}: pages, indices and references are sound")
        revision = revision_of(engine)
        require_usable(revision)
        _say(f"tables: revision {revision}")
        with reading(engine) as connection:
            generations = schema.generations
            counted = connection.execute(
                select(generations.c.state, func.count()).group_by(generations.c.state)
            ).all()
            wrong = differences(connection)
        if wrong and repairs:
            with writing(engine) as connection:
                mended = [str(one) for one in repair(connection)]
                if loaded.audit is not None:
                    act = own_act(loaded, actions.STORE_REPAIRED, {"mended": mended[:_MAX_SHOWN]})
                    store_of(loaded, engine).append(connection, [act])
            for text in mended:
                _say(f"mended: {text}")
            wrong = []
    except StoreUnavailable as error:
        _fail(str(error))
    finally:
        engine.dispose()
    states = ", ".join(f"{count} {state}" for state, count in sorted(map(tuple, counted)))
    _say(f"generations: {states or 'none'}")
    if wrong:
        _tell([str(one) for one in wrong])
    _say("budgets: every counter is the sum of its accounts")


def _tell(problems: list[str]) -> NoReturn:
    for one in problems[:_MAX_SHOWN]:
        _err.print(f"[red]wrong:[/red] {escape(one)}", highlight=False, soft_wrap=True)
    if len(problems) > _MAX_SHOWN:
        _err.print(f"and {len(problems) - _MAX_SHOWN} more", highlight=False)
    raise typer.Exit(1)


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(help="file to write; it must not be there yet")],
    config: ConfigPath,
) -> None:
    """Take a copy of one moment, also while the relay serves."""
    loaded, url = _opened(config)
    if target.exists():
        _fail(f"{target} is there already")
    file = _file(url)
    if file is None or file.exists():
        _note(loaded, url, actions.STORE_COPIED, {"to": target.name})
    if file is None:
        _dump(make_url(url), target)
        return
    began_s = time.monotonic()
    try:
        size_bytes = back_up(file, target)
    except StoreUnavailable as error:
        _fail(str(error))
    took_s = time.monotonic() - began_s
    _say(f"{target}: {size_bytes / 1e6:.1f} MB of {file.name} in {took_s:.1f} s, and it is sound")


@app.command()
def restore(
    copy: Annotated[Path, typer.Argument(help="what `relay store backup` wrote")],
    config: ConfigPath,
    force: Annotated[
        bool, typer.Option("--force", help="workers that hold leases are known to be dead")
    ] = False,
) -> None:
    """Put a copy in the place of the file, and keep what was there. Stop the relay first."""
    loaded, url = _opened(config)
    if (file := _file(url)) is None:
        _say("stop every relay, then run (it asks for the password):")
        _say(shlex.join(restore_command(make_url(url), copy)))
        return
    try:
        kept = put_back(copy, file, time.time_ns() // 1000, is_forced=force)
    except StoreUnavailable as error:
        _fail(str(error))
    _note(loaded, url, actions.STORE_RESTORED, {"from": copy.name, "kept": len(kept)})
    _say(f"{file} is what {copy} was")
    for one in kept:
        _say(f"kept: {one}")


# --- PostgreSQL's own tools -----------------------------------------------------------------


def dump_command(url: URL, target: Path) -> list[str]:
    """What takes a copy of one moment; the password is in the environment or asked for."""
    return ["pg_dump", "--format=custom", f"--file={target}", f"--dbname={_without_password(url)}"]


def restore_command(url: URL, copy: Path) -> list[str]:
    """What puts it back, all of it or nothing."""
    return [
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        "--single-transaction",
        "--password",
        f"--dbname={_without_password(url)}",
        str(copy),
    ]


def _without_password(url: URL) -> str:
    query = {name: value for name, value in url.query.items() if name != "password"}
    bare = url.set(drivername="postgresql", query=query)._replace(password=None)
    return bare.render_as_string(hide_password=False)


def _dump(url: URL, target: Path) -> None:
    command = dump_command(url, target)
    if shutil.which(command[0]) is None:
        _say("pg_dump is not installed here; where it is, run:")
        _say(shlex.join(command))
        raise typer.Exit(1)
    environment = dict(os.environ)
    password = url.password or url.query.get("password")
    if password:
        environment["PGPASSWORD"] = str(password)
    partial = target.with_name(f".{target.name}.partial")
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the words are ours
            dump_command(url, partial),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            words = done.stderr.decode(errors="replace").strip()
            _fail(f"pg_dump: {words or f'ended with {done.returncode}'}")
        partial.chmod(0o600)
        partial.rename(target)
    except OSError as error:
        _fail(f"{target.name}: {error.strerror}")
    finally:
        partial.unlink(missing_ok=True)
    _say(f"{target}: {target.stat().st_size / 1e6:.1f} MB by pg_dump")
