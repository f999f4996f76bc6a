from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, ConfigError, parse
from tests.policy.worlds import TWO_ARMS

Document = dict[str, Any]
LATER, LATEST = "2026-12-01T00:00:00Z", "2026-12-02T00:00:00+01:00"


def document(**policies: Any) -> Document:
    return {
        "providers": {
            "a": {"wire": "openai_chat", "base_url": "https://a.test/v1", "auth": "none"}
        },
        "models": {
            name: {"candidates": [{"provider": "a", "model": "m"}]}
            for name in ("voice", "fast", "other")
        },
        "policies": policies,
    }


def experiment(**more: Any) -> Document:
    return {"model": "voice", "arms": TWO_ARMS, **more}


def read(**policies: Any) -> Config:
    return parse(document(**policies))


def test_what_is_said_and_what_is_not() -> None:
    row = read(experiments={"ab": experiment(ends_at=LATER)}).policies.experiments["ab"]
    assert (row.sticky, row.share, row.control_arm) == ("session", 1.0, "now")
    assert row.guard_rails is not None
    assert row.guard_rails.cost is None
    assert row.guard_rails.error_share is not None


def test_two_experiments_on_one_name_may_follow_each_other() -> None:
    read(
        experiments={
            "first": experiment(ends_at=LATER),
            "second": experiment(starts_at=LATER, control="new"),
            "off": experiment(enabled=False),
        }
    )


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"model": "voise"}, "policies.experiments.ab.model: nobody can ask for 'voise', which is"),
        (
            {"arms": [TWO_ARMS[0], {"name": "b", "use": "fasst"}]},
            "policies.experiments.ab.arms[1].use: nobody can ask for 'fasst', which is no alias,"
            " cascade, panel or PROVIDER/MODEL; did you mean 'fast'?",
        ),
        ({"arms": TWO_ARMS[:1]}, "policies.experiments.ab.arms"),
        ({"arms": [TWO_ARMS[0], TWO_ARMS[0]]}, "'now' is the name of two arms"),
        ({"arms": [{**arm, "weight": 0} for arm in TWO_ARMS]}, "one weight at least"),
        ({"arms": [{**TWO_ARMS[0], "weight": -1}, TWO_ARMS[1]]}, "arms[0].weight"),
        ({"arms": [{**TWO_ARMS[0], "name": "a b"}, TWO_ARMS[1]]}, "'a b' is not a name"),
        ({"control": "nwe"}, "there is no arm 'nwe'"),
        ({"starts_at": LATER, "ends_at": LATER}, "ends_at: it is not after starts_at"),
        ({"starts_at": "2026-12-01T00:00:00"}, "starts_at"),
        ({"sticky": "room"}, "sticky"),
        ({"share": 1.5}, "share"),
        ({"guard_rails": {"alpha": 0}}, "guard_rails.alpha"),
        ({"guard_rails": {"errors": {}}}, "guard_rails.errors"),
    ],
)
def test_faults_are_named(more: Document, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(experiments={"ab": experiment(**more)})
    assert fault in str(raised.value)


def test_a_name_is_divided_once_at_a_time() -> None:
    with pytest.raises(ConfigError, match="'voice' is divided by 'one' already"):
        read(experiments={"one": experiment(), "two": experiment(starts_at=LATER)})


def test_names_of_experiments_are_names() -> None:
    with pytest.raises(ConfigError, match=r"policies\.experiments: 'a/b' is not a name"):
        read(experiments={"a/b": experiment()})


def test_a_model_of_a_provider_will_do() -> None:
    arms = [{"name": "now", "use": "fast"}, {"name": "new", "use": "a/other-model"}]
    read(experiments={"ab": experiment(arms=arms)})


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"model": "voice", "use": "fsat"}, "policies.shadows.s.use: nobody can ask for 'fsat'"),
        ({"model": "voic", "use": "fast"}, "policies.shadows.s.model: nobody can ask"),
        ({"model": "voice", "use": "fast", "share": 0}, "share"),
        ({"model": "voice", "use": "fast", "max_concurrent": 0}, "max_concurrent"),
    ],
)
def test_faults_of_shadows_are_named(row: Document, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(shadows={"s": row})
    assert fault in str(raised.value)


def test_a_shadow() -> None:
    row = read(shadows={"s": {"model": "voice", "use": "a/candidate"}}).policies.shadows["s"]
    assert row.share == 0.05
