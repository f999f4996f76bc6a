"""A private PostgreSQL: its own data folder and port, fsync on, passwords asked for.

PostgreSQL refuses to run as root; there it runs as the user `postgres` of the Debian package.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final, LiteralString

import psycopg
from psycopg import sql

from tests.fakes.server_process import ServerProcess, free_port, own_folder

ROLE: Final = "relay"
"""Owns the databases and is no superuser, as it should be in real life."""
PASSWORD: Final = "canary-postgres-0b1f9c"
"""Must turn up nowhere."""
_SUPERUSER: Final = "postgres"
_SETTINGS: Final = {
    "fsync": "on",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
}


def postgres_bin() -> Path | None:
    """The folder of its programs, the newest version's; None where it is not installed."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    if found is None:
        on_path = shutil.which("initdb")
        found = Path(on_path).resolve() if on_path else None
    return None if found is None else found.parent


def _user() -> str | None:
    return "postgres" if os.geteuid() == 0 else None


class PostgresServer(ServerProcess):
    """One cluster, from `folder`, which is removed with it."""

    def __init__(self, folder: Path) -> None:
        programs = postgres_bin()
        assert programs is not None, "PostgreSQL is not installed"
        self._programs = programs
        self.folder = folder
        self.port = free_port()
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(self.port)]
        for name, value in _SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        super().__init__(
            command,
            self._answers,
            log=folder / "log",
            user=_user(),
            stop_signal=signal.SIGINT,  # disconnects who is there
            death_signal=signal.SIGQUIT,  # takes its children with it
        )

    @classmethod
    def create(cls) -> PostgresServer:
        """A fresh cluster, not yet started, with the role `ROLE`."""
        server = cls(_folder())
        password = server.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        server._run(
            "initdb", "-D", str(server.folder / "data"), "--username", _SUPERUSER,
            "--pwfile", str(password), "--auth", "scram-sha-256", "--no-sync", "--no-locale",
            "--encoding", "UTF8", "--wal-segsize", "1",
        )  # fmt: skip
        return server

    def copy(self) -> PostgresServer:
        """Another cluster with the same data; this one must be stopped."""
        assert not self.is_running
        other = PostgresServer(_folder())
        subprocess.run(
            ["cp", "-a", str(self.folder / "data"), str(other.folder / "data")], check=True
        )
        return other

    def standby(self) -> PostgresServer:
        """A read-only follower of this running server, not yet started."""
        other = PostgresServer(_folder())
        source = f"host=127.0.0.1 port={self.port} user={_SUPERUSER} password={PASSWORD}"
        self._run(
            "pg_basebackup", "-D", str(other.folder / "data"), "-d", source, "-R", "--no-sync",
            "--checkpoint", "fast",
        )  # fmt: skip
        return other

    def promote(self) -> None:
        """Make a follower the one that writes."""
        self.execute("SELECT pg_promote(true, 20)")

    def url(self, database: str) -> str:
        """Of a database, with the password in it."""
        return f"postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: LiteralString | sql.Composed, database: str = "postgres") -> None:
        """Run one statement as superuser."""
        with self.connect(database) as connection:
            connection.execute(statement)

    def create_role(self) -> None:
        """Make `ROLE`, once a cluster."""
        role, password = sql.Identifier(ROLE), sql.Literal(PASSWORD)
        self.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))

    def create_database(self, name: str, template: str = "template0") -> str:
        """Make a database that belongs to `ROLE`; its URL."""
        parts = map(sql.Identifier, (name, template, ROLE))
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(*parts))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self.execute(statement.format(sql.Identifier(name)))

    def remove(self) -> None:
        """Stop it and delete its folder. Idempotent."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def connect(self, database: str) -> psycopg.Connection:
        """As superuser, each statement for itself; to be used in `with`, which closes it."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=_SUPERUSER,
            password=PASSWORD,
            dbname=database,
            connect_timeout=2,
            autocommit=True,
        )

    def _answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            cwd="/",
            user=_user(),
            group=_user(),
            extra_groups=[] if _user() else None,
            stdout=subprocess.DEVNULL,
        )


def _folder() -> Path:
    folder = own_folder("postgres")
    user = _user()
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    return folder
