"""What an HTTP client asks of the relay itself, by header or in the body."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import Budgets, HedgeWish, Policy
from relay.errors import MAX_SHOWN_CHARS, InvalidRequest, RelayError
from relay.frontends.caller import Caller
from relay.frontends.request_policy import read_policy
from tests.fakes.properties import examples


def policy_of(body: dict[str, Any] | None = None, **headers: str) -> tuple[Policy, str]:
    """The policy of a request with these `x_relay` fields and `x-relay-*` headers."""
    raw = [
        (f"x-relay-{name.replace('_', '-')}".encode(), value.encode("latin-1"))
        for name, value in headers.items()
    ]
    scope = {"headers": [(b"user-agent", b"x"), *raw]}
    return read_policy(scope, {} if body is None else {"x_relay": body})


@pytest.mark.parametrize("body", [{"hurry" * 1000: 1}, None])
def test_unknown_name_is_quoted_but_cut(body: dict[str, Any] | None) -> None:
    with pytest.raises(InvalidRequest) as raised:
        policy_of(body, **({} if body else {"hurry" * 1000: "1"}))
    assert "hurryhurry" in raised.value.public_message
    assert len(raised.value.public_message) < MAX_SHOWN_CHARS + 300
    assert len(raised.value.field) < MAX_SHOWN_CHARS + 10


def test_nothing_asked() -> None:
    assert policy_of() == (Policy(), "")
    assert policy_of({}) == (Policy(), "")


def test_headers() -> None:
    policy, model = policy_of(
        first_token_ms="800",
        inter_token_ms="500",
        first_segment_ms="1200",
        total_ms="9000",
        model="slow",
        tags="eu, cheap",
        turn_id="t1",
        timeline="true",
        prompt_cache="auto",
        session_id="call 7",
        idempotency_key="order 7",
        cache="refresh",
        cache_ttl_s="60",
    )
    assert policy == Policy(
        Budgets(0.8, 0.5, 9.0, first_segment_s=1.2),
        "t1",
        ("eu", "cheap"),
        timeline=True,
        prompt_cache="auto",
        session_id="call 7",
        idempotency_key="order 7",
        cache="refresh",
        cache_ttl_s=60,
    )
    assert model == "slow"


def test_the_idempotency_key_is_heard_without_a_prefix() -> None:
    scope = {"headers": [(b"idempotency-key", b"order 7")]}
    assert read_policy(scope, {})[0].idempotency_key == "order 7"
    assert read_policy(scope, {"relay": {"idempotency_key": "8"}})[0].idempotency_key == "order 7"
    assert policy_of({"idempotency_key": "8"})[0].idempotency_key == "8"
    with pytest.raises(InvalidRequest) as raised:
        read_policy({"headers": [(b"idempotency-key", b"k" * 257)]}, {})
    assert raised.value.field == "idempotency-key"


@pytest.mark.parametrize("word", ["", "AUTO", "on", True, None])
def test_prompt_cache_has_two_words(word: object) -> None:
    for right in ("auto", "off"):
        assert policy_of({"prompt_cache": right})[0].prompt_cache == right
    with pytest.raises(InvalidRequest) as raised:
        policy_of({"prompt_cache": word})
    assert raised.value.field == "x_relay.prompt_cache"


@pytest.mark.parametrize("word", ["", "ONLY", "auto", "on", True, None])
def test_cache_has_three_words(word: object) -> None:
    for right in ("off", "refresh", "only"):
        assert policy_of({"cache": right})[0].cache == right
        assert policy_of(cache=right)[0].cache == right
    with pytest.raises(InvalidRequest) as raised:
        policy_of({"cache": word})
    assert raised.value.public_message == "x_relay.cache must be off, refresh or only"


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", 0, 1.5, True, None, 604_801])
def test_how_old_a_kept_answer_may_be(value: object) -> None:
    assert policy_of({"cache_ttl_s": 604_800})[0].cache_ttl_s == 604_800
    assert policy_of(cache_ttl_s="1")[0].cache_ttl_s == 1
    with pytest.raises(InvalidRequest) as raised:
        policy_of({"cache_ttl_s": value})
    message = "x_relay.cache_ttl_s must be 1 to 604800 seconds"
    assert raised.value.public_message == message


@pytest.mark.parametrize("key", ["relay", "x_relay"])
def test_body_field_has_two_names(key: str) -> None:
    assert read_policy({"headers": []}, {key: {"route": "slow"}}) == (Policy(), "slow")
    with pytest.raises(InvalidRequest) as raised:
        read_policy({"headers": []}, {key: {"rout": "slow"}})
    assert raised.value.field == f"{key}.rout"


@pytest.mark.parametrize(
    ("value", "wish"),
    [
        ("off", HedgeWish("off")),
        ("race", HedgeWish("race")),
        ("auto", HedgeWish()),
        ("700", HedgeWish(delay_s=0.7)),
        (700, HedgeWish(delay_s=0.7)),
    ],
)
def test_what_is_asked_of_the_race(value: Any, wish: HedgeWish) -> None:
    policy, _ = policy_of({"hedge": value, "session_id": "call-1"})
    assert (policy.hedge, policy.session_id) == (wish, "call-1")


@pytest.mark.parametrize(
    "value", ["on", "0", "-1", "", "²", True, 0, 1.5, None, "9" * 30, {"mode": "race"}]
)
def test_what_is_no_way_to_race(value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised:
        policy_of({"hedge": value})
    assert raised.value.field == "x_relay.hedge"
    words = "must be off, auto, race, or 1 to 86400000 milliseconds"
    assert raised.value.public_message == f"x_relay.hedge {words}"


@pytest.mark.parametrize(
    ("body", "headers", "message"),
    [
        ({"commiton": 1}, {}, "relay.commiton is not known; did you mean relay.commit_on?"),
        ({"turn-ids": 1}, {}, "relay.turn-ids is not known; did you mean relay.turn_id?"),
        (
            {},
            {b"x-relay-commiton": b"1"},
            "x-relay-commiton is not known; did you mean x-relay-commit-on?",
        ),
        ({"zzz": 1}, {}, "relay.zzz is not known; known are first_token_ms, "),
        ({}, {b"x-relay-zzz": b"1"}, "x-relay-zzz is not known; known are first-token-ms, "),
    ],
)
def test_unknown_name_is_refused_with_the_nearest_in_its_spelling(
    body: dict[str, Any], headers: dict[bytes, bytes], message: str
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_policy({"headers": list(headers.items())}, {"relay": body})
    assert raised.value.public_message.startswith(message)


@pytest.mark.parametrize("body", [{}, {"turn_id": "t"}])
def test_who_asks_is_kept(body: dict[str, Any]) -> None:
    caller = Caller(
        "t_1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "key_1", "v=1"
    )
    policy, _ = read_policy({"headers": []}, {"relay": body}, caller)
    assert (policy.tenant, policy.traceparent, policy.key_id, policy.tracestate) == caller[:4]


def test_body_says_the_same() -> None:
    policy, model = policy_of(
        {
            "first_token_ms": 800,
            "inter-token-ms": 500,
            "first_segment_ms": 1200,
            "total_ms": 9000,
            "model": "slow",
            "tags": ["eu", "cheap"],
            "turn_id": "t1",
            "timeline": True,
        }
    )
    budgets = Budgets(0.8, 0.5, 9.0, first_segment_s=1.2)
    assert policy == Policy(budgets, "t1", ("eu", "cheap"), timeline=True)
    assert model == "slow"


def test_header_wins_over_the_body() -> None:
    policy, _ = policy_of({"total_ms": 1, "turn_id": "body"}, total_ms="2000")
    assert policy.budgets.total_s == 2.0
    assert policy.turn_id == "body"


@pytest.mark.parametrize("value", ["1", "true", "yes", True, 1])
def test_timeline_yes(value: Any) -> None:
    assert policy_of({"timeline": value})[0].timeline


@pytest.mark.parametrize("value", ["0", "false", "no", False, 0])
def test_timeline_no(value: Any) -> None:
    assert not policy_of({"timeline": value})[0].timeline


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"hedge_ms": 1}, "x_relay.hedge_ms"),
        ({"total_ms": 0}, "x_relay.total_ms"),
        ({"first_segment_ms": 0}, "x_relay.first_segment_ms"),
        ({"total_ms": -1}, "x_relay.total_ms"),
        ({"total_ms": 1.5}, "x_relay.total_ms"),
        ({"total_ms": True}, "x_relay.total_ms"),
        ({"total_ms": None}, "x_relay.total_ms"),
        ({"total_ms": 86_400_001}, "x_relay.total_ms"),
        ({"total_ms": "9" * 30}, "x_relay.total_ms"),
        ({"total_ms": "²"}, "x_relay.total_ms"),
        ({"model": ""}, "x_relay.model"),
        ({"model": 1}, "x_relay.model"),
        ({"turn_id": "x" * 257}, "x_relay.turn_id"),
        ({"tags": 1}, "x_relay.tags"),
        ({"tags": ["x"] * 33}, "x_relay.tags"),
        ({"tags": [1]}, "x_relay.tags"),
        ({"tags": "a,,b"}, "x_relay.tags"),
        ({"timeline": "maybe"}, "x_relay.timeline"),
        ({"timeline": None}, "x_relay.timeline"),
        ({"timeline": []}, "x_relay.timeline"),
    ],
)
def test_wrong_entry_is_refused_by_name(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        policy_of(body)
    assert raised.value.field == field
    assert field in raised.value.public_message


def test_wrong_header_is_refused_by_name() -> None:
    for name, value in ((b"total-ms", b"soon"), (b"budget", b"1"), (b"timeline", b"maybe")):
        with pytest.raises(InvalidRequest) as raised:
            read_policy({"headers": [(b"x-relay-" + name, value)]}, {})
        assert raised.value.field == f"x-relay-{name.decode()}"


def test_unknown_name_is_quoted_as_far_as_anybody_reads() -> None:
    long = "x" * 1_000_000
    header = [(b"x-relay-" + long.encode(), b"1")]
    many = {f"{at}": 1 for at in range(100_000)}
    for headers, body in ((header, {}), ([], {long: 1}), ([], many)):
        with pytest.raises(InvalidRequest) as raised:
            read_policy({"headers": headers}, {"relay": body})
        assert len(raised.value.public_message) < 500
        assert len(raised.value.field) < 300


def test_field_is_an_object() -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_policy({"headers": []}, {"x_relay": [1]})
    assert raised.value.field == "x_relay"


names = st.sampled_from(["total_ms", "model", "tags", "turn-id", "timeline", "x"]) | st.text(
    max_size=5
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@examples(150)
@given(
    st.dictionaries(names, values, max_size=4),
    st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=3),
)
def test_anything_is_read_or_refused(
    body: dict[str, Any], headers: list[tuple[bytes, bytes]]
) -> None:
    scope = {"headers": [(b"x-relay-" + name.lower(), value) for name, value in headers]}
    try:
        read_policy(scope, {"x_relay": body})
    except RelayError:
        pass
