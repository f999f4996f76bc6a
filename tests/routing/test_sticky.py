"""Where sessions are warm, a second place, and what is learnt of how long they are."""

from __future__ import annotations

from relay.config import parse
from relay.content import Policy
from relay.routing.catalog import Catalog
from relay.routing.sticky import TTL_S, USUAL_TURNS, StickySessions, Warm, session_of
from relay.routing.target import Target

ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1", "auth": "none"}
CATALOG = Catalog(
    parse({"providers": {"a": {**ROW, "caches_prompts": True}, "b": ROW}}),
)
S = ("tenant", "s")
A, B = (CATALOG.resolve(name).candidates[0] for name in ("a/m", "b/m"))


def test_a_prefix_that_is_sent_ahead_is_where_the_session_begins() -> None:
    sticky = StickySessions()
    sticky.warmed(S, "a/m", 0.0, prompt_tokens=900)
    assert sticky.of(S, 1.0) == Warm("a/m", 900)
    sticky.warmed(S, "a/m", 2.0, prompt_tokens=100)
    assert sticky.of(S, 3.0) == Warm("a/m", 900), "the longer one is still there"
    assert sticky.of(S, 2.0 + TTL_S) is None
    sticky.warmed(None, "a/m", 0.0, prompt_tokens=900)
    assert len(sticky) == 0


def test_a_second_place_moves_nobody_and_cools_down_by_itself() -> None:
    sticky = StickySessions()
    sticky.won(S, "a/m", 0.0, prompt_tokens=1000, was_first=True)
    sticky.warmed(S, "b/m", 10.0, prompt_tokens=900)
    assert sticky.of(S, 20.0) == Warm("a/m", 1000, "b/m", 900)
    sticky.won(S, "a/m", 200.0, prompt_tokens=1200, was_first=True)
    assert sticky.of(S, 309.0) == Warm("a/m", 1200, "b/m", 900)
    assert sticky.of(S, 311.0) == Warm("a/m", 1200)


def test_who_moves_to_the_second_place_has_one_place() -> None:
    sticky = StickySessions()
    sticky.won(S, "a/m", 0.0, prompt_tokens=1000, was_first=True)
    sticky.warmed(S, "b/m", 0.0, prompt_tokens=900)
    sticky.won(S, "b/m", 1.0, prompt_tokens=1100, was_first=True)
    assert sticky.of(S, 2.0) == Warm("b/m", 1100)


def test_tiers_share_the_cache_of_a_provider_that_is_known_to_keep_prompts() -> None:
    warm = Warm("a/m", 1000, "b/m", 900)
    dear_a, dear_b = (Target(each.endpoint, "m", "priority") for each in (A, B))
    assert [warm.tokens_at(each) for each in (A, B, dear_a, dear_b)] == [1000, 900, 1000, 0]
    assert Warm("x/m", 1000).tokens_at(A) == 0


def test_sessions_that_are_over_say_how_long_sessions_are() -> None:
    sticky = StickySessions(max_sessions=1)
    for number in range(400):
        for turn in range(30):
            sticky.won(
                ("t", f"s{number}"),
                "a/m",
                1000.0 * number + 20.0 * turn,
                prompt_tokens=9,
                was_first=True,
            )
    assert abs(sticky.turns - 30) < 1
    assert abs(sticky.lasts_s - 580) < 20
    quiet = StickySessions()
    quiet.warmed(S, "a/m", 0.0, prompt_tokens=9)
    assert quiet.of(S, 1e6) is None
    assert quiet.turns == USUAL_TURNS, "a prefix alone is no session"


def test_two_tenants_who_name_theirs_alike_have_two_sessions() -> None:
    mine, others = (session_of(Policy(tenant=name, session_id="call-1")) for name in ("a", "b"))
    assert mine is not None
    assert others is not None
    sticky = StickySessions()
    sticky.won(mine, "a/m", 0.0, prompt_tokens=1000, was_first=True)
    for _ in range(3):
        sticky.won(others, "b/m", 1.0, prompt_tokens=9, was_first=True)
    assert sticky.of(mine, 2.0) == Warm("a/m", 1000)
    assert session_of(Policy(tenant="a")) is None
