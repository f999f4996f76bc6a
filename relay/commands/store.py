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
from typing import Annotated, Final, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from sqlalchemy import func, select
from sqlalchemy.engine import URL, make_url

from relay.config import ConfigError, load
from relay.store import schema
from relay.store.backup import back_up, problems_of, put_back
from relay.store.base import StoreUnavailable
from relay.store.counters import differences
from relay.store.engine import engine_for, migrate, reading, revision_of, writing
from relay.store.rebuild import repair
from relay.store.revisions import HEAD, require_usable
from relay.store.sqlite_file import require_sound

app = typer.Typer(no_args_is_help=True, help="the database: tables, soundness, copies")
_out = Console()
_err = Console(stderr=True)
_MAX_SHOWN: Final = 20

ConfigPath = Annotated[Path, typer.Option("-c", "--config", help="YAML file of the relay")]


def _fail(message: str) -> NoReturn:
    _err.print("[red]relay:[/red]", escape(message), highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def _say(line: str) -> None:
    _out.print(line, highlight=False, soft_wrap=True, markup=False)


def _url(config: Path) -> str:
    try:
        store = load(config).store
    except ConfigError as error:
        _fail(str(error))
    if store is None:
        _fail(f"{config.name} has no `store`")
    return store.url.get_secret_value()


def _file(url: str) -> Path | None:
    """Of SQLite; None of PostgreSQL."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    return Path(str(parsed.database))


@app.command("migrate")
def migrate_command(config: ConfigPath) -> None:
    """Bring the tables to what this version of the relay works with."""
    url = _url(config)
    engine = engine_for(url, pool_size=1)
    try:
        if (file := _file(url)) is not None:
            require_sound(file)
        before = revision_of(engine)
        if migrate(engine):
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
    url = _url(config)
    engine = engine_for(url, pool_size=1)
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
                for one in repair(connection):
                    _say(f"mended: {one}")
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
    url = _url(config)
    if target.exists():
        _fail(f"{target} is there already")
    if (file := _file(url)) is None:
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
    url = _url(config)
    if (file := _file(url)) is None:
        _say("stop every relay, then run (it asks for the password):")
        _say(shlex.join(restore_command(make_url(url), copy)))
        return
    try:
        kept = put_back(copy, file, time.time_ns() // 1000, is_forced=force)
    except StoreUnavailable as error:
        _fail(str(error))
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
