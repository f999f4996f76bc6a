"""What a key may ask for, of whole requests and over a catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.config import parse
from relay.content import GenerateRequest, HedgeWish, Message, Policy, Role, TextPart
from relay.errors import PermissionDenied, UnknownModel
from relay.governance.directory import Directory
from relay.governance.gate import KeyGate, OpenGate
from relay.governance.grants import (
    Grant,
    allows,
    check_handed_through,
    granted,
    route_of,
    routes_for,
    scopes_of,
)
from relay.governance.scopes import EVERYTHING, Scopes
from relay.routing.catalog import Catalog
from tests.fakes.keys import NOW_US, PEPPERS, key_row, organisation_row, team_row, whole


def provider(*models: str) -> dict[str, Any]:
    return {
        "wire": "openai_chat",
        "base_url": "https://x.test/v1",
        "auth": "none",
        "models": list(models),
    }


CATALOG = Catalog(
    parse(
        {
            "providers": {"lab": provider("small", "big"), "shop": provider("big")},
            "models": {
                "fast": {"tags": ["eu"], "candidates": [{"provider": "lab", "model": "small"}]},
                "best": {"tags": ["us"], "candidates": [{"provider": "lab", "model": "big"}]},
            },
        }
    )
)


def gate(scopes: Scopes, tags: str = "[]") -> KeyGate:
    directory = Directory(PEPPERS, lambda: 1.0)
    row = key_row(scopes=scopes.to_json(), tags=tags)
    directory.apply(whole(organisation_row(), team_row(), row), 1.0)
    return KeyGate(directory, lambda: 1.0, lambda: NOW_US)


def request(model: str = "fast", **fields: Any) -> GenerateRequest:
    asked_as = fields.pop("asked_as", "")
    return GenerateRequest(
        model=model,
        messages=(Message(Role.USER, (TextPart("Hello"),)),),
        policy=Policy(tenant="team_1", key_id="key_1", **fields),
        asked_as=asked_as,
    )


def grant(scopes: Scopes, key_tags: str = "[]", **fields: Any) -> Grant:
    return granted(gate(scopes, key_tags), CATALOG, request(**fields))


def test_without_keys_nothing_is_changed() -> None:
    asked = request("lab/anything")
    given = granted(OpenGate(), CATALOG, asked)
    assert given.request is asked
    assert given.view is None
    assert given.route.candidates[0].name == "lab/anything"
    assert scopes_of(OpenGate(), "") is EVERYTHING


def test_without_scopes_nothing_is_changed() -> None:
    asked = request(tags=("x",))
    given = granted(gate(Scopes()), CATALOG, asked)
    assert given.request is asked
    assert given.view is not None
    assert given.route.alias == "fast"


@pytest.mark.parametrize("name", ["models", "fallbacks", "preset"])
def test_no_other_model_beside_the_one_that_is_allowed(name: str) -> None:
    asked = replace(request(), extra={name: ["lab/big"]})
    native = replace(request(), native={"openai_chat": {name: ["lab/big"]}})
    for one in (asked, native):
        for scopes in (Scopes(models=("fast",)), Scopes(max_cost_micro=10)):
            with pytest.raises(PermissionDenied, match=name):
                granted(gate(scopes), CATALOG, one)
        assert granted(gate(Scopes()), CATALOG, one).request is one
        assert granted(OpenGate(), CATALOG, one).request is one


def refusal(scopes: Scopes, model: str) -> tuple[type[Exception], str]:
    with pytest.raises((PermissionDenied, UnknownModel)) as caught:
        grant(scopes, model=model)
    return type(caught.value), caught.value.public_message.replace(model, "MODEL")


@pytest.mark.parametrize(
    "scopes", [Scopes(models=("fast",)), Scopes(model_tags=("eu",)), Scopes(models=("shop/*",))]
)
def test_a_model_that_is_there_and_one_that_is_not_are_refused_alike(scopes: Scopes) -> None:
    told = {refusal(scopes, model) for model in ("best", "bist", "lab/big", "lib/big", "big")}
    assert len(told) == 1
    assert told.pop()[0] is PermissionDenied


def test_a_name_within_the_list_that_nothing_has_is_unknown() -> None:
    assert refusal(Scopes(models=("f*",)), "fasst")[0] is UnknownModel
    message = refusal(Scopes(models=("f*", "bist")), "bist")[1]
    assert "best" not in message, "which this key may not ask for"
    assert "fast" in refusal(Scopes(models=("f*",)), "fasst")[1]
    assert "lab/" not in refusal(Scopes(models=("x*",)), "xyz")[1]
    assert "best" in refusal(Scopes(), "bist")[1]


def test_a_model_may_be_named_without_its_provider() -> None:
    assert (
        grant(Scopes(models=("lab/small",)), model="small").route.candidates[0].name == "lab/small"
    )
    assert grant(Scopes(models=("small",)), model="small").route.alias == "small"
    with pytest.raises(PermissionDenied):
        grant(Scopes(models=("small",)), model="lab/small")
    assert not allows(Scopes(models=("lab/*",)), CATALOG, "big"), "two have it: it means neither"


def test_an_alias_is_allowed_by_its_own_name_not_by_where_it_leads() -> None:
    with pytest.raises(PermissionDenied):
        grant(Scopes(models=("lab/*",)), model="fast")


def test_what_the_relay_asks_on_behalf_of_a_name_is_allowed_by_that_name() -> None:
    scopes = Scopes(models=("fast",))
    assert grant(scopes, model="lab/small", asked_as="fast").route.alias == "lab/small"
    with pytest.raises(PermissionDenied):
        grant(scopes, model="lab/small", asked_as="best")


def test_a_name_that_nothing_has_may_be_asked_for_where_a_rule_answers_for_it() -> None:
    scopes = Scopes(models=("gpt-*",), zones=None)
    assert grant(scopes, model="fast", asked_as="gpt-4-old").route.alias == "fast"
    with pytest.raises(PermissionDenied):
        grant(scopes, model="fast", asked_as="claude-2")
    given = placed("eu", model="any", asked_as="gone")
    assert given.request.policy.zones == frozenset({"eu"})
    with pytest.raises(PermissionDenied):
        placed("eu", model="us1/m", asked_as="gone")


def test_tags_that_a_rule_has_put_on_need_no_leave_and_others_do() -> None:
    scopes, ruled = Scopes(request_tags=("x",)), frozenset({"spoken"})
    given = grant(scopes, tags=("x", "spoken"), tags_of_rules=ruled)
    assert given.request.policy.tags == ("x", "spoken")
    with pytest.raises(PermissionDenied, match="'y'"):
        grant(scopes, tags=("y", "spoken"), tags_of_rules=ruled)


def test_tags_of_the_key_are_put_on_and_need_no_leave() -> None:
    given = grant(Scopes(request_tags=("x",)), '["team-a", "x"]', tags=("x",))
    assert given.request.policy.tags == ("x", "team-a")
    again = granted(gate(Scopes(request_tags=("x",)), '["team-a"]'), CATALOG, given.request)
    assert again.request.policy.tags == ("x", "team-a")
    with pytest.raises(PermissionDenied, match="'y'"):
        grant(Scopes(request_tags=("x",)), tags=("x", "y"))


@pytest.mark.parametrize("mode", ["auto", "race", "off"])
def test_a_key_that_may_not_hedge_gets_one_attempt_at_a_time(mode: Any) -> None:
    wish = HedgeWish(mode=mode, delay_s=0.1)
    assert grant(Scopes(may_hedge=False), hedge=wish).request.policy.hedge.mode == "off"
    assert grant(Scopes(), hedge=wish).request.policy.hedge == wish


def test_routes_for_lists() -> None:
    eu = Scopes(model_tags=("eu",))
    assert [name for name in CATALOG.names() if allows(eu, CATALOG, name)] == ["fast"]
    lab = Scopes(models=("lab/*",))
    names = [name for name in CATALOG.names() if allows(lab, CATALOG, name)]
    assert names == ["lab/small", "lab/big"]
    assert route_of(lab, CATALOG, "small").alias == "small"


# --- zones ----------------------------------------------------------------------------------


def zoned(name: str, zone: str = "", **more: Any) -> dict[str, Any]:
    return {**provider("m"), **({"data_zone": zone} if zone else {}), **more}


ROW = {"provider": "", "model": "m"}
PLACES = Catalog(
    parse(
        {
            "providers": {
                "eu1": zoned("eu1", "eu"),
                "eu2": zoned("eu2", "eu"),
                "us1": zoned("us1", "us"),
                "dark": zoned("dark"),
                "aws": zoned("aws", "eu", door="bedrock_openai", region="eu-west-1"),
                "vertex": zoned("vertex", "eu", door="vertex", region="europe-west4", project="p"),
            },
            "models": {
                "any": {
                    "candidates": [{**ROW, "provider": p} for p in ("us1", "eu1", "dark")],
                    "fallbacks": [{**ROW, "provider": "eu2"}],
                },
                "home": {
                    "zones": ["eu", "ch"],
                    "candidates": [{**ROW, "provider": p} for p in ("eu1", "us1")],
                },
            },
        }
    )
)


def placed(*zones: str, **fields: Any) -> Grant:
    return granted(gate(Scopes(zones=zones or None)), PLACES, request(**fields))


def names(given: Grant) -> list[str]:
    return [target.name for target in (*given.route.candidates, *given.route.fallbacks)]


def test_a_key_narrows_a_route_to_its_zones() -> None:
    given = placed("eu", model="any")
    assert names(given) == ["eu1/m", "eu2/m"]
    assert given.request.policy.zones == given.route.zones == frozenset({"eu"})
    assert names(placed("us", "eu", model="any")) == ["us1/m", "eu1/m", "eu2/m"]
    assert placed("eu", model="any").route is given.route, "what is kept by route stays"
    everywhere = placed(model="any")
    assert names(everywhere) == ["us1/m", "eu1/m", "dark/m", "eu2/m"]
    assert everywhere.request.policy.zones is None


def test_zones_of_an_alias_hold_for_keys_without_and_for_a_relay_without_keys() -> None:
    for given in (placed(model="home"), granted(OpenGate(), PLACES, request("home"))):
        assert names(given) == ["eu1/m"]
        assert given.request.policy.zones == frozenset({"eu", "ch"})
    assert placed("eu", "us", model="home").request.policy.zones == frozenset({"eu"})


@pytest.mark.parametrize(
    ("zones", "model", "told"),
    [(("us",), "home", "(us)"), (("eu", "ch"), "dark/m", "(ch, eu)"), (("ch",), "any", "(ch)")],
)
def test_where_nothing_is_left_the_zones_are_named(
    zones: tuple[str, ...], model: str, told: str
) -> None:
    with pytest.raises(PermissionDenied) as caught:
        placed(*zones, model=model)
    message = caught.value.public_message
    assert f"{model!r} is in the data zones of this key {told}" in message
    assert "1/m" not in message, "where the operator's targets are is not told"
    assert caught.value.metadata["field"] == "zones"


def test_what_is_asked_on_behalf_of_an_alias_stays_in_its_zones() -> None:
    given = placed(model="eu1/m", asked_as="home")
    assert (names(given), given.request.policy.zones) == (["eu1/m"], frozenset({"eu", "ch"}))
    with pytest.raises(PermissionDenied):
        placed(model="us1/m", asked_as="home")
    with pytest.raises(PermissionDenied):
        placed("eu", model="us1/m", asked_as="any")


def test_what_was_narrowed_is_never_widened() -> None:
    first = placed("eu", model="any")
    again = granted(gate(Scopes()), PLACES, first.request)
    assert (names(again), again.request.policy.zones) == (["eu1/m", "eu2/m"], frozenset({"eu"}))


@pytest.mark.parametrize("name", ["models", "provider", "inference_geo"])
def test_no_field_takes_a_request_elsewhere(name: str) -> None:
    asked = replace(request("any"), extra={name: "us"})
    with pytest.raises(PermissionDenied, match=f"stay in eu, and {name}"):
        granted(gate(Scopes(zones=("eu",))), PLACES, asked)
    with pytest.raises(PermissionDenied, match="stay in ch, eu"):
        granted(OpenGate(), PLACES, replace(asked, model="home"))
    assert granted(OpenGate(), PLACES, asked).request is asked


def test_lists_show_what_is_in_the_zones_and_of_it_what_is() -> None:
    found = {r.alias: len(r.candidates) for r in routes_for(Scopes(zones=("eu",)), PLACES)}
    assert found == {"any": 1, "home": 1, "eu1/m": 1, "eu2/m": 1, "aws/m": 1, "vertex/m": 1}
    assert [route.alias for route in routes_for(Scopes(zones=("ch",)), PLACES)] == []
    assert len(routes_for(Scopes(), PLACES)) == 8


def test_what_is_handed_through_goes_by_the_row_and_by_names_in_its_path() -> None:
    eu, aws = Scopes(zones=("eu",)), PLACES.endpoints["aws"]
    check_handed_through(Scopes(), PLACES.endpoints["dark"], "/files")
    check_handed_through(eu, PLACES.endpoints["eu1"], "/files/us.anthropic.claude-x")
    check_handed_through(eu, aws, "/model/eu.anthropic.claude-x/invoke")
    with pytest.raises(PermissionDenied, match="for data in eu, and dark is in an unknown zone"):
        check_handed_through(eu, PLACES.endpoints["dark"], "/files")
    with pytest.raises(PermissionDenied, match="us1 is in us"):
        check_handed_through(eu, PLACES.endpoints["us1"], "/files")
    for path in ("/model/global.anthropic.claude-x/invoke", "/model/us%2Eanthropic.claude-x"):
        with pytest.raises(PermissionDenied, match="aws is in"):
            check_handed_through(eu, aws, path)


def test_locations_of_vertex_in_a_path_are_those_of_the_row_or_none_that_is_known() -> None:
    eu, vertex = Scopes(zones=("eu",)), PLACES.endpoints["vertex"]
    check_handed_through(eu, vertex, "v1/projects/p/locations/europe-west4/cachedContents")
    check_handed_through(eu, vertex, "v1/publishers/google/models")
    for place, told in (("global", "is in global"), ("us-central1", "unknown zone")):
        path = f"v1/projects/p/locations/{place}/cachedContents"
        with pytest.raises(PermissionDenied, match=told):
            check_handed_through(eu, vertex, path)
        check_handed_through(Scopes(), vertex, path)
