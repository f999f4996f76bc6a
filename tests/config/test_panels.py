"""`policies.panels`: what is taken, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError, parse
from relay.config_warnings import warnings

DOCUMENT: dict[str, Any] = {
    "providers": {"one": {"wire": "openai_chat", "base_url": "https://one.test", "auth": "none"}},
    "models": {
        name: {"candidates": [{"provider": "one", "model": name}]} for name in ("x", "y", "z")
    },
}
JUDGE = {"model": "z"}


def read(decide: Any = None, models: Any = ("x", "y"), **more: Any) -> Any:
    row = {"models": list(models), "decide": decide or {"majority": {}}, **more}
    whole = parse({**DOCUMENT, "policies": {"panels": {"three": row}}})
    return whole.policies.panels["three"]


def fault(decide: Any = None, models: Any = ("x", "y"), **more: Any) -> str:
    with pytest.raises(ConfigError) as failed:
        read(decide, models, **more)
    return str(failed.value)


def test_names_alone_are_enough() -> None:
    panel = read()
    assert [member.model for member in panel.members] == ["x", "y"]
    assert panel.decide.majority.equality == "normalised"
    assert (panel.min_answers, panel.on_too_few, panel.early_stop) == (1, "fail", True)


def test_one_alias_several_times() -> None:
    panel = read(models=[{"model": "x", "times": 3, "seed": 7, "temperature": 0.8}, "y"])
    assert [(member.model, member.seed) for member in panel.members] == [
        ("x", 7),
        ("x", 8),
        ("x", 9),
        ("y", None),
    ]


def test_a_provider_and_a_model_are_an_alias() -> None:
    assert read(models=["x", "one/other"]).members[1].model == "one/other"


@pytest.mark.parametrize(
    "equality",
    ["exact", "normalised", {"json_field": "/a"}, {"json_field": ""}, {"number": {}}],
)
def test_equalities(equality: Any) -> None:
    read({"majority": {"equality": equality}})


@pytest.mark.parametrize(
    ("decide", "more", "words"),
    [
        ({"early": {}}, {}, "decide.early"),
        ({"majority": {}, "judge": JUDGE}, {}, "one of majority, judge and best_of"),
        ({"majority": {"equality": "normalized"}}, {}, "did you mean 'normalised'"),
        ({"majority": {"equality": {}}}, {}, "exact, normalised, {json_field: PATH}"),
        ({"majority": {"equality": {"json_field": "/a~2"}}}, {}, "~ is written ~0"),
        ({"majority": {"qourum": 2}}, {}, "decide.majority.qourum"),
        ({"majority": {"quorum": 3}}, {}, "quorum: 3 is over 2, all votes"),
        ({"majority": {"on_tie": "judge"}}, {}, "judge: needed where"),
        ({"majority": {"judge": JUDGE}}, {}, "neither no_quorum nor on_tie asks it"),
        ({"majority": {"on_tie": "last"}}, {}, "on_tie"),
        ({"judge": {"model": "zz"}}, {}, "judge.model: there is no alias 'zz'; did you mean 'z'"),
        ({"judge": {**JUDGE, "on_tie": "judge"}}, {}, "on_tie"),
        ({"best_of": {}}, {}, "one of judge, logprobs, length, pattern and schema"),
        ({"best_of": {"length": "longest", "pattern": "x"}}, {}, "one of judge, logprobs"),
        ({"best_of": {"pattern": "("}}, {}, "no pattern of RE2"),
        ({"best_of": {"pattern": "(?=x)"}}, {}, "no pattern of RE2"),
        (None, {"models": ["x"]}, "2 to 9 members"),
        (None, {"models": [{"model": "x", "times": 9}, "y"]}, "these are 10"),
        (None, {"models": ["x", "yy"]}, "models[1]: there is no alias 'yy'; did you mean 'y'"),
        (None, {"models": ["x", "two/y"]}, "there is no provider 'two'"),
        (None, {"models": ["x", "three"]}, "'three' is a panel"),
        (None, {"models": ["x", {"model": "y", "weight": 0}]}, "weight"),
        (None, {"first_n": 3}, "first_n: 3 of 2 members never answer"),
        (None, {"min_answers": 3}, "min_answers: 3 is over 2"),
        (None, {"min_answers": 2, "first_n": 1}, "min_answers: 2 is over 1"),
        (
            {"judge": {**JUDGE, "compare": "pairwise"}},
            {"models": [{"model": "x", "times": 5}]},
            "pairwise is for up to 4 members",
        ),
    ],
)
def test_what_is_wrong_is_named(decide: Any, more: dict[str, Any], words: str) -> None:
    found = fault(decide, **more)
    assert words in found
    assert "policies" in found


@pytest.mark.parametrize("kind", ["models", "cascades"])
def test_a_name_is_of_one_thing(kind: str) -> None:
    row = {"models": ["x", "y"], "decide": {"majority": {}}}
    document: dict[str, Any] = {**DOCUMENT, "policies": {"panels": {"three": row}}}
    if kind == "models":
        document["models"] = {**DOCUMENT["models"], "three": DOCUMENT["models"]["x"]}
    else:
        document["policies"]["cascades"] = {"three": {"small": "x", "large": "y"}}
    with pytest.raises(ConfigError, match=r"panels\.three: a"):
        parse(document)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"models": [{"model": "x", "times": 3, "temperature": 0}]}, "x is asked 3 times"),
        ({"decide": {"judge": {"model": "x"}}}, "x judges its own answers"),
        ({"decide": {"majority": {"quorum": 1}}}, "1 of 2 votes is no majority"),
        ({"on_too_few": "any"}, "which changes nothing"),
    ],
)
def test_what_will_not_do_what_was_meant(row: dict[str, Any], words: str) -> None:
    usual = {"models": ["x", "y"], "decide": {"majority": {}}}
    document = {**DOCUMENT, "policies": {"panels": {"three": {**usual, **row}}}}
    (found,) = [one for one in warnings(parse(document)) if "panels" in one]
    assert words in found


@pytest.mark.parametrize(
    "row",
    [
        {"models": [{"model": "x", "times": 3, "temperature": 0, "seed": 1}]},
        {"models": [{"model": "x", "times": 3}]},
        {"decide": {"judge": {"model": "z"}}},
        {"decide": {"majority": {"quorum": 2}}},
        {"on_too_few": "any", "wait_ms": 100},
    ],
)
def test_what_is_meant(row: dict[str, Any]) -> None:
    usual = {"models": ["x", "y"], "decide": {"majority": {}}}
    document = {**DOCUMENT, "policies": {"panels": {"three": {**usual, **row}}}}
    assert [one for one in warnings(parse(document)) if "panels" in one] == []
