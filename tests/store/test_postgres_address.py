"""One address for two libraries, and what of it may be told."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url

from relay.store.postgres_address import for_sqlalchemy, has_several_hosts, place_of


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://me:hunter2@db.test:5433/relay", "db.test:5433/relay"),
        ("postgresql://me:hunter2@db.test/relay?sslmode=require", "db.test/relay"),
        ("postgresql://me:hunter2@a.test:1,b.test:2/relay", "a.test:1,b.test:2/relay"),
        ("postgresql://db.test/relay", "db.test/relay"),
        ("postgresql:///relay?host=/run/postgresql&password=hunter2", "local/relay"),
        ("postgresql://me:hunt@er2@db.test/relay", "db.test/relay"),
        ("postgresql://me:hunter2/@db.test/relay", "an address that cannot be read"),
        ("postgresql://me:hunter2#@db.test/relay", "an address that cannot be read"),
        ("postgresql://me:hunter2?@db.test/relay", "an address that cannot be read"),
        ("postgresql://me:hunter2@[::1/relay", "an address that cannot be read"),
    ],
)
def test_what_may_be_told_of_an_address(url: str, place: str) -> None:
    assert place_of(url) == place
    assert "hunter2" not in place


def test_one_host_is_the_same_for_both() -> None:
    url = "postgresql://me:p%40ss@db.test:5433/relay?sslmode=require"
    assert not has_several_hosts(url)
    assert for_sqlalchemy(url) == url


def test_several_hosts_are_told_sqlalchemy_in_its_own_way() -> None:
    url = "postgresql://me:p%40ss@a.test:5433,b.test/relay?sslmode=require"
    assert has_several_hosts(url)
    parsed = make_url(for_sqlalchemy(url))
    assert (parsed.username, parsed.password, parsed.database) == ("me", "p@ss", "relay")
    assert parsed.query == {
        "sslmode": "require",
        "host": ("a.test:5433", "b.test:5432"),
        "target_session_attrs": "read-write",
    }


def test_what_was_said_of_the_session_is_kept() -> None:
    url = "postgresql://me@a.test,b.test/relay?target_session_attrs=primary"
    assert make_url(for_sqlalchemy(url)).query["target_session_attrs"] == "primary"
