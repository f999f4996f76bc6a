"""The bounds of an answer's head."""

from __future__ import annotations

import pytest

from relay.answer_head import MAX_HEAD_FIELDS, check_head
from relay.errors import Reason, RemoteProtocolError, Retry
from relay.transport.base import MAX_HEAD_BYTES, Headers


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("content-encoding", "identity"), ("content-encoding", " Identity ")],
        [("content-encoding", "")],
        [("content-encoding", "utf-8")],
        [("x", "")] * MAX_HEAD_FIELDS,
        [("x", "a" * (MAX_HEAD_BYTES - 1))],
    ],
)
def test_a_head_as_it_should_be(headers: Headers) -> None:
    check_head(200, headers)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([("x", "")] * (MAX_HEAD_FIELDS + 1), "too large"),
        ([("x", "a" * MAX_HEAD_BYTES)], "too large"),
        ([("a" * MAX_HEAD_BYTES, "a")], "too large"),
        ([("content-encoding", "gzip")], "compressed"),
        ([("content-encoding", "identity"), ("content-encoding", "BR")], "compressed"),
    ],
)
def test_a_head_that_is_none(headers: Headers, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words) as caught:
        check_head(200, headers)
    assert caught.value.reason is Reason.UPSTREAM_PROTOCOL
    assert caught.value.retry is Retry.BEFORE_COMMIT


def test_a_compressed_error_is_told_by_its_status() -> None:
    check_head(503, [("content-encoding", "gzip")])
