"""Drawn rules against a reference that knows nothing of closures: first match wins, no name is
reached that is not allowed, and the same comes of the same.

The reference reads the file's own words and a plain description of the request, asks every
condition of every rule in order, and stops at the first rule that has a name to give.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import ConfigError
from relay.content import (
    EmbeddingOptions,
    GenerateRequest,
    ImagePart,
    Policy,
    ReasoningOptions,
    ResponseFormat,
    TextPart,
    Tool,
)
from relay.policy.chooser import Choice, Chooser
from relay.policy.rules import RefusedByRule
from tests.fakes.properties import examples
from tests.fakes.surroundings import FakeSurroundings
from tests.policy.rule_world import ALIASES, configured, request

NAMES = ("fast", "accurate", "other")
ASKED = (*NAMES, "auto", "gpt-4", "tag:cheap", "tag:best", "p/a")
TAGGED = {
    tag: [name for name in NAMES if tag in ALIASES[name]["tags"]]
    for tag in ("cheap", "quick", "best")
}


class Facts(NamedTuple):
    """A request, described."""

    model: str
    tools: tuple[str, ...]
    has_image: bool
    json: str
    effort: str
    tenant: str
    session: str
    tags: tuple[str, ...]
    prompt_tokens: int
    surface: str
    language: str
    is_embedding: bool


LANGUAGES = {"": "xyzzy", "en": "where is the train", "de": "wo ist der Zug"}

facts = st.builds(
    Facts,
    model=st.sampled_from(ASKED),
    tools=st.sampled_from(((), ("book",), ("book", "look_up"))),
    has_image=st.booleans(),
    json=st.sampled_from(("", "object", "schema")),
    effort=st.sampled_from(("", "minimal", "high")),
    tenant=st.sampled_from(("", "t1", "t2")),
    session=st.sampled_from(("", "s1")),
    tags=st.sampled_from(((), ("x",), ("x", "y"))),
    prompt_tokens=st.integers(0, 30),
    surface=st.sampled_from(("converse", "messages")),
    language=st.sampled_from(tuple(LANGUAGES)),
    is_embedding=st.booleans(),
)


def built(told: Facts) -> GenerateRequest:
    policy = Policy(tenant=told.tenant, session_id=told.session, tags=told.tags)
    if told.is_embedding:
        embedding = EmbeddingOptions(("text",))
        return request(model=told.model, messages=(), embedding=embedding, policy=policy)
    image = (ImagePart(url="https://x/1"),) if told.has_image else ()
    kinds: Any = {"object": "json_object", "schema": "json_schema"}
    return request(
        TextPart(LANGUAGES[told.language]),
        *image,
        model=told.model,
        tools=tuple(Tool(name) for name in told.tools),
        response_format=ResponseFormat(kinds[told.json]) if told.json else None,
        reasoning=ReasoningOptions(effort=told.effort),
        policy=policy,
    )


def described(told: Facts) -> Facts:
    """What is left of it where vectors are wanted."""
    if not told.is_embedding:
        return told
    return told._replace(tools=(), has_image=False, json="", effort="", language="")


whens = st.fixed_dictionaries(
    {},
    optional={
        "model": st.lists(st.sampled_from((*ASKED, "gpt-*", "*", "a*")), min_size=1, max_size=2),
        "tools": st.sampled_from((True, False, ["book"], ["look_*", "zzz"])),
        "images": st.booleans(),
        "json": st.sampled_from((True, False, "object", "schema")),
        "reasoning": st.booleans(),
        "effort": st.sampled_from((["high"], ["minimal", "low"])),
        "tenant": st.sampled_from(("t1", ["t1", "t2"])),
        "session": st.booleans(),
        "tags": st.sampled_from((["y"], ["x", "z"])),
        "prompt_tokens": st.sampled_from(({"min": 10}, {"max": 20}, {"min": 5, "max": 25})),
        "surface": st.sampled_from((["converse"], ["messages", "generate"])),
        "language": st.sampled_from((["de"], ["de", "en"])),
        "embeddings": st.booleans(),
    },
)
actions = st.one_of(
    st.builds(lambda name: {"use": name}, st.sampled_from((*NAMES, "p/a"))),
    st.builds(
        lambda names, most: {"pick": {"from": names, **({"max_input_usd": most} if most else {})}},
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
        st.sampled_from((None, 2, 6)),
    ),
    st.builds(lambda tag: {"pick": {"tag": tag}}, st.sampled_from(tuple(TAGGED))),
    st.just({"refuse": "no"}),
    st.just({"set": {"max_output_tokens": 7}}),
)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    found = {"when": draw(st.one_of(st.just({}), whens)), **draw(actions)}
    if draw(st.integers(0, 4)) == 0:
        found["unless"] = draw(whens)
    return found


PRICES = {"fast": (1.0, 1.0), "accurate": (5.0, 5.0)}
limited = st.none() | st.lists(st.sampled_from(NAMES), unique=True)


# --- the reference --------------------------------------------------------------------------


def holds(when: Mapping[str, Any], told: Facts) -> bool:
    return all(_holds(key, wanted, told) for key, wanted in when.items())


def _holds(key: str, wanted: Any, told: Facts) -> bool:
    if key == "model":
        return any(_fits(told.model, pattern) for pattern in wanted)
    if key == "tools" and isinstance(wanted, list):
        return any(fnmatchcase(name, pattern) for name in told.tools for pattern in wanted)
    if key == "json" and isinstance(wanted, str):
        return bool(told.json == wanted)
    if key == "prompt_tokens":
        return bool(wanted.get("min", 0) <= told.prompt_tokens <= wanted.get("max", 10**9))
    if key == "tags":
        return any(tag in told.tags for tag in wanted)
    flags = {
        "tools": told.tools != (),
        "images": told.has_image,
        "json": told.json != "",
        "reasoning": told.effort == "high",
        "session": told.session != "",
        "embeddings": told.is_embedding,
    }
    if key in flags:
        return flags[key] is wanted
    value: str = getattr(told, key)
    return value in ([wanted] if isinstance(wanted, str) else wanted)


def _fits(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) and ("/" not in name or "/" in pattern or pattern == "*")


class Refused(NamedTuple):
    """By a rule."""

    rule: str


def reference(
    documents: list[dict[str, Any]], told: Facts, only: list[str] | None
) -> tuple[str, str, str] | Refused:
    """Name of the rule, of the model, and the one that needs leave instead."""

    def may(name: str) -> bool:
        return only is None or name in only

    tag = told.model.removeprefix("tag:") if told.model.startswith("tag:") else None
    own = None if tag is None else next((name for name in TAGGED[tag] if may(name)), None)
    for number, rule in enumerate(documents, 1):
        gives_name = "use" in rule or "pick" in rule
        if told.is_embedding and gives_name and "embeddings" not in rule["when"]:
            continue
        if not holds(rule["when"], told) or ("unless" in rule and holds(rule["unless"], told)):
            continue
        if "refuse" in rule:
            return Refused(f"rule-{number}")
        model = rule.get("use", told.model)
        if "pick" in rule:
            pick = rule["pick"]
            names = pick.get("from") or TAGGED[pick["tag"]]
            if tag is not None:
                names = [name for name in names if may(name)]
            if "max_input_usd" in pick:
                names = [n for n in names if n in PRICES and PRICES[n][0] <= pick["max_input_usd"]]
            if not names:
                continue
            model = names[0]
        if tag is None:
            return f"rule-{number}", model, told.model if model != told.model else ""
        if own is None:
            return f"rule-{number}", told.model, ""
        if model == told.model:
            return f"rule-{number}", own, ""
        return f"rule-{number}", model, "" if may(model) or model == own else own
    return "", own or told.model, ""


# --- the properties -------------------------------------------------------------------------


def made(documents: list[dict[str, Any]]) -> Chooser | None:
    """None for rules that the configuration refuses (they contradict themselves)."""
    try:
        return Chooser.of(configured(*documents), lambda: 0.999)
    except ConfigError:
        return None


def around(told: Facts, only: list[str] | None) -> FakeSurroundings:
    return FakeSurroundings(
        surface=told.surface, prompt_tokens=told.prompt_tokens, only=only, prices=PRICES
    )


@examples(150, full=2_000)
@given(st.lists(rules(), max_size=5), st.lists(st.tuples(facts, limited), min_size=1, max_size=8))
def test_the_first_match_wins_as_the_reference_has_it(
    documents: list[dict[str, Any]], asked: list[tuple[Facts, list[str] | None]]
) -> None:
    chosen = made(documents)
    if chosen is None:
        return
    for told, only in asked:
        wanted = built(told)
        expected = reference(documents, described(told), only)
        if isinstance(expected, Refused):
            with pytest.raises(RefusedByRule) as raised:
                chosen.choose(wanted, around(told, only))
            assert raised.value.rule == expected.rule
            continue
        found = chosen.choose(wanted, around(told, only))
        assert (found.rule, found.request.model, found.request.asked_as) == expected
        assert found.is_changed is (found.request is not wanted)


def reached(chosen: Chooser, wanted: GenerateRequest, surroundings: FakeSurroundings) -> Choice:
    try:
        return chosen.choose(wanted, surroundings)
    except RefusedByRule as error:
        return Choice(wanted, error.rule)


@examples(150, full=2_000)
@given(
    st.lists(actions.map(lambda action: {"when": {}, **action}), min_size=1, max_size=2),
    st.builds(Facts._replace, facts, model=st.sampled_from(("tag:cheap", "tag:best", "fast"))),
    st.lists(st.sampled_from(NAMES), unique=True),
)
def test_no_name_is_reached_that_is_not_allowed(
    documents: list[dict[str, Any]], told: Facts, only: list[str]
) -> None:
    """What needs leave is the name asked for, or one that the key may ask for itself."""
    chosen = made(documents)
    if chosen is None:
        return
    found = reached(chosen, built(told), around(told, only)).request
    needs_leave = found.asked_as or found.model
    assert needs_leave == told.model or needs_leave in only
    if told.model.startswith("tag:") and found.model != told.model:
        assert needs_leave in only
        if not any("use" in rule for rule in documents):
            assert found.model in only  # the operator has named no other


@examples(60, full=1_000)
@given(st.lists(rules(), max_size=5), facts, limited)
def test_the_same_comes_of_the_same(
    documents: list[dict[str, Any]], told: Facts, only: list[str] | None
) -> None:
    chosen, again = made(documents), made(documents)
    if chosen is None or again is None:
        assert chosen is again
        return
    first = reached(chosen, built(told), around(told, only))
    assert first == reached(chosen, built(told), around(told, only))
    assert first == reached(again, built(told), around(told, only))
