"""Rows of doors: what they bring along, which fields they want, their zones and classes."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

import pytest
from genai_prices.data_snapshot import get_snapshot

from relay.config import (
    ConfigError,
    ProviderConfig,
    class_of,
    json_schema,
    known_providers,
    parse,
    same_models,
    zone_of,
)
from relay.config.doors import FIELDS
from relay.prices import PROVIDER_IDS
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from tests.fakes.json_schema import faults

FIELDS_GIVEN = {"resource": "corp", "region": "eu-west-1", "project": "p-1", "api_version": "v9"}
DOORS = [
    name
    for name, row in known_providers().items()
    if any(f"{{{field}}}" in str(row) for field in (*FIELDS, "host"))
]


def row(door: str, **fields: Any) -> ProviderConfig:
    return parse({"providers": {"p": {"door": door, **fields}}}).providers["p"]


def fault_of(door: str, **fields: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        row(door, **fields)
    return str(raised.value)


# --- templates ------------------------------------------------------------------------------


def test_there_are_doors() -> None:
    assert {"azure", "azure_deployments", "bedrock", "bedrock_messages", "vertex"} <= set(DOORS)


@pytest.mark.parametrize("door", DOORS)
def test_fields_stand_in_the_texts_of_a_door(door: str) -> None:
    found = row(door, **FIELDS_GIVEN)
    texts = [found.base_url, found.probe_path or "", *map(str, found.quirks.values())]
    left = {name for text in texts for name in re.findall(r"\{(\w+)\}", text)}
    assert left <= {"model"}, "the codec's own"
    assert "corp" in str(texts) or "eu-west-1" in str(texts) or "p-1" in str(texts)


@pytest.mark.parametrize("door", DOORS)
def test_every_field_that_lacks_is_named(door: str) -> None:
    text = str(known_providers()[door])
    wanted = {name for name in FIELDS if f"{{{name}}}" in text}
    if door == "azure_deployments":
        assert wanted == {"resource", "api_version"}
    for name in wanted - {"region"}:
        given = {key: value for key, value in FIELDS_GIVEN.items() if key != name}
        assert fault_of(door, **given) == f"providers.p.{name}: is required by this door"
    lines = fault_of(door).splitlines()
    assert {line.split(":")[0] for line in lines} == {f"providers.p.{name}" for name in wanted}


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("europe-west4", "europe-west4-aiplatform.googleapis.com"),
        ("global", "aiplatform.googleapis.com"),
        ("us", "aiplatform.us.rep.googleapis.com"),
        ("eu", "aiplatform.eu.rep.googleapis.com"),
    ],
)
def test_hosts_of_google_by_location(region: str, host: str) -> None:
    found = row("vertex", project="p-1", region=region)
    assert found.base_url == f"https://{host}"
    path = f"/v1/projects/p-1/locations/{region}/publishers/google/models/{{model}}"
    assert str(found.quirks["path"]).startswith(path)


@pytest.mark.parametrize("door", ["bedrock", "bedrock_messages", "bedrock_openai"])
@pytest.mark.parametrize(
    ("region", "suffix"),
    [
        ("us-east-1", "amazonaws.com"),
        ("us-gov-west-1", "amazonaws.com"),
        ("cn-north-1", "amazonaws.com.cn"),
        ("eusc-de-east-1", "amazonaws.eu"),
    ],
)
def test_hosts_of_aws_by_partition(door: str, region: str, suffix: str) -> None:
    """As botocore's list of endpoints and OpenAI's SDK have them."""
    host = f"https://bedrock-runtime.{region}.{suffix}"
    assert row(door, region=region).base_url.removeprefix(host) in ("", "/openai/v1")


def test_an_address_of_ones_own_needs_no_resource() -> None:
    found = row("azure", base_url="https://llm.corp.test/openai")
    assert found.base_url == "https://llm.corp.test/openai"
    assert found.quirks == known_providers()["azure"]["quirks"]
    private = row("vertex", base_url="https://10.0.0.1", quirks={"path": "/x/{model}"})
    assert (private.probe_path, private.quirks["path"]) == ("/", "/x/{model}")
    assert "project: is required" in fault_of("vertex", base_url="https://10.0.0.1", region="eu")


@pytest.mark.parametrize("value", ["a/b", "a b", "x?y=1", "{region}", "-x", "a\n", "a@b"])
@pytest.mark.parametrize("field", ["resource", "region"])
def test_nothing_but_a_word_is_put_into_an_address(field: str, value: str) -> None:
    door = "azure" if field == "resource" else "bedrock_openai"
    assert f"providers.p.{field}: letters, digits" in fault_of(door, **{field: value})


def test_a_version_that_yaml_reads_as_a_day() -> None:
    found = row("azure_deployments", resource="r", api_version=date(2024, 10, 21))
    assert found.api_version == "2024-10-21"
    assert str(found.quirks["path"]).endswith("?api-version=2024-10-21")


def test_a_door_that_is_not_there() -> None:
    assert fault_of("azur", resource="r") == (
        "providers.p.door: there is no door 'azur'; did you mean 'azure'?"
    )
    assert "providers.p.door" in fault_of("same_models")


def test_a_door_that_is_like_none_is_told_with_all() -> None:
    text = fault_of("aws")
    assert "providers.p.door: there is no door 'aws'; there are openai, " in text
    assert "bedrock" in text
    assert "same_models" not in text


@pytest.mark.parametrize("given", [{"resource": "r"}, {"door": "", "api_key": "${KEY}"}])
def test_a_row_of_a_name_of_ones_own_wants_a_door(given: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse({"providers": {"azure-eu": given}})
    assert str(raised.value) == (
        "providers.azure-eu.door: is required, as no door is called 'azure-eu'; or `wire` and"
        " `base_url`, for one that is not known"
    )


@pytest.mark.parametrize("field", ["resource", "api_version"])
def test_a_field_that_is_no_text_is_told_so(field: str) -> None:
    given = {"resource": "r", "api_version": "v", field: 20241021}
    assert fault_of("azure_deployments", **given) == f"providers.p.{field}: must be text"


def test_a_resource_is_the_name_alone() -> None:
    assert fault_of("azure", resource="corp.openai.azure.com") == (
        "providers.p.resource: the name alone is expected, 'corp'"
    )


def test_the_door_counts_and_not_the_name() -> None:
    found = parse({"providers": {"openai": {"door": "azure", "resource": "r"}}})
    assert found.providers["openai"].base_url == "https://r.openai.azure.com/openai/v1"


def test_another_wire_of_a_door() -> None:
    found = row("azure_deployments", resource="r", api_version="v", wire="openai_responses")
    assert found.quirks == {
        "has_developer_role": True,
        "path": "/responses?api-version=v",
        "embeddings_path": "/deployments/{model}/embeddings?api-version=v",
    }
    mantle = row("bedrock_mantle", region="us-east-1", wire="anthropic_messages")
    assert mantle.base_url == "https://bedrock-mantle.us-east-1.api.aws/anthropic"


def test_the_schema_takes_a_door_without_wire_and_address() -> None:
    schema = json_schema()
    assert not faults(schema, {"providers": {"p": {"door": "azure", "resource": "r"}}})
    assert faults(schema, {"providers": {"p": {"door": "azur", "resource": "r"}}})
    assert faults(schema, {"providers": {"p": {"resource": "r"}}})


# --- zones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "zone"),
    [
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "told"),
        ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", "eu"),
        ("us.amazon.nova-lite-v1:0", "us"),
        ("us-gov.anthropic.claude-sonnet-4-6", "us-gov"),
        ("apac.anthropic.claude-sonnet-4-6", "apac"),
        ("jp.anthropic.claude-sonnet-4-6", "jp"),
        ("global.anthropic.claude-sonnet-4-6", "global"),
        ("openai.gpt-5.4", "told"),
        ("zai.glm-4.7", "told"),
        ("ai21.jamba-1-5-mini-v1:0", "told"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/us.anthropic.claude-sonnet-4-6", "us"),
        ("US.anthropic.claude-sonnet-4-6", "us"),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc123", "told"),
        ("arn:aws:bedrock:eu-west-1:1:default-prompt-router/anthropic.claude:1", ""),
        ("arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-sonnet-4-6", "told"),
    ],
)
def test_a_profile_of_bedrock_says_its_zone_itself(model: str, zone: str) -> None:
    for door in ("bedrock", "bedrock_messages", "bedrock_mantle"):
        assert zone_of(door, "told", model) == zone
    assert zone_of("anthropic", "told", model) == "told"


@pytest.mark.parametrize(
    "fields",
    [
        {"wire": "bedrock_converse", "base_url": "https://vpce.corp.test"},
        {"wire": "openai_chat", "base_url": "https://bedrock-runtime.eu-west-1.amazonaws.com/v1"},
        {"wire": "openai_chat", "base_url": "https://bedrock-mantle.eu-west-1.api.aws/v1"},
        {
            "wire": "anthropic_messages",
            "base_url": "https://vpce.corp.test",
            "region": "eu-west-1",
            "credential": {
                "kind": "aws_sigv4",
                "access_key_id": "${ID}",
                "secret_access_key": "${ID}",
            },
        },
    ],
)
def test_bedrock_is_bedrock_without_a_door(fields: dict[str, Any]) -> None:
    """A row that its operator wrote himself, as for a private endpoint."""
    own = parse({"providers": {"mine": {**fields, "data_zone": "eu"}}}, {"ID": "secret-1"})
    endpoint = Catalog(own).endpoints["mine"]
    assert Target(endpoint, "global.anthropic.claude-sonnet-4-6").zone == "global"
    assert Target(endpoint, "anthropic.claude-sonnet-4-6").zone == "eu"


def test_others_names_say_nothing() -> None:
    own = {"wire": "openai_chat", "base_url": "https://notamazonaws.com/v1", "data_zone": "eu"}
    endpoint = Catalog(parse({"providers": {"mine": own}})).endpoints["mine"]
    assert Target(endpoint, "us.anthropic.claude-sonnet-4-6").zone == "eu"


def test_a_region_is_no_zone() -> None:
    found = row("bedrock_openai", region="eu-central-1")
    assert found.zone_at("bedrock_openai") == ""
    assert row("azure", resource="r", region="swedencentral").zone_at("azure") == ""


@pytest.mark.parametrize("door", ["vertex", "vertex_anthropic"])
def test_the_location_global_is_the_zone_global(door: str) -> None:
    fields = {"project": "p", "region": "global"}
    assert row(door, **fields).zone_at(door) == "global"
    assert row(door, **fields, data_zone="global").zone_at(door) == "global"
    assert fault_of(door, **fields, data_zone="eu").startswith("providers.p.data_zone: region")
    assert row(door, project="p", region="eu", data_zone="eu").zone_at(door) == "eu"


def test_a_door_without_a_location_is_global() -> None:
    assert row("vertex_express").zone_at("vertex_express") == "global"
    assert row("vertex_express", data_zone="eu").zone_at("vertex_express") == "global"


@pytest.mark.parametrize("zone", ["", "EU", "e u", "-eu", 5, ["eu"]])
def test_a_zone_is_a_word(zone: object) -> None:
    assert "providers.p.data_zone" in fault_of("openai", data_zone=zone)


def test_words_of_zones_and_of_retention_are_told_in_words() -> None:
    assert fault_of("openai", data_zone="EU") == (
        "providers.p.data_zone: a small letter, then small letters, digits and '-' are expected,"
        " 32 at most"
    )
    assert fault_of("openai", retention="30 days") == (
        "providers.p.retention: days as `30d`, or `unknown`, are expected"
    )
    rows = {"p": {"door": "openai", "data_zone": "eu"}}
    alias: dict[str, Any] = {"candidates": [{"provider": "p", "model": "m"}], "zones": ["EU"]}
    with pytest.raises(ConfigError) as raised:
        parse({"providers": rows, "models": {"fast": alias}})
    assert str(raised.value).startswith("models.fast.zones[0]: a small letter")
    assert "\n" not in str(raised.value)
    with pytest.raises(ConfigError, match=r"^models\.fast\.zones: is empty$"):
        parse({"providers": rows, "models": {"fast": {**alias, "zones": []}}})


@pytest.mark.parametrize("kept", ["0d", "30d", "unknown"])
def test_retention(kept: str) -> None:
    assert row("openai", retention=kept).retention == kept
    assert "providers.p.retention" in fault_of("openai", retention="30")


# --- classes --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", same_models())
def test_every_class_has_a_date_a_source_and_doors_that_are_there(name: str) -> None:
    entry = same_models()[name]
    assert date.fromisoformat(entry.looked_up) <= date(2100, 1, 1)
    assert entry.source
    assert entry.doors.keys() <= known_providers().keys()
    assert all(entry.doors.values())


def test_a_name_is_in_one_class() -> None:
    names = [
        (door, model)
        for e in same_models().values()
        for door, ms in e.doors.items()
        for model in ms
    ]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", same_models())
def test_the_price_data_has_the_names_of_a_class_as_one_model(name: str) -> None:
    """Another edition that splits a class is worth a look."""
    for door, models in same_models()[name].doors.items():
        provider = next(p for p in get_snapshot().providers if p.id == PROVIDER_IDS[door])
        found = {id(provider.find_model(model)) for model in models}
        assert len(found) == 1
        assert None not in [provider.find_model(model) for model in models]


def test_classes_by_door() -> None:
    haiku = "anthropic.claude-haiku-4-5-20251001-v1:0"
    same = "claude-haiku-4-5"
    assert class_of("anthropic", "claude-haiku-4-5-20251001", {}) == same
    for door in ("bedrock", "bedrock_messages"):
        for model in (haiku, f"eu.{haiku}", f"arn:aws:bedrock:us-east-1::foundation-model/{haiku}"):
            assert class_of(door, model, {}) == same
    assert class_of("vertex_anthropic", "claude-haiku-4-5@20251001", {}) == same
    assert class_of("openrouter", "claude-haiku-4-5", {}) == "", "another's word for it"
    assert class_of("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/x", {}) == ""
    assert class_of("vertex_express", "gemini-2.5-flash", {}) == "gemini-2.5-flash"


def test_the_operators_word_goes_before_the_table() -> None:
    assert class_of("azure", "d", {"d": "gpt-4o-mini"}) == "gpt-4o-mini"
    assert class_of("openai", "gpt-4o-mini", {"gpt-4o-mini": "ours"}) == "ours"
