"""Fields of a body that go on as they came, and those that may not."""

from __future__ import annotations

import pytest

from relay.errors import InvalidRequest
from relay.frontends.body_fields import further
from relay.frontends.limits import MAX_BODY_FIELDS

READ = frozenset({"model", "messages", "n"})


def test_what_nobody_reads_goes_on() -> None:
    body = {"model": "m", "base_url": "http://x", "min_p": 0.1, "cachedContent": "c", "Other": None}
    assert further(body, READ) == {"min_p": 0.1, "cachedContent": "c", "Other": None}


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Model", "model"),
        ("MODEL", "model"),
        ("me\u017f\u017fages", "messages"),
        ("N", "n"),
        ("Base_URL", "base_url"),
        ("api_\u212aey", "api_key"),
    ],
)
def test_another_spelling_of_what_is_read_here_is_refused(name: str, plain: str) -> None:
    """As Go's JSON reads names: without case, and the long s and Kelvin's sign are letters."""
    with pytest.raises(InvalidRequest) as refused:
        further({"model": "m", name: "other"}, READ, "extra")
    assert refused.value.public_message == f"extra.{name} must be written {plain}"


def test_a_body_of_very_many_fields_is_refused() -> None:
    assert len(further({f"x{n}": n for n in range(MAX_BODY_FIELDS)}, READ)) == MAX_BODY_FIELDS
    with pytest.raises(InvalidRequest, match="the body holds more than 1000 entries"):
        further({f"x{n}": n for n in range(MAX_BODY_FIELDS + 1)}, READ)
