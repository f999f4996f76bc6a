"""Rows of clouds as they are written by mistake, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import door_warnings, parse

SECRETS = {"KEY": "key-canary", "ID": "id-canary"}
BEDROCK = {"door": "bedrock", "region": "us-east-1"}
VERTEX = {"door": "vertex", "project": "p", "region": "europe-west4"}
AZURE = {"door": "azure", "resource": "corp"}
KEY = {"api_key": "${KEY}"}
AWS = {
    "credential": {
        "kind": "aws_sigv4",
        "access_key_id": "${ID}",
        "secret_access_key": "${KEY}",
    }
}
GOOGLE = {"credential": {"kind": "google", "source": "metadata"}}
ENTRA = {
    "credential": {
        "kind": "azure_entra",
        "tenant_id": "t",
        "client_id": "c",
        "client_secret": "${KEY}",
    }
}


def told(*parts: dict[str, Any], **fields: Any) -> list[str]:
    row = {name: value for part in (*parts, fields) for name, value in part.items()}
    return list(door_warnings(parse({"providers": {"p": row}}, SECRETS)))


@pytest.mark.parametrize(
    "parts",
    [
        (AZURE, KEY),
        (AZURE, ENTRA),
        (AZURE, {"headers": {"api-key": "${KEY}"}}),
        (BEDROCK, KEY),
        (BEDROCK, AWS),
        (VERTEX, GOOGLE),
        (VERTEX, GOOGLE, {"region": "eu"}),
        (VERTEX, GOOGLE, {"region": "mars-north1"}),
        ({"door": "vertex_express", "data_zone": "global"}, KEY),
        # A gateway of one's own may ask for nothing, and hand it on as it likes.
        (BEDROCK, {"base_url": "https://llm.corp.test"}),
        (BEDROCK, GOOGLE, {"base_url": "https://llm.corp.test"}),
        (AZURE, {"auth": "none"}),
        ({"wire": "openai_chat", "base_url": "https://x.test", "region": "us-eats-1"},),
    ],
)
def test_nothing_to_say(parts: tuple[dict[str, Any], ...]) -> None:
    assert told(*parts) == []


@pytest.mark.parametrize("row", [AZURE, BEDROCK, VERTEX, {"door": "bedrock_mantle"} | BEDROCK])
def test_a_cloud_without_a_credential(row: dict[str, Any]) -> None:
    (found,) = told(row)
    assert found.startswith("providers.p: there is no api_key and no credential, and ")
    assert found.endswith(" answers nobody without")


@pytest.mark.parametrize(
    ("row", "credential", "fault"),
    [
        (BEDROCK, GOOGLE, "google is of another cloud than bedrock-runtime.us-east-1"),
        (BEDROCK, ENTRA, "azure_entra is of another cloud than bedrock-runtime.us-east-1"),
        (VERTEX, AWS, "aws_sigv4 is of another cloud than europe-west4-aiplatform"),
        (AZURE, GOOGLE, "google is of another cloud than corp.openai.azure.com, which takes azure"),
    ],
)
def test_a_credential_of_another_cloud(
    row: dict[str, Any], credential: dict[str, Any], fault: str
) -> None:
    (found,) = told(row, credential)
    assert found.startswith(f"providers.p.credential: {fault}")


@pytest.mark.parametrize(
    ("row", "region", "meant"),
    [
        ({**BEDROCK, **KEY}, "us-eats-1", "us-east-1"),
        ({**BEDROCK, **KEY}, "US-EAST-1", "us-east-1"),
        ({**BEDROCK, **KEY}, "eu-central-1a", "eu-central-1"),
        ({**VERTEX, **GOOGLE}, "europe-wets4", "europe-west4"),
        ({**VERTEX, **GOOGLE}, "EU", "eu"),
        ({**VERTEX, **GOOGLE, "door": "vertex_anthropic"}, "us-east-5", "us-east5"),
    ],
)
def test_a_region_that_is_misspelt(row: dict[str, Any], region: str, meant: str) -> None:
    assert told(row, region=region) == [
        f"providers.p.region: {region!r} is none that is known; did you mean {meant!r}?"
    ]


def test_a_zone_that_does_not_count() -> None:
    assert told({"door": "vertex_express", "data_zone": "eu"}, KEY) == [
        "providers.p.data_zone is eu, but this door has no location: it counts as global"
    ]
