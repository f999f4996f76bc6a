"""`store.retention_days`: how long accounts are kept."""

from __future__ import annotations

import pytest

from relay.config import ConfigError, parse


def days(given: object) -> int | None:
    store = parse({"store": {"url": "sqlite:///x.db", "retention_days": given}}, {}).store
    assert store is not None
    return store.retention_days


def test_days() -> None:
    assert (days(None), days(90)) == (None, 90)


@pytest.mark.parametrize("given", [0, -1, 40_000, "soon"])
def test_what_is_no_number_of_days_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="retention_days"):
        days(given)
