"""Databases with our tables on one server, used again: one takes 100 ms of CPU, clearing it 25.

A test gets one that is as the template is: every row and sequence is put back, whoever is connected
is sent away, and a database whose catalog is not what it was (columns, functions, triggers, rights,
settings) is dropped. Copies of one template have the template's object ids, so that rows of the
catalog can be compared as they are.
"""

from __future__ import annotations

import itertools
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from tests.fakes.postgres_server import PostgresServer

_FIRST_OWN_OID: Final = 16_384
_CATALOG: Final[LiteralString] = """
SELECT md5(string_agg(told, ' ' ORDER BY told)) FROM (
    SELECT (oid, relname, relnamespace, relkind, relowner, relacl, reloptions, relpersistence,
            relrowsecurity, relforcerowsecurity, relreplident)::text AS told
    FROM pg_class WHERE oid >= %(own)s AND relnamespace <> 'pg_toast'::regnamespace
    UNION ALL SELECT a::text FROM pg_attribute a WHERE attrelid >= %(own)s
    UNION ALL SELECT d::text FROM pg_attrdef d
    UNION ALL SELECT c::text FROM pg_constraint c WHERE oid >= %(own)s
    UNION ALL SELECT (indexrelid, indisvalid, indisunique, indkey, indpred)::text
    FROM pg_index WHERE indexrelid >= %(own)s
    UNION ALL SELECT s::text FROM pg_sequence s
    UNION ALL SELECT p::text FROM pg_proc p WHERE oid >= %(own)s
    UNION ALL SELECT t::text FROM pg_trigger t
    UNION ALL SELECT t::text FROM pg_type t WHERE oid >= %(own)s
    UNION ALL SELECT r::text FROM pg_rewrite r WHERE oid >= %(own)s
    UNION ALL SELECT p::text FROM pg_policy p
    UNION ALL SELECT n::text FROM pg_namespace n
    UNION ALL SELECT e::text FROM pg_extension e
    UNION ALL SELECT (setrole, setconfig)::text FROM pg_db_role_setting s
    JOIN pg_database d ON d.oid = s.setdatabase WHERE datname = current_database()
    UNION ALL SELECT (datdba, datacl, datconnlimit, datallowconn)::text
    FROM pg_database WHERE datname = current_database()
) AS everything
"""
_SEND_AWAY: Final[LiteralString] = (
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
_TABLES: Final[LiteralString] = (
    "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
)
_SEQUENCES: Final[LiteralString] = "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence"


class PostgresPool:
    """Databases like `template` on a running server; gone with the server."""

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._free: list[str] = []
        self._numbers = itertools.count()
        self._catalog: Any = None
        self._rows: dict[str, Any] = {}
        """Of the template, by table; those without any are there too."""

    def take(self) -> str:
        """The name of a database that nobody else uses."""
        if self._free:
            return self._free.pop()
        name = f"relay_pool_{next(self._numbers)}"
        self._server.create_database(name, self._template)
        if self._catalog is None:
            with self._server.connect(name) as connection:
                self._learn(connection)
        return name

    def give_back(self, name: str) -> None:
        """Make it as it was, or drop it."""
        try:
            with self._server.connect(name) as connection:
                connection.execute(_SEND_AWAY)
                is_same = self._catalog_of(connection) == self._catalog
                if is_same:
                    self._clear(connection)
        except psycopg.Error:  # it may have been dropped, or closed to everybody
            is_same = False
        if is_same:
            self._free.append(name)
        else:
            self._server.drop_database(name)

    def _learn(self, connection: psycopg.Connection) -> None:
        self._catalog = self._catalog_of(connection)
        for (table,) in connection.execute(_TABLES).fetchall():
            rows = sql.SQL("SELECT coalesce(jsonb_agg(t), '[]') FROM {} AS t")
            found = connection.execute(rows.format(sql.Identifier(table))).fetchone()
            assert found is not None
            self._rows[table] = found[0]

    def _catalog_of(self, connection: psycopg.Connection) -> Any:
        found = connection.execute(_CATALOG, {"own": _FIRST_OWN_OID}).fetchone()
        assert found is not None
        return found[0]

    def _clear(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            # Neither triggers nor references, whatever the order.
            connection.execute("SET LOCAL session_replication_role = replica")
            every = [sql.SQL("DELETE FROM {}").format(sql.Identifier(t)) for t in self._rows]
            connection.execute(sql.SQL("; ").join(every))
            for table, rows in self._rows.items():
                if rows:
                    again = sql.SQL(
                        "INSERT INTO {0} SELECT * FROM jsonb_populate_recordset(NULL::{0}, %s)"
                    )
                    connection.execute(again.format(sql.Identifier(table)), [Jsonb(rows)])
            connection.execute(_SEQUENCES)
