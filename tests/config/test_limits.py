"""The section `limits`: what it takes, and how it says what it does not."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError, parse
from relay.config.limits import MAX_LIMIT, CallerLimits, LimitsConfig
from relay.config_warnings import warnings
from relay.governance import limits as governed

PROVIDER = {"wire": "openai_chat", "base_url": "http://127.0.0.1:1/v1", "models": ["small"]}
REST = {
    "store": {},
    "providers": {"p": PROVIDER},
    "models": {"fast": {"candidates": [{"provider": "p", "model": "m"}]}},
}


def parsed(limits: Any) -> LimitsConfig:
    found = parse({**REST, "limits": limits}).limits
    assert found is not None
    return found


def fault_of(limits: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        parse({**REST, "limits": limits})
    return str(raised.value)


def test_without_it_nothing_is_limited() -> None:
    assert parse(REST).limits is None


def test_it_is_read() -> None:
    limits = parsed(
        {
            "key": {"rpm": 60, "sessions": 2},
            "team": {"input_tpm": 1000, "output_tpm": 500},
            "organisation": {"generations": 50},
            "models": {"fast": {"rpm": 5}, "p/any": {"rpm": 6}, "small": {"rpm": 7}},
            "providers": {"p": {"rpm": 500, "generations": 20}},
            "when_redis_is_down": "refuse",
        }
    )
    assert (limits.key.rpm, limits.key.sessions, limits.key.generations) == (60, 2, None)
    assert limits.models["p/any"].rpm == 6
    assert limits.providers["p"].generations == 20
    assert (limits.when_redis_is_down, limits.redis_timeout_ms, limits.lease_s) == (
        "refuse",
        250,
        15,
    )


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"keys": {}}, "limits.keys: unknown key; did you mean 'key'?"),
        ({"key": {"rpn": 1}}, "limits.key.rpn: unknown key; did you mean 'rpm'?"),
        ({"key": {"rpm": 0}}, "limits.key.rpm: "),
        ({"key": {"rpm": MAX_LIMIT + 1}}, "limits.key.rpm: "),
        ({"key": {"rpm": "many"}}, "limits.key.rpm: "),
        ({"providers": {"q": {}}}, "limits.providers: there is no provider 'q'"),
        ({"models": {"fsat": {}}}, "limits.models: nobody can ask for 'fsat'; did you mean 'fast'"),
        ({"models": {"q/x": {}}}, "limits.models: nobody can ask for 'q/x'"),
        ({"models": {"fast": {"sessions": 1}}}, "limits.models.fast.sessions: unknown key"),
        ({"providers": {"p": {"sessions": 1}}}, "limits.providers.p.sessions: unknown key"),
        ({"when_redis_is_down": "hope"}, "limits.when_redis_is_down: "),
    ],
)
def test_what_is_wrong_is_named(limits: Any, message: str) -> None:
    assert message in fault_of(limits)


def test_its_names_are_those_of_the_rows_of_callers() -> None:
    assert tuple(CallerLimits.model_fields) == governed.NAMES
    assert governed.MAX_LIMIT == MAX_LIMIT


def test_what_a_reload_takes_up() -> None:
    one = parse({**REST, "limits": {"key": {"rpm": 1}}})
    other = parse({**REST, "limits": {"key": {"rpm": 2}, "lease_s": 30}})
    assert one.needing_restart(other) == ["limits.lease_s"]
    assert parse(REST).needing_restart(one) == []


def test_without_accounts_it_would_hold_nothing() -> None:
    for store in (None, {"ledger": False}):
        with pytest.raises(ConfigError, match="limits: they are held with the accounts"):
            parse({**REST, "store": store, "limits": {"key": {"rpm": 1}}})


def test_keys_without_accounts_have_no_limits_and_it_is_said() -> None:
    document = {"store": {"ledger": False}, "auth": {"pepper": "${PEPPER}"}}
    config = parse(document, {"PEPPER": "pepper-of-the-tests-0123456789abcdef"})
    assert any(line.startswith("store.ledger is false") for line in warnings(config))
