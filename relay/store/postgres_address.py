"""One `postgresql://` address for the two libraries that connect by it.

`postgresql://user:password@host:port,host:port/database?sslmode=require`: libpq's form, which
asyncpg reads as it is. SQLAlchemy writes several hosts another way.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_UNREADABLE = "an address that cannot be read"


def place_of(url: str) -> str:
    """Where a database is, without user and password, for messages."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    _, has_user, hosts = parts.netloc.rpartition("@")
    if not has_user and "@" in url:  # a password with `/`, `?` or `#` in it
        return _UNREADABLE
    return f"{hosts or 'local'}{parts.path}"


def has_several_hosts(url: str) -> bool:
    """Whether one of several servers is meant: the one that writes."""
    return "," in place_of(url)


def for_sqlalchemy(url: str) -> str:
    """The same address where SQLAlchemy is asked with psycopg; unchanged if it has one host.

    Raises:
        ValueError: it cannot be read.
    """
    if not has_several_hosts(url):
        return url
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    query = parse_qsl(parts.query, keep_blank_values=True)
    query += [("host", host if ":" in host else f"{host}:5432") for host in hosts.split(",")]
    if not any(name == "target_session_attrs" for name, _ in query):
        query.append(("target_session_attrs", "read-write"))
    return urlunsplit((parts.scheme, user + at, parts.path, urlencode(query), ""))
