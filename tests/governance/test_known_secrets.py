"""No secret that the process knows, and no token of ours, gets through."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.known_secrets import KnownSecrets
from tests.fakes.properties import examples

SECRET = "sk-canary/0123456789+abcdefghij=="
URL = "postgresql://relay:p%40ss-canary-word@db.test/relay"
KNOWN = KnownSecrets([SECRET, URL, "short"])


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        SECRET.replace("/", "\\/"),
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(b"me:" + SECRET.encode()).decode(),
        URL,
        "p%40ss-canary-word",
        "p@ss-canary-word",
    ],
)
def test_every_form_is_hidden(form: str) -> None:
    hidden = KNOWN.hide(f"he said {form} to me")
    assert form not in hidden
    assert "canary" not in hidden
    assert hidden.startswith("he said ")
    assert hidden.endswith(" to me") or "***" in hidden


@given(st.text(max_size=20), st.text(max_size=20))
@examples(50, full=2000)
def test_secret_is_hidden_anywhere(before: str, after: str) -> None:
    assert SECRET not in KNOWN.hide(before + SECRET + after)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("rtk_0123456789abcdef.ABCDEFabcdef0123456789", "rtk_0123456789abcdef.***"),
        ("key rta_0123456789abcdef.ABCDEFabcdef0123456789!", "key rta_0123456789abcdef.***!"),
        ("authorization: Bearer abcdefghijkl", "authorization: Bearer ***"),
        ("redis://user:word@host/0", "redis://user:***@host/0"),
        ("key rtk_0123456789abcdef was revoked", "key rtk_0123456789abcdef was revoked"),
        ("models.fast: there is no provider 'x'", "models.fast: there is no provider 'x'"),
        ("fast", "fast"),
        ("", ""),
    ],
)
def test_what_we_do_not_know_is_found_by_its_form(text: str, hidden: str) -> None:
    assert KnownSecrets().hide(text) == hidden


def test_registry_shows_nothing() -> None:
    assert "canary" not in repr(KNOWN)


def test_of_passing_secrets_the_newest_are_known() -> None:
    known = KnownSecrets(["the-steady-one"])
    for number in range(100):
        known.learn_passing("a", [f"token-value-{number - 1}", f"token-value-{number}"])
        known.learn_passing("b", ["another-token"])
    text = "token-value-99 token-value-98 token-value-12 another-token the-steady-one"
    assert known.hide(text) == "*** *** token-value-12 *** ***"
    known.learn(["a-later-one"])
    assert known.hide("a-later-one token-value-99") == "*** ***"


@given(
    st.sampled_from(["", "x", "***", "key="]),
    st.integers(0, len(SECRET)),
    st.integers(0, len(SECRET)),
    st.sampled_from(["", "***", " and on"]),
)
@examples(200, full=5000)
def test_a_short_text_is_searched_as_a_long_one_is(
    before: str, begin: int, end: int, after: str
) -> None:
    text = before + SECRET[begin:end] + after
    fresh = KnownSecrets([SECRET, URL])
    assert fresh.hide(text) == fresh._searched(text)
    assert fresh.hide(text) == fresh.hide(text)


def test_what_was_clean_is_looked_at_again_when_more_is_known() -> None:
    known = KnownSecrets()
    assert known.hide("a-word-of-mine") == "a-word-of-mine"
    known.learn(["a-word-of-mine"])
    assert known.hide("a-word-of-mine") == "***"


def test_a_long_word_takes_no_time_of_its_square() -> None:
    began_s = time.process_time()
    word = "x" * 200_000
    assert KNOWN.hide(f"{word} ://") == f"{word} ://"
    assert time.process_time() - began_s < 1.0, "it took minutes"
