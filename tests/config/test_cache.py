"""The section `cache`: what it takes, and how it says what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import Config, ConfigError, parse
from relay.config.cache import ExactCacheConfig
from relay.config_warnings import warnings

REST: dict[str, Any] = {
    "providers": {"p": {"wire": "openai_chat", "base_url": "http://127.0.0.1:1/v1"}},
    "models": {"fast": {"candidates": [{"provider": "p", "model": "m"}]}},
}


def whole(exact: Any) -> Config:
    return parse({**REST, "cache": {"exact": exact}})


def parsed(exact: Any) -> ExactCacheConfig:
    found = whole(exact).cache
    assert found is not None
    assert found.exact is not None
    return found.exact


def test_without_it_nothing_is_kept() -> None:
    assert parse(REST).cache is None


def test_it_is_read() -> None:
    assert parsed({}) == ExactCacheConfig()
    exact = parsed({"models": ["fast", "p/any"], "ttl_s": 60, "max_ttl_s": 600, "replay": "paced"})
    assert exact.models == ("fast", "p/any")
    assert (exact.ttl_s, exact.max_ttl_s, exact.replay, exact.share) == (60, 600, "paced", "tenant")


@pytest.mark.parametrize(
    ("exact", "message"),
    [
        (
            {"models": ["fats"]},
            "cache.exact.models: nobody can ask for 'fats'; did you mean 'fast'?",
        ),
        ({"not_models": ["q/any"]}, "cache.exact.not_models: nobody can ask for 'q/any'"),
        ({"models": ["fast"], "not_models": ["fast"]}, "not_models: 'fast' is in models too"),
        ({"ttl_s": 60, "max_ttl_s": 59}, "max_ttl_s: 59 is below ttl_s, 60"),
        ({"max_bytes": 65536}, "max_answer_bytes: 262144 would not fit into max_bytes, 65536"),
        ({"ttl_s": 0}, "cache.exact.ttl_s"),
        ({"share": "all"}, "cache.exact.share"),
        ({"max_gap_ms": 30_001}, "cache.exact.max_gap_ms"),
        ({"ttl": 5}, "cache.exact.ttl"),
    ],
)
def test_what_is_wrong_is_told_by_its_name(exact: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        whole(exact)
    assert message in str(raised.value)


def test_a_cascade_is_a_name_to_keep_answers_of() -> None:
    document: dict[str, Any] = {
        **REST,
        "policies": {"cascades": {"smart": {"small": "fast", "large": "fast"}}},
        "cache": {"exact": {"models": ["smart"]}},
    }
    document["models"] = {**REST["models"], "large": REST["models"]["fast"]}
    document["policies"]["cascades"]["smart"]["large"] = "large"
    found = parse(document).cache
    assert found is not None
    assert found.exact is not None
    assert found.exact.models == ("smart",)
    with pytest.raises(ConfigError, match="nobody can ask for 'smart'"):
        whole({"models": ["smart"]})


def test_teams_that_share_are_warned_of() -> None:
    auth = {"store": {}, "auth": {"pepper": "${PEPPER}"}}
    environment = {"PEPPER": "canary-pepper-0123456789-abcdefghijkl"}

    def told(**exact: Any) -> list[str]:
        found = warnings(parse({**REST, **auth, "cache": {"exact": exact}}, environment))
        return [line for line in found if line.startswith("cache.")]

    assert told() == told(share="key") == []
    assert len(told(share="everyone")) == 1
    found = warnings(whole({"share": "everyone"}))
    assert not [line for line in found if "cache" in line], "there are no teams"


def test_what_a_reload_cannot_change() -> None:
    assert whole({"ttl_s": 1}).needing_restart(whole({"ttl_s": 2, "max_entries": 5})) == []
    assert whole({}).needing_restart(whole({"redis": False, "redis_timeout_ms": 9})) == [
        "cache.exact.redis",
        "cache.exact.redis_timeout_ms",
    ]
    assert parse(REST).needing_restart(whole({"redis": False})) == []
    assert whole({}).needing_restart(parse(REST)) == []
