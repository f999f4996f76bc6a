"""One of several names: by order, price, latency; bounds; what is left aside becomes known."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.policies import PoliciesConfig
from relay.content import Policy, Sampling
from relay.errors import UnknownModel
from relay.policy.chooser import Chooser
from tests.fakes.surroundings import FakeSurroundings
from tests.policy.rule_world import chooser, request

ALL = ["fast", "accurate", "other"]


def picked(
    pick: dict[str, Any], around: FakeSurroundings, *, draw: float = 0.999, **fields: Any
) -> str:
    """What `auto` becomes by this pick; `auto` itself where none is left."""
    rule = {"when": {"model": "auto"}, "pick": {"from": ALL, **pick}}
    return _model(chooser(rule, draw=draw), around, **fields)


def _model(chosen: Chooser, around: FakeSurroundings, **fields: Any) -> str:
    return chosen.choose(request(**{"model": "auto", **fields}), around).request.model


PRICES = {"fast": (1.0, 2.0), "accurate": (5.0, 1.0)}


def test_the_first_of_the_list() -> None:
    assert picked({}, FakeSurroundings()) == "fast"
    assert picked({"from": ["other", "fast"]}, FakeSurroundings()) == "other"


@pytest.mark.parametrize(
    ("prompt_tokens", "max_output_tokens", "model"),
    [
        (1000, None, "fast"),  # 1000 + 600 against 5000 + 300
        (10, None, "accurate"),  # 10 + 600 against 50 + 300
        (10, 10, "fast"),  # 10 + 20 against 50 + 10
        (10, 100_000, "accurate"),  # an answer is reckoned to be of the usual length
    ],
)
def test_the_cheapest_for_this_request(
    prompt_tokens: int, max_output_tokens: int | None, model: str
) -> None:
    around = FakeSurroundings(prices=PRICES, prompt_tokens=prompt_tokens)
    sampling = Sampling(max_output_tokens=max_output_tokens)
    assert picked({"by": "price"}, around, sampling=sampling) == model


def test_an_unknown_price_is_no_bargain() -> None:
    dear = FakeSurroundings(prices={"other": (900.0, 900.0)})
    assert picked({"by": "price"}, dear) == "other"
    assert picked({"by": "price"}, FakeSurroundings()) == "fast"  # of equals the first
    assert picked({"max_input_usd": 1e6}, dear) == "other"
    assert picked({"max_input_usd": 1e6}, FakeSurroundings()) == "auto"


@pytest.mark.parametrize(
    ("bounds", "model"),
    [
        ({"max_input_usd": 1.0}, "fast"),
        ({"max_input_usd": 0.99}, "auto"),
        ({"max_output_usd": 1.5}, "accurate"),
        ({"min_input_usd": 5.0}, "accurate"),
        ({"min_output_usd": 1.5, "max_output_usd": 2.0}, "fast"),
        ({"max_input_usd": 1.0, "max_output_usd": 1.0}, "auto"),
    ],
)
def test_bounds_of_price(bounds: dict[str, float], model: str) -> None:
    assert picked(bounds, FakeSurroundings(prices=PRICES)) == model


def test_the_fastest_at_the_quantile() -> None:
    around = FakeSurroundings(
        p50_ms={"fast": 300, "accurate": 200}, p95_ms={"fast": 400, "accurate": 4000}
    )
    assert picked({"by": "latency"}, around) == "accurate"
    assert picked({"by": "latency", "quantile": "p95"}, around) == "fast"


def test_the_cheapest_that_is_fast_enough() -> None:
    pick = {"by": "price", "max_p95_ms": 800}
    around = FakeSurroundings(prices=PRICES, p95_ms={"fast": 801, "accurate": 800, "other": 1})
    assert picked(pick, around) == "accurate"
    around.p95_ms = {"fast": 801, "accurate": 801, "other": 801}
    assert picked(pick, around) == "auto"


def test_what_is_not_known_yet_is_fast_enough_or_it_would_never_be_known() -> None:
    around = FakeSurroundings(p50_ms={"fast": 11}, p95_ms={"accurate": 900})
    assert picked({"max_p50_ms": 10, "max_p95_ms": 800}, around) == "other"
    assert picked({"max_p50_ms": 11, "max_p95_ms": 800}, around) == "fast"


def test_where_none_is_left_the_next_rule_is_tried() -> None:
    slow = FakeSurroundings(p95_ms={"fast": 900})
    chosen = chooser(
        {"name": "quick", "pick": {"from": ["fast"], "max_p95_ms": 800, "explore": 0}},
        {"name": "rest", "use": "accurate"},
    )
    assert chosen.choose(request(), slow).rule == "rest"
    assert chosen.choose(request(), FakeSurroundings()).rule == "quick"


# --- what was taken last stays --------------------------------------------------------------


def test_another_is_taken_when_it_is_faster_by_a_tenth() -> None:
    rule = {"when": {"model": "auto"}, "pick": {"from": ["fast", "accurate"], "by": "latency"}}
    chosen = chooser(rule)
    around = FakeSurroundings(p50_ms={"fast": 100, "accurate": 120})
    assert _model(chosen, around) == "fast"
    around.p50_ms = {"fast": 100, "accurate": 91}
    assert _model(chosen, around) == "fast"
    around.p50_ms = {"fast": 100, "accurate": 89}
    assert _model(chosen, around) == "accurate"
    around.p50_ms = {"fast": 85, "accurate": 89}
    assert _model(chosen, around) == "accurate"


# --- exploring ------------------------------------------------------------------------------

KNOWN = FakeSurroundings(p50_ms={"fast": 100, "accurate": 200})
BY_LATENCY = {"by": "latency", "explore": 0.2}


@pytest.mark.parametrize(
    ("draw", "model"), [(0.0, "accurate"), (0.099, "accurate"), (0.1, "other"), (0.2, "fast")]
)
def test_a_share_goes_to_the_others_in_turn(draw: float, model: str) -> None:
    assert picked(BY_LATENCY, KNOWN, draw=draw) == model


def test_nothing_explores_where_latency_does_not_matter() -> None:
    around = FakeSurroundings(prices=PRICES)
    assert picked({"explore": 0.5}, around, draw=0.0) == "fast"
    assert picked({"by": "price", "explore": 0.5, "max_input_usd": 9}, around, draw=0.0) != "other"
    assert picked({"by": "latency", "explore": 0}, KNOWN, draw=0.0) == "fast"


def test_what_is_too_dear_is_not_explored_and_what_was_too_slow_is() -> None:
    around = FakeSurroundings(prices=PRICES, p95_ms={"fast": 10, "accurate": 900})
    bounds = {"max_p95_ms": 800, "explore": 0.5, "max_input_usd": 9}
    assert picked(bounds, around, draw=0.0) == "accurate"
    assert picked(bounds, around, draw=0.499) == "accurate"
    assert picked({**bounds, "max_input_usd": 1}, around, draw=0.0) == "fast"


def test_turns_of_a_session_explore_together_and_so_many_as_are_to() -> None:
    rule = {"when": {"model": "auto"}, "pick": {"from": ["fast", "accurate"], **BY_LATENCY}}
    chosen = chooser(rule, draw=0.0)  # a draw would always explore
    found: list[str] = []
    for number in range(500):
        policy = Policy(session_id=f"call-{number}")
        turns = {_model(chosen, KNOWN, policy=policy) for _ in range(3)}
        assert len(turns) == 1
        found += turns
    assert 60 <= found.count("accurate") <= 140  # of 500, a fifth: 100 +- 4 x 9


# --- tags -----------------------------------------------------------------------------------


def test_a_tag_is_the_first_alias_with_it_that_the_key_may_ask_for() -> None:
    chosen = chooser()
    tag = request(model="tag:cheap")
    for only, model in (
        (None, "fast"),
        (["other", "accurate"], "other"),
        (["accurate"], tag.model),
    ):
        found = chosen.choose(tag, FakeSurroundings(only=only))
        assert (found.request.model, found.rule) == (model, "")
        assert found.request.asked_as == ""  # leave is needed for the alias, and its limits hold
        assert found.is_changed is (model != tag.model)


def test_a_tag_that_no_alias_has_is_unknown_and_those_near_it_are_told() -> None:
    for tag, near in (("cheep", ("tag:cheap",)), ("none", ()), ("", ()), ("x" * 10**6, ())):
        with pytest.raises(UnknownModel) as raised:
            chooser().choose(request(model=f"tag:{tag}"), FakeSurroundings())
        assert raised.value.nearest == near
        assert len(raised.value.public_message) < 400


def test_other_unknown_names_and_unknown_tags_of_limited_keys_are_left_as_they_are() -> None:
    for name, only in (("tags:cheap", None), ("cheap", None), ("tag:cheep", ["fast"])):
        wanted = request(model=name)
        assert chooser().choose(wanted, FakeSurroundings(only=only)).request is wanted


def test_a_rule_may_say_how_a_tag_is_picked() -> None:
    rule = {"when": {"model": "tag:cheap"}, "pick": {"tag": "cheap", "by": "price"}}
    chosen = chooser(rule)
    around = FakeSurroundings(prices={"fast": (9, 9), "other": (1, 1), "accurate": (0, 0)})
    found = chosen.choose(request(model="tag:cheap"), around)
    assert (found.request.model, found.request.asked_as, found.rule) == ("other", "", "rule-1")
    around.only = ["fast", "accurate"]
    assert chosen.choose(request(model="tag:cheap"), around).request.model == "fast"
    around.only = ["accurate"]
    assert chosen.choose(request(model="tag:cheap"), around).request.model == "tag:cheap"


def test_a_rule_for_all_sends_a_tag_on_as_it_would_its_alias() -> None:
    """The key needs leave for an alias that has the tag, as if it had asked for that."""
    chosen = chooser({"when": {"model": "tag:cheap"}, "use": "accurate"})
    tag = request(model="tag:cheap")
    for only, model, asked_as in (
        (None, "accurate", ""),
        (["other"], "accurate", "other"),
        (["accurate"], "tag:cheap", ""),
        ([], "tag:cheap", ""),
    ):
        found = chosen.choose(tag, FakeSurroundings(only=only)).request
        assert (found.model, found.asked_as) == (model, asked_as)


def test_a_rule_that_gives_no_name_leaves_the_tag_its_alias() -> None:
    chosen = chooser({"name": "cap", "set": {"max_output_tokens": 9}})
    found = chosen.choose(request(model="tag:best"), FakeSurroundings())
    assert (found.rule, found.request.model, found.request.asked_as) == ("cap", "accurate", "")
    assert found.request.sampling.max_output_tokens == 9


def test_other_names_than_tags_go_where_the_operator_says() -> None:
    """Whether they may be asked for is not looked at here: it goes by `asked_as`."""
    chosen = chooser({"when": {"model": "fast"}, "pick": {"from": ["accurate"]}})
    found = chosen.choose(request(), FakeSurroundings(only=["fast"])).request
    assert (found.model, found.asked_as) == ("accurate", "fast")


# --- names that rules introduce -------------------------------------------------------------


def test_names_that_nothing_else_has() -> None:
    chosen = chooser(
        {"when": {"model": ["auto", "fast", "listed", "p/any", "gpt-*"], "tools": True},
         "use": "accurate"},
        {"when": {"model": "auto"}, "pick": {"tag": "cheap"}},
        {"when": {"model": "tag:cheap"}, "use": "fast"},
        {"when": {"model": "tag:made-up"}, "use": "fast"},
        {"use": "accurate"},
    )  # fmt: skip
    assert chosen.names == {"auto", "tag:made-up"}
    assert chosen.comes_to == {
        "auto": ("accurate", "fast", "other"),
        "tag:made-up": ("fast",),
    }
    wanted = request(model="tag:made-up")
    found = chosen.choose(wanted, FakeSurroundings(only=["fast"])).request
    assert (found.model, found.asked_as) == ("fast", "tag:made-up")  # a name as any other


def test_a_name_that_no_rule_comes_to_is_none() -> None:
    of_auto = {"when": {"model": "auto"}, "use": "fast"}
    assert chooser({"set": {"max_output_tokens": 9}}, of_auto).names == frozenset()
    assert chooser({"refuse": "nothing"}, of_auto).names == frozenset()
    assert chooser({"when": {"tools": True}, "refuse": "x"}, of_auto).names == {"auto"}


def test_who_has_nothing_to_choose_says_so() -> None:
    assert Chooser(PoliciesConfig(), {"fast": ()}).is_idle
    assert not Chooser(PoliciesConfig(), {"fast": ("cheap",)}).is_idle
    assert not chooser({"use": "fast"}).is_idle
