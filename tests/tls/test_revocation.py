"""Whose certificate counts as taken back, and that a doubt counts too."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import trustme

from relay.config.pem_files import now, revocation_lists
from relay.tls import revocation
from relay.tls.revocation import NO_LIST, REVOKED, RUN_OUT, UNREADABLE, Revocations
from tests.fakes.tls_files import TlsFiles, revocation_list


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def reading(*pems: bytes) -> Revocations:
    return Revocations(revocation_lists(b"".join(pems), "lists.pem"))


def test_answers(files: TlsFiles) -> None:
    good, bad, stranger = files.client("a"), files.client("b"), files.client("c", by=trustme.CA())
    lists = reading(revocation_list(files.clients, bad))
    for _ in range(2):  # the second time from memory
        assert lists.refusal(good.chain, now()) == ""
        assert lists.refusal(bad.chain, now()) == REVOKED
        assert lists.refusal(stranger.chain, now()) == NO_LIST
        assert lists.refusal(b"nonsense", now()) == UNREADABLE
    later = now() + timedelta(days=8)
    assert lists.refusal(good.chain, later) == RUN_OUT
    assert lists.refusal(bad.chain, later) == REVOKED


def test_newest_list_of_an_authority_counts(files: TlsFiles) -> None:
    client = files.client()
    revoked = revocation_list(files.clients, client, number=1)
    pardoned = revocation_list(files.clients, number=2)
    for order in ((revoked, pardoned), (pardoned, revoked)):
        assert reading(*order).refusal(client.chain, now()) == ""


def test_each_authority_has_its_own(files: TlsFiles) -> None:
    other = trustme.CA()
    ours, theirs = files.client("ours"), files.client("theirs", by=other)
    lists = reading(revocation_list(files.clients), revocation_list(other, theirs))
    assert lists.refusal(ours.chain, now()) == ""
    assert lists.refusal(theirs.chain, now()) == REVOKED


def test_memory_is_bounded(files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "MAX_REMEMBERED", 3)
    lists = reading(revocation_list(files.clients))
    for number in range(10):
        lists.refusal(b"nonsense %d" % number, now())
        assert len(lists._known) <= 3
