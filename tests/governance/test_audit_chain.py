"""Entries: their canonical bytes, their MACs, and that every text becomes one that can be kept."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.audit_chain import (
    EMPTY,
    GENESIS,
    MAX_DETAIL_BYTES,
    Anchor,
    AuditKey,
    Entry,
    Head,
    canonical,
    canonical_detail,
    entry,
    seal,
)
from tests.fakes.audit_logs import KEY, OTHER_KEY, START_US, entries
from tests.fakes.properties import examples

TEXT = st.text(max_size=6)
ENTRIES = st.builds(Entry, st.integers(-(2**63), 2**63 - 1), TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
ANYTHING = st.text(st.characters(), max_size=600)


def test_bytes_are_those_of_the_documented_format() -> None:
    one = Entry(7, "key:k", "key.denied", "fäst", "org", "denied", "{}")
    assert canonical(3, one, b"\xab" * 32) == (
        b"rtrelay audit 1\n"
        + (3).to_bytes(8, "big")
        + (7).to_bytes(8, "big")
        + b"".join(n.to_bytes(4, "big") for n in (5, 10, 5, 3, 6, 2))
        + "key:kkey.deniedfästorgdenied{}".encode()
        + b"\xab" * 32
    )


def test_mac_is_an_hmac_by_a_key_of_its_own() -> None:
    """Written out by the standard's words: whoever verifies elsewhere needs no code of ours."""
    secret = bytes(range(32))
    (row,) = seal(EMPTY, entries(1), AuditKey(secret))
    derived = hmac.new(secret, b"rtrelay audit entries\x01", hashlib.sha256).digest()
    expected = hmac.new(derived, canonical(1, row.entry, GENESIS), hashlib.sha256).digest()
    assert row.mac == expected
    anchor = Anchor.of(Head(1, row.mac), 5, AuditKey(secret))
    derived = hmac.new(secret, b"rtrelay audit anchors\x01", hashlib.sha256).digest()
    said = b"rtrelay anchor 1\n" + (5).to_bytes(8, "big") + (1).to_bytes(8, "big") + row.mac
    assert anchor.proof == hmac.new(derived, said, hashlib.sha256).digest()


@given(ENTRIES, ENTRIES, st.integers(0, 3), st.integers(0, 3))
@examples(200, full=10_000)
def test_no_two_entries_have_the_same_bytes(one: Entry, other: Entry, a: int, b: int) -> None:
    is_same = (a, one) == (b, other)
    assert (canonical(a, one, GENESIS) == canonical(b, other, GENESIS)) is is_same


@given(st.lists(st.text("ab", max_size=3), min_size=6, max_size=6), st.randoms())
@examples(100, full=5000)
def test_texts_do_not_run_into_each_other(texts: list[str], random: object) -> None:
    """The same letters, cut elsewhere."""
    whole = "".join(texts)
    for at in range(len(whole) + 1):
        other = [whole[:at], whole[at:], "", "", "", ""]
        if other != texts:
            assert canonical(1, Entry(0, *other), GENESIS) != canonical(
                1, Entry(0, *texts), GENESIS
            )


def test_chain_goes_on_from_its_head() -> None:
    rows = seal(EMPTY, entries(5), KEY)
    first = seal(EMPTY, entries(2), KEY)
    rest = seal(Head(2, first[-1].mac), entries(3, first=3), KEY)
    assert rows == first + rest
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].previous == GENESIS
    assert all(b.previous == a.mac for a, b in pairwise(rows))


def test_anchor_is_by_its_key_alone() -> None:
    anchor = Anchor.of(Head(3, b"m" * 32), START_US, KEY)
    assert anchor.is_by(KEY)
    assert not anchor.is_by(OTHER_KEY)
    for changed in (
        anchor._replace(seq=4),
        anchor._replace(at_us=1),
        anchor._replace(mac=b"n" * 32),
        anchor._replace(proof=bytes(32)),
    ):
        assert not changed.is_by(KEY)


# --- keys -------------------------------------------------------------------------------------


def test_key_says_nothing_of_its_secret() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    key = AuditKey(secret)
    assert repr(key) == f"AuditKey({key.id})"
    assert key.id != OTHER_KEY.id
    assert secret.hex()[:8] != key.id
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(key)


@pytest.mark.parametrize("secret", [b"", b"x" * 31, b"x" * 33])
def test_secret_of_another_length_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        AuditKey(secret)


def test_short_text_is_no_key() -> None:
    with pytest.raises(ValueError, match="32 characters"):
        AuditKey.from_text("x" * 31)
    assert AuditKey.from_text("x" * 32).id == AuditKey.from_text("x" * 32).id


# --- texts ------------------------------------------------------------------------------------


@given(ANYTHING, ANYTHING, ANYTHING, st.dictionaries(ANYTHING, ANYTHING, max_size=4))
@examples(100, full=5000)
def test_any_text_becomes_one_that_databases_take(
    actor: str, subject: str, organisation_id: str, detail: dict[str, object]
) -> None:
    one = entry(
        "key.denied",
        at_us=1,
        actor=actor,
        subject=subject,
        organisation_id=organisation_id,
        detail=detail,
    )
    assert len(one.actor) <= 160
    assert len(one.subject) <= 255
    assert len(one.organisation_id) <= 32
    for text in one[1:]:
        text.encode()  # no half of a surrogate pair
        assert text.isprintable()  # no NUL, which PostgreSQL refuses, no line break, no escape
    assert isinstance(json.loads(one.detail), dict)


def test_detail_is_sorted_and_has_no_spaces() -> None:
    assert canonical_detail({"b": 1, "a": {"d": [True, None, 1.5], "c": "x"}}) == (
        '{"a":{"c":"x","d":[true,null,1.5]},"b":1}'
    )
    assert canonical_detail({"n": 2**70, "s": {"b", "a"}, "o": object()}) == (
        f'{{"n":"{2**70}","o":"<object>","s":["a","b"]}}'
    )


def test_detail_has_a_bound() -> None:
    assert len(canonical_detail({"a": "x" * 100_000})) < 600
    wide = canonical_detail({f"k{n}": "é" * 1000 for n in range(90)})
    assert len(wide.encode()) <= MAX_DETAIL_BYTES
    assert len(orjson.loads(wide)) == 90  # cut text by text
    nested: dict[str, object] = {}
    for _ in range(1000):
        nested = {"a": nested}
    assert canonical_detail(nested).count("a") == 6
    assert canonical_detail({f"{n}": list(range(100)) for n in range(100)}) == '{"cut":true}'


def test_secrets_are_hidden_before_texts_are_cut() -> None:
    """A secret that a cut went through would not be found any more."""
    secret = "s3cr3t-of-the-operator"

    def hide(text: str) -> str:
        return text.replace(secret, "***")

    one = entry("a.b", at_us=1, actor="x", subject="y" * 250 + secret, hide=hide)
    assert one.subject == "y" * 250 + "***"
    long = {"why": "y" * 510 + secret, secret: [secret]}
    assert canonical_detail(long, hide) == '{"***":["***"],"why":"' + "y" * 510 + '**"}'
