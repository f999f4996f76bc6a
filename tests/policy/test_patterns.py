"""Names with `*`: as in the scopes of keys, in time that does not explode."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from relay.governance.scopes import Scopes
from relay.policy.patterns import matcher
from tests.fakes.properties import examples

texts = st.text(alphabet="ab/*.", min_size=1, max_size=8)
names = st.text(alphabet="ab/.\n", max_size=12)


@examples(400, full=20_000)
@given(st.lists(texts, min_size=1, max_size=3), names)
def test_they_fit_what_scopes_of_keys_with_the_same_words_fit(
    patterns: list[str], name: str
) -> None:
    assert matcher(patterns)(name) is Scopes(models=tuple(patterns)).allows_model(name)


def test_many_stars_take_no_longer_than_the_name_is_long() -> None:
    fits = matcher(["*a" * 50 + "*b"])
    began_s = time.perf_counter()
    assert not fits("a" * 20_000)
    assert time.perf_counter() - began_s < 0.5  # by backtracking it would not end
