"""From a model's name to targets: the order of resolution, timeouts, and what an endpoint holds."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError, parse
from relay.content import ReasoningOptions
from relay.errors import UnknownModel
from relay.routing.catalog import Catalog, Timeouts
from tests.fakes.scenario import request

ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1", "auth": "none"}
CANDIDATE = {"provider": "a", "model": "m"}


def catalog(
    providers: dict[str, list[str]] | None = None, models: dict[str, Any] | None = None
) -> Catalog:
    """A catalog of providers with these models, and aliases."""
    rows = {"a": ["m1"], "b": ["m2"]} if providers is None else providers
    return Catalog(
        parse(
            {
                "providers": {name: {**ROW, "models": listed} for name, listed in rows.items()},
                "models": models or {},
            }
        )
    )


def targets(found: Catalog, model: str) -> list[str]:
    return [target.name for target in found.resolve(model).candidates]


# --- resolution -----------------------------------------------------------------------------


def test_alias_first() -> None:
    found = catalog(
        {"a": ["m1", "b"], "b": ["m2"]},
        {
            "m1": {"candidates": [{"provider": "b", "model": "other"}]},
            "b": {"candidates": [{"provider": "a", "model": "x"}]},
        },
    )
    assert targets(found, "m1") == ["b/other"]
    assert targets(found, "b") == ["a/x"]


def test_provider_and_model_at_the_first_slash() -> None:
    found = catalog()
    assert targets(found, "a/anything") == ["a/anything"]
    assert targets(found, "a/vendor/model:free") == ["a/vendor/model:free"]
    assert targets(found, "b/m1") == ["b/m1"]


def test_bare_model_that_one_row_lists() -> None:
    assert targets(catalog(), "m2") == ["b/m2"]


def test_bare_model_with_a_slash_in_its_name() -> None:
    found = catalog({"a": ["vendor/model"], "b": ["m"]})
    assert targets(found, "vendor/model") == ["a/vendor/model"]


def test_provider_goes_before_a_bare_model_of_that_name() -> None:
    found = catalog({"a": ["b/m"], "b": []})
    assert targets(found, "b/m") == ["b/m"]


def test_ambiguous_model_is_unknown_and_told_with_its_names() -> None:
    found = catalog({"a": ["m"], "b": ["m"]})
    with pytest.raises(UnknownModel) as raised:
        found.resolve("m")
    assert raised.value.nearest == ("a/m", "b/m")
    assert targets(found, "b/m") == ["b/m"]


@pytest.mark.parametrize("model", ["", "/", "a", "a/", "/m1", "nobody/m1", "fas"])
def test_unknown_model(model: str) -> None:
    found = catalog(models={"fast": {"candidates": [CANDIDATE]}})
    with pytest.raises(UnknownModel):
        found.resolve(model)


def test_unknown_model_comes_with_the_nearest_names() -> None:
    found = catalog(models={"fast": {"candidates": [CANDIDATE]}})
    with pytest.raises(UnknownModel) as raised:
        found.resolve("fsat")
    assert raised.value.nearest == ("fast",)


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [
        ("FAST", ("fast",)),
        ("qwen3", ("a/Qwen3-8B",)),
        ("A/QWEN3-8b", ("a/Qwen3-8B",)),
        ("spare-1", ("b/spare-1",)),  # of an alias only, and not listed
        ("zzzzzz", ()),
    ],
)
def test_nearest_names_whatever_their_case_and_without_provider(
    asked: str, nearest: tuple[str, ...]
) -> None:
    fast = {"candidates": [CANDIDATE], "fallbacks": [{"provider": "b", "model": "spare-1"}]}
    found = catalog({"a": ["Qwen3-8B"], "b": []}, {"fast": fast})
    with pytest.raises(UnknownModel) as raised:
        found.resolve(asked)
    assert raised.value.nearest == nearest


def test_with_nothing_near_it_is_told_how_models_are_named() -> None:
    with pytest.raises(UnknownModel) as raised:
        catalog({"openrouter": [], "tokenmix": []}).resolve("fast")
    assert str(raised.value) == (
        "unknown model 'fast'; a provider's model is asked for as openrouter/MODEL or"
        " tokenmix/MODEL"
    )


def test_name_of_absurd_length_is_only_unknown() -> None:
    with pytest.raises(UnknownModel) as raised:
        catalog().resolve("m" * 4_000_000)
    assert raised.value.nearest == ()


def test_names_are_aliases_then_models() -> None:
    found = catalog(models={"fast": {"candidates": [CANDIDATE]}})
    assert found.names() == ["fast", "a/m1", "b/m2"]
    assert [targets(found, name) for name in found.names()] == [["a/m"], ["a/m1"], ["b/m2"]]
    assert list(found.routes) == ["fast"]


def test_catalog_of_a_generation_is_the_one_it_started_with() -> None:
    """A reload makes a new catalog; routes that were resolved keep their endpoints."""
    before = catalog(models={"fast": {"candidates": [CANDIDATE]}})
    route = before.resolve("fast")
    after = catalog({"b": ["m2"]}, {"fast": {"candidates": [{"provider": "b", "model": "m2"}]}})
    assert [target.name for target in route.candidates] == ["a/m"]
    assert targets(after, "fast") == ["b/m2"]
    with pytest.raises(UnknownModel):
        after.resolve("a/m1")


# --- timeouts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "reasoning", "expected"),
    [
        ({}, ReasoningOptions(), Timeouts(1.0, 10.0, 10.0, 120.0)),
        ({}, ReasoningOptions("none"), Timeouts(1.0, 10.0, 10.0, 120.0)),
        ({}, ReasoningOptions("minimal"), Timeouts(1.0, 10.0, 10.0, 120.0)),
        ({}, ReasoningOptions("high"), Timeouts(1.0, 120.0, 60.0, 900.0)),
        ({}, ReasoningOptions(budget_tokens=1000), Timeouts(1.0, 120.0, 60.0, 900.0)),
        ({}, ReasoningOptions(budget_tokens=0), Timeouts(1.0, 10.0, 10.0, 120.0)),
        ({"class": "default"}, ReasoningOptions("high"), Timeouts(1.0, 10.0, 10.0, 120.0)),
        ({"class": "reasoning"}, ReasoningOptions(), Timeouts(1.0, 120.0, 60.0, 900.0)),
        (
            {"connect_ms": 250, "total_ms": 9000},
            ReasoningOptions("high"),
            Timeouts(0.25, 120.0, 60.0, 9.0),
        ),
    ],
)
def test_timeouts_by_class_and_field(
    given: dict[str, Any], reasoning: ReasoningOptions, expected: Timeouts
) -> None:
    found = catalog(models={"fast": {"candidates": [CANDIDATE], "timeouts": given}})
    assert found.resolve("fast").timeouts_for(request(reasoning=reasoning)) == expected


# --- endpoints ------------------------------------------------------------------------------


def endpoint(monkeypatch: pytest.MonkeyPatch, **row: Any) -> Any:
    monkeypatch.setenv("KEY_1", "sk-first")
    monkeypatch.setenv("KEY_2", "sk-second")
    document = {"providers": {"p": {"wire": "openai_chat", "base_url": "https://x.test", **row}}}
    return Catalog(parse(document)).endpoints["p"]


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ("bearer", ("authorization", "Bearer sk-first")),
        ("x-api-key", ("x-api-key", "sk-first")),
        ("api-key", ("api-key", "sk-first")),
        ("x-goog-api-key", ("x-goog-api-key", "sk-first")),
        ("none", None),
    ],
)
def test_credential_goes_where_the_provider_wants_it(
    monkeypatch: pytest.MonkeyPatch, auth: str, header: tuple[str, str] | None
) -> None:
    found = endpoint(
        monkeypatch, auth=auth, api_keys=["${KEY_1}", "${KEY_2}"], headers={"X-Title": "t"}
    )
    sent = found.signed("POST", "/v1/x", [("accept", "*/*")], b"{}", 0.0)
    assert sent == [("accept", "*/*"), ("x-title", "t"), *([header] if header else [])]
    assert found.headers == [("x-title", "t")]
    assert found.secrets()[1:] == ([] if header is None else [("", "sk-first"), ("", "sk-second")])


def test_endpoint_prints_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    found = endpoint(monkeypatch, api_key="${KEY_1}")
    for text in (repr(found), str(found), f"{found}", repr([found])):
        assert "sk-first" not in text
    monkeypatch.setenv("KEY_1", "sk-first")
    whole = Catalog(
        parse(
            {
                "providers": {"p": {**ROW, "auth": "bearer", "api_key": "${KEY_1}"}},
                "models": {"fast": {"candidates": [{"provider": "p", "model": "m"}]}},
            }
        )
    )
    assert "sk-first" not in repr(whole.resolve("fast"))


@pytest.mark.parametrize(
    ("url", "origin", "base_path"),
    [
        ("https://x.test/v1/", ("https", "x.test", 443), "/v1"),
        ("https://x.test", ("https", "x.test", 443), ""),
        ("http://127.0.0.1:9000/v1", ("http", "127.0.0.1", 9000), "/v1"),
        ("http://x.test", ("http", "x.test", 80), ""),
        ("https://[::1]:8443/a/b", ("https", "::1", 8443), "/a/b"),
    ],
)
def test_address(
    monkeypatch: pytest.MonkeyPatch, url: str, origin: tuple[str, str, int], base_path: str
) -> None:
    found = endpoint(monkeypatch, base_url=url)
    assert tuple(found.origin[:3]) == origin
    assert found.base_path == base_path
    assert found.probe_path == f"{base_path}/models"


def test_wire_that_is_not_spoken_is_named() -> None:
    row = {**ROW, "wire": "telegraph"}
    with pytest.raises(ConfigError, match=r"providers\.p\.wire.*telegraph.*openai_chat"):
        Catalog(parse({"providers": {"p": row}}))


def test_quirk_that_the_wire_does_not_know_is_named() -> None:
    row = {**ROW, "quirks": {"max_token_field": "x"}}
    with pytest.raises(ConfigError, match=r"providers\.p\.quirks.*max_tokens_field"):
        Catalog(parse({"providers": {"p": row}}))
