"""Limits as rows keep them."""

from __future__ import annotations

import pytest

from relay.governance.limits import MAX_LIMIT, UNLIMITED, Limits
from relay.store import token_bucket


def test_there_and_back() -> None:
    limits = Limits(rpm=1, output_tpm=3)
    assert limits.to_json() == '{"rpm": 1, "output_tpm": 3}'
    assert Limits.from_json(limits.to_json()) == limits
    assert Limits.from_json("{}") == UNLIMITED
    assert Limits.from_json('{"rpm": null}') == UNLIMITED
    assert UNLIMITED.to_json() == "{}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "an object"),
        ("{", "property name"),
        ('{"rpn": 1}', r"limits\.rpn: unknown; there are rpm, input_tpm"),
        ('{"rpm": 0}', r"limits\.rpm: a whole number"),
        ('{"rpm": -1}', r"limits\.rpm"),
        ('{"rpm": 1.5}', r"limits\.rpm"),
        ('{"rpm": true}', r"limits\.rpm"),
        ('{"rpm": "1"}', r"limits\.rpm"),
        ('{"sessions": 1000000001}', r"limits\.sessions"),
    ],
)
def test_what_is_wrong_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Limits.from_json(text)


def test_what_is_left_open_is_the_defaults() -> None:
    own, default = Limits(rpm=1, generations=2), Limits(rpm=9, input_tpm=8, sessions=7)
    assert own.or_else(default) == Limits(rpm=1, input_tpm=8, generations=2, sessions=7)
    assert UNLIMITED.or_else(default) == default


def test_the_stores_count_as_far() -> None:
    assert MAX_LIMIT == token_bucket.MAX_LIMIT
