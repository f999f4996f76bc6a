"""From a model's name to targets: the order of resolution, timeouts, and what an endpoint holds."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest

from relay.config import ConfigError, ProviderConfig, parse
from relay.content import ReasoningOptions
from relay.credentials.base import Call, CredentialState
from relay.errors import CredentialUnavailable, UnknownModel
from relay.prices import Price
from relay.routing.catalog import MAX_DIRECT, Catalog
from relay.routing.route import MAX_WITHIN, Route, Timeouts
from relay.routing.target import Target
from relay.transport.base import Headers
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


def test_routes_of_single_models_are_kept_within_bounds() -> None:
    found = catalog()
    assert found.resolve("a/x") is found.resolve("a/x")
    long = "a/" + "x" * 1000
    assert found.resolve(long) is not found.resolve(long)
    first = found.resolve("a/first")
    for number in range(MAX_DIRECT):
        found.resolve(f"a/{number}")
    assert found.resolve("a/first") is not first
    assert found.resolve("a/first") == first


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
    own = [header] if header else []
    assert sent == ([("accept", "*/*"), ("x-title", "t"), *own], own)
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


# --- doors ----------------------------------------------------------------------------------

ENTRA = {"kind": "azure_entra", "tenant_id": "t", "client_id": "c", "client_secret": "${KEY}"}
CLOUDS: dict[str, Any] = {
    "openai": {"api_key": "${KEY}", "data_zone": "us"},
    "azure-eu": {
        "door": "azure",
        "resource": "corp",
        "data_zone": "eu",
        "credential": ENTRA,
        "same_as": {"mini": "gpt-4o-mini"},
        "service_tier": "default",
        "retention": "0d",
        "region": "swedencentral",
    },
    "lab": ROW,
}
SAME = [
    {"provider": "openai", "model": "gpt-4o-mini"},
    {"provider": "azure-eu", "model": "mini"},
    {"provider": "lab", "model": "gpt-4o-mini"},
]


def clouds(models: dict[str, Any] | None = None, **rows: dict[str, Any]) -> Catalog:
    providers = {name: {**row, **rows.get(name, {})} for name, row in CLOUDS.items()}
    return Catalog(parse({"providers": providers, "models": models or {}}, {"KEY": "sk-secret"}))


def test_a_door_fills_its_endpoint() -> None:
    found = clouds().endpoints["azure-eu"]
    assert (found.door, found.region, found.data_zone) == ("azure", "swedencentral", "eu")
    assert (found.retention, found.service_tier) == ("0d", "default")
    assert found.service_tiers == ("priority",)
    assert (found.origin.host, found.base_path) == ("corp.openai.azure.com", "/openai/v1")
    lab = clouds().endpoints["lab"]
    assert (lab.door, lab.data_zone, lab.retention) == ("lab", "", "unknown")


def test_a_target_knows_its_class_zone_and_price() -> None:
    found = clouds()
    direct, azure, lab = (
        found.resolve(f"{c['provider']}/{c['model']}").candidates[0] for c in SAME
    )
    assert (direct.same, direct.zone) == ("gpt-4o-mini", "us")
    assert (azure.same, azure.zone) == ("gpt-4o-mini", "eu")
    assert (lab.same, lab.zone) == ("", "")
    assert azure.price == direct.price is not None
    assert lab.price is None


def test_a_tier_makes_another_target_of_the_same_place() -> None:
    endpoint = clouds().endpoints["openai"]
    usual, dear = Target(endpoint, "gpt-4o-mini"), Target(endpoint, "gpt-4o-mini", "priority")
    assert (usual.name, dear.name) == ("openai/gpt-4o-mini", "openai/gpt-4o-mini#priority")
    assert usual.place == dear.place == "openai/gpt-4o-mini"
    assert usual.same == dear.same
    assert usual.price is not None
    assert dear.price is not None
    assert dear.price.input > usual.price.input


def test_a_tier_is_the_targets_then_the_requests_then_the_endpoints() -> None:
    found = clouds()
    plain = request()
    fast = dataclasses.replace(plain, service_tier="flex")
    openai, azure = found.endpoints["openai"], found.endpoints["azure-eu"]
    assert Target(openai, "m").asked(plain) is plain
    assert Target(openai, "m").asked(fast) is fast
    assert Target(azure, "m").asked(plain).service_tier == "default"
    assert Target(azure, "m").asked(fast) is fast
    for asked in (plain, fast):
        assert Target(azure, "m", "priority").asked(asked).service_tier == "priority"


def test_a_row_s_own_tier_is_what_its_models_cost() -> None:
    def priced(model: str, **row: Any) -> Price | None:
        return Target(clouds(openai=row).endpoints["openai"], model).price

    usual, dear = priced("gpt-4.1-mini"), priced("gpt-4.1-mini", service_tier="priority")
    assert usual is not None
    assert dear is not None
    assert dear.input > usual.input
    assert priced("gpt-4.1-mini", service_tier="default") == usual
    assert priced("gpt-4.1-mini", service_tier="flex") is None, "nobody publishes one"
    rates = {"input": 1, "output": 2}
    own = {"m": {**rates, "tiers": {"flex": {"input": 3, "output": 4}}}}
    assert priced("m", service_tier="priority", prices=own) == Price(1, 1, 2)
    assert priced("m", service_tier="flex", prices=own) == Price(3, 3, 4)


def test_tiers_of_the_operators_own_prices() -> None:
    rates = {"input": 1, "output": 2}
    prices = {
        "mini": {**rates, "tiers": {"priority": {"input": 3, "cached_input": 1, "output": 6}}},
        "other": rates,
    }
    endpoint = clouds(**{"azure-eu": {"prices": prices}}).endpoints["azure-eu"]
    assert endpoint.price_of("mini") == endpoint.price_of("mini", "default") == (1, 1, 2)
    assert endpoint.price_of("mini", "priority") == (3, 1, 6)
    assert endpoint.price_of("other", "priority") is None, "not the usual one, as a bargain"


def test_a_credential_that_nobody_fetches_waits() -> None:
    endpoint = clouds().endpoints["azure-eu"]
    assert endpoint.credential.wait_s(0.0) > 0
    assert endpoint.credential.describe(0.0).kind == "azure_entra"
    with pytest.raises(CredentialUnavailable) as raised:
        endpoint.signed("POST", "/x", [], b"", 0.0)
    assert raised.value.public_message == "providers.azure-eu: no credential is fetched here"
    assert raised.value.metadata == {"provider": "azure-eu"}
    assert endpoint.secrets() == []


class Signing:
    """Signs with what it is asked for."""

    kind: ClassVar[str] = "signing"

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def headers(self, call: Call, wall_s: float) -> Headers:
        self.calls.append(call)
        return [("authorization", f"signed at {wall_s:g}")]

    def wait_s(self, now_s: float) -> float:
        return 0.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        return False

    def secrets(self) -> list[str]:
        return ["new", "old"]

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(self.kind)


class OneDesk:
    def __init__(self) -> None:
        self.rows: list[ProviderConfig] = []
        self.credential = Signing()

    def of(self, row: ProviderConfig) -> Signing:
        self.rows.append(row)
        return self.credential


def test_a_desk_gives_the_credentials_and_they_see_the_whole_call() -> None:
    desk = OneDesk()
    config = parse({"providers": {"p": {**ROW, "headers": {"X-Own": "1"}}}})
    endpoint = Catalog(config, desk).endpoints["p"]
    assert desk.rows == [config.providers["p"]]
    sent = endpoint.signed("POST", "/v1/x?y=1", [("accept", "*/*")], b"{}", 7.0, "session")
    own = [("accept", "*/*"), ("x-own", "1")]
    signature = [("authorization", "signed at 7")]
    assert sent == ([*own, *signature], signature)
    (call,) = desk.credential.calls
    assert (call.method, call.path, call.body) == ("POST", "/v1/x?y=1", b"{}")
    assert (call.origin, call.session) == (endpoint.origin, "session")
    assert call.headers[:2] == own
    assert endpoint.secrets() == [("x-own", "1"), ("", "new"), ("", "old")]


# --- zones ----------------------------------------------------------------------------------


def test_an_alias_holds_only_targets_of_its_zones() -> None:
    alias = {"zones": ["eu"], "candidates": SAME[:2], "fallbacks": SAME[2:]}
    route = clouds({"fast": alias}).resolve("fast")
    assert [target.name for target in route.candidates] == ["azure-eu/mini"]
    assert route.fallbacks == ()
    assert route.zones == frozenset({"eu"})


def test_an_alias_without_a_candidate_in_its_zones_is_refused() -> None:
    alias = {"zones": ["ch"], "candidates": SAME, "fallbacks": []}
    with pytest.raises(ConfigError) as raised:
        clouds({"fast": alias})
    assert str(raised.value) == (
        "models.fast.zones: no candidate is in ch: openai/gpt-4o-mini (us), azure-eu/mini (eu),"
        " lab/gpt-4o-mini (unknown)"
    )


def test_a_route_within_zones() -> None:
    alias = {"candidates": [SAME[0], SAME[2]], "fallbacks": SAME[1:2]}
    route = clouds({"fast": alias}).resolve("fast")
    assert route.within(None) is route
    us, eu = frozenset({"us"}), frozenset({"eu"})
    inside = route.within(us)
    assert inside is not None
    assert [target.name for target in inside.candidates] == ["openai/gpt-4o-mini"]
    assert inside.fallbacks == ()
    assert inside.zones == us
    assert route.within(frozenset({"us"})) is inside, "what is kept by route stays"
    assert inside.within(us) is inside
    assert inside.within(eu) is None, "zones only ever get fewer"
    assert route.within(frozenset({"ch"})) is None
    assert route.within(frozenset()) is None
    promoted = route.within(eu)
    assert promoted is not None
    assert [target.name for target in promoted.candidates] == ["azure-eu/mini"]
    assert promoted.fallbacks == ()


def test_routes_for_zones_do_not_pile_up() -> None:
    route = clouds({"fast": {"candidates": SAME}}).resolve("fast")
    for count in range(10 * MAX_WITHIN):
        route.within(frozenset({"us", f"z{count}"}))
    assert len(route._narrowed) <= MAX_WITHIN


# --- the dearer tier --------------------------------------------------------------------------


def escalating(ratio: float = 2.0, **alias: Any) -> Route:
    hedge = {"mode": "active", "escalate": {"tier": "priority", "max_price_ratio": ratio}}
    return clouds({"fast": {"candidates": SAME, "hedge": hedge, **alias}}).routes["fast"]


def test_candidates_with_a_priced_tier_can_be_escalated() -> None:
    found = escalating().escalated
    assert list(found) == ["openai/gpt-4o-mini"], "Azure's priority tier has no published price"
    assert found["openai/gpt-4o-mini"].name == "openai/gpt-4o-mini#priority"
    assert found["openai/gpt-4o-mini"].zone == "us"
    assert escalating(1.2).escalated == {}, "it costs 1.67 times as much"
    assert clouds({"fast": {"candidates": SAME}}).routes["fast"].escalated == {}


def test_what_is_narrowed_is_narrowed_of_its_tiers() -> None:
    route = escalating()
    inside = route.within(frozenset({"eu"}))
    assert inside is not None
    assert (inside.escalated, route.narrower) == ({}, (inside,))
    outside = route.within(frozenset({"us"}))
    assert outside is not None
    assert list(outside.escalated) == ["openai/gpt-4o-mini"]


def test_a_row_that_is_dear_already_is_not_made_dearer() -> None:
    hedge = {"mode": "active", "escalate": {"tier": "priority"}}
    alias = {"fast": {"candidates": SAME, "hedge": hedge}}
    assert clouds(alias, openai={"service_tier": "priority"}).routes["fast"].escalated == {}
