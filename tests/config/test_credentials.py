"""`providers.*.credential`: what each kind wants, where it looks, and how it says what lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config import ConfigError, parse
from relay.config.contents import secrets_in
from relay.config.credentials import (
    AwsSigV4Config,
    AzureEntraConfig,
    GoogleConfig,
    StaticConfig,
)

LAB = {"wire": "openai_chat", "base_url": "https://x.test", "region": "us-east-1"}
SECRETS = {"ID": "AKIA-canary", "KEY": "secret-canary", "TOKEN": "token-canary"}
APP = {"kind": "azure_entra", "tenant_id": "t", "client_id": "c", "client_secret": "${KEY}"}
KEYS = {"kind": "aws_sigv4", "access_key_id": "${ID}", "secret_access_key": "${KEY}"}


def credential(
    given: object, environment: dict[str, str] | None = None, folder: Path | None = None, **row: Any
) -> Any:
    document = {"providers": {"p": {**LAB, "credential": given, **row}}}
    config = parse(document, {**SECRETS, **(environment or {})}, folder=folder)
    return config.providers["p"].credentials


def fault_of(given: object, environment: dict[str, str] | None = None, **row: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        credential(given, environment, **row)
    text = str(raised.value)
    assert "canary" not in text
    return text


# --- all kinds ------------------------------------------------------------------------------


def test_keys_of_a_row_are_a_credential_too() -> None:
    found = credential(None, api_key="${ID}", api_keys=["${KEY}"], spread_keys=True)
    assert isinstance(found, StaticConfig)
    assert [key.get_secret_value() for key in found.api_keys] == [SECRETS["ID"], SECRETS["KEY"]]
    assert found.spread_keys
    assert credential({"kind": "static", "api_keys": ["${KEY}"]}).api_keys[0].get_secret_value()


def test_one_of_the_two() -> None:
    assert "credential: there is an api_key as well" in fault_of(APP, api_key="${KEY}")


@pytest.mark.parametrize("kind", ["azure", "", None, 5, ["google"], {}])
def test_an_unknown_kind_is_told_with_those_that_are_there(kind: object) -> None:
    text = fault_of({"kind": kind})
    assert text.startswith("providers.p.credential")
    for known in ("static", "google", "azure_entra", "aws_sigv4"):
        assert known in text


def test_a_kind_is_wanted() -> None:
    assert fault_of({}) == (
        "providers.p.credential.kind: is required: static, google, azure_entra or aws_sigv4"
    )


@pytest.mark.parametrize("value", ["secret", 5, True, ["x"]])
def test_a_credential_is_a_mapping(value: object) -> None:
    assert fault_of(value).startswith("providers.p.credential")


def test_an_unknown_field_is_told_by_its_path() -> None:
    assert fault_of({**APP, "tenant": "t"}) == (
        "providers.p.credential.tenant: unknown key; did you mean 'tenant_id'?"
    )


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (APP, "client_secret"),
        (KEYS, "access_key_id"),
        (KEYS, "secret_access_key"),
        ({**KEYS, "session_token": "${TOKEN}"}, "session_token"),
    ],
)
def test_secrets_are_references(given: dict[str, Any], field: str) -> None:
    assert f"providers.p.credential.{field}: a secret is given as ${{ENV" in fault_of(
        {**given, field: "plain-canary"}
    )


@pytest.mark.parametrize("given", [APP, {**KEYS, "session_token": "${TOKEN}"}])
def test_secrets_are_known_and_never_shown(given: dict[str, Any]) -> None:
    found = credential(given)
    assert set(secrets_in(found)) == {SECRETS[v[2:-1]] for v in given.values() if v[0] == "$"}
    for text in (repr(found), str(found), found.model_dump_json(), repr(found.model_dump())):
        assert "canary" not in text


# --- Microsoft Entra ------------------------------------------------------------------------


def test_an_app_registration() -> None:
    found = credential(APP)
    assert isinstance(found, AzureEntraConfig)
    assert (found.source, found.tenant_id, found.client_id) == ("client_secret", "t", "c")
    around = {"AZURE_TENANT_ID": "t2", "AZURE_CLIENT_ID": "c2", "AZURE_AUTHORITY_HOST": "https://a"}
    found = credential({"kind": "azure_entra", "client_secret": "${KEY}"}, around)
    assert (found.tenant_id, found.client_id, found.authority) == ("t2", "c2", "https://a")


def test_scopes_are_the_doors() -> None:
    rows = {
        door: {"door": door, "resource": "r", "api_version": "v", "credential": APP}
        for door in ("azure", "azure_deployments", "foundry_anthropic")
    }
    found = parse({"providers": rows}, SECRETS).providers
    scopes = {name: row.credentials.scope for name, row in found.items()}  # type: ignore[union-attr]
    assert scopes == {
        "azure": "https://cognitiveservices.azure.com/.default",
        "azure_deployments": "https://cognitiveservices.azure.com/.default",
        "foundry_anthropic": "https://ai.azure.com/.default",
    }


def test_a_federated_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("x")
    around = {
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_FEDERATED_TOKEN_FILE": str(token),
    }
    found = credential({"kind": "azure_entra", "source": "workload"}, around)
    assert found.token_file == str(token)
    missing = {**around, "AZURE_FEDERATED_TOKEN_FILE": "/nowhere/token"}
    text = fault_of({"kind": "azure_entra", "source": "workload"}, missing)
    assert text.startswith("providers.p.credential.token_file: cannot read")


def test_a_managed_identity() -> None:
    given = {"kind": "azure_entra", "source": "managed_identity"}
    found = credential(given, {"AZURE_CLIENT_ID": "of-another-thing"})
    assert (found.client_id, found.identity_endpoint) == (None, None)
    around = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41/token", "IDENTITY_HEADER": "head-canary"}
    found = credential(given, around)
    assert found.identity_endpoint == around["IDENTITY_ENDPOINT"]
    assert found.identity_header.get_secret_value() == around["IDENTITY_HEADER"]
    assert "canary" not in repr(found)
    lacks = fault_of(given, {"IDENTITY_ENDPOINT": "http://127.0.0.1:41/token"})
    assert "needs identity_header" in lacks


def test_what_a_source_lacks_is_named() -> None:
    assert fault_of({"kind": "azure_entra"}) == (
        "providers.p.credential: source: client_secret needs tenant_id, client_id, client_secret"
    )
    assert "needs tenant_id, client_id, token_file" in fault_of(
        {"kind": "azure_entra", "source": "workload"}
    )


CERTIFIED = {"kind": "azure_entra", "source": "client_certificate"}


def test_a_certificate_of_an_app(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_text("x")
    given = {**CERTIFIED, "tenant_id": "t", "client_id": "c", "certificate_file": "app.pem"}
    found = credential(
        {**given, "certificate_password": "${WORDS}"}, {"WORDS": "a ä canary"}, tmp_path
    )
    assert found.certificate_file == str(tmp_path / "app.pem")
    assert found.certificate_password.get_secret_value() == "a ä canary", "it is in no header"
    assert not found.send_chain
    assert "canary" not in repr(found) + found.model_dump_json()
    assert list(secrets_in(found)) == ["a ä canary"]
    lost = {**given, "certificate_file": "/nowhere/app.pem"}
    assert fault_of(lost).startswith("providers.p.credential.certificate_file: cannot read")
    plain = {**given, "certificate_file": __file__, "certificate_password": "plain-canary"}
    assert "certificate_password: a secret is given as ${ENV_NAME}" in fault_of(plain)


@pytest.mark.parametrize(
    ("sends", "is_sent"), [(None, False), ("1", True), ("True", True), ("0", False)]
)
def test_a_certificate_by_the_variables_of_azure(
    tmp_path: Path, sends: str | None, is_sent: bool
) -> None:
    around = {
        "AZURE_TENANT_ID": "t",
        "AZURE_CLIENT_ID": "c",
        "AZURE_CLIENT_CERTIFICATE_PATH": __file__,
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": "word-canary",
    }
    if sends is not None:
        around["AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"] = sends
    found = credential(CERTIFIED, around)
    assert (found.tenant_id, found.client_id, found.certificate_file) == ("t", "c", __file__)
    assert found.certificate_password.get_secret_value() == "word-canary"
    assert found.send_chain is is_sent
    # A file of one's own has nothing of that other one.
    (tmp_path / "app.pem").write_text("x")
    found = credential({**CERTIFIED, "certificate_file": "app.pem"}, around, tmp_path)
    assert found.certificate_file == str(tmp_path / "app.pem")
    assert (found.certificate_password, found.send_chain) == (None, False)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        (CERTIFIED, "source: client_certificate needs tenant_id, client_id, certificate_file"),
        (
            {**CERTIFIED, "client_secret": "${KEY}"},
            "client_secret: `source: client_certificate` sends none",
        ),
        (
            {**APP, "certificate_file": __file__},
            "certificate_file: only `source: client_certificate` has one",
        ),
        ({**APP, "send_chain": True}, "send_chain: only `source: client_certificate` has one"),
    ],
)
def test_a_certificate_or_a_secret(given: dict[str, Any], fault: str) -> None:
    assert fault_of(given) == f"providers.p.credential: {fault}"


# --- Google ---------------------------------------------------------------------------------


def test_a_file_of_google_is_relative_to_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "sa.json").write_text("{}")
    given = {"kind": "google", "source": "service_account", "file": "sa.json"}
    found = credential(given, folder=tmp_path)
    assert isinstance(found, GoogleConfig)
    assert found.file == str(tmp_path / "sa.json")
    assert fault_of({**given, "file": "no.json"}).startswith(
        "providers.p.credential.file: cannot read"
    )
    assert "source: service_account needs `file`" in fault_of(
        {"kind": "google", "source": "service_account"}
    )


def test_googles_default_looks_where_its_tools_do(tmp_path: Path) -> None:
    given = {"kind": "google"}
    assert credential(given).file is None, "the metadata server is left"
    assert credential(given, {"HOME": str(tmp_path)}).file is None
    usual = tmp_path / ".config" / "gcloud" / "application_default_credentials.json"
    usual.parent.mkdir(parents=True)
    usual.write_text("{}")
    assert credential(given, {"HOME": str(tmp_path)}).file == str(usual)
    named = tmp_path / "named.json"
    named.write_text("{}")
    around = {"HOME": str(tmp_path), "GOOGLE_APPLICATION_CREDENTIALS": str(named)}
    assert credential(given, around).file == str(named)
    around = {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"}
    assert "credential.file: cannot read /nowhere.json" in fault_of(given, around)
    assert credential({"kind": "google", "source": "metadata"}, around).file is None


def test_the_metadata_server() -> None:
    assert credential({"kind": "google"}).metadata_host == "metadata.google.internal"
    around = {"GCE_METADATA_HOST": "127.0.0.1:9"}
    assert credential({"kind": "google"}, around).metadata_host == "127.0.0.1:9"


# --- AWS ------------------------------------------------------------------------------------


def test_keys_of_aws() -> None:
    found = credential(KEYS)
    assert isinstance(found, AwsSigV4Config)
    assert (found.service, found.session_token) == ("bedrock", None)


def test_services_are_the_doors() -> None:
    rows = {
        door: {"door": door, "region": "us-east-1", "credential": KEYS}
        for door in ("bedrock_openai", "bedrock_mantle")
    }
    found = parse({"providers": rows}, SECRETS).providers
    services = [row.credentials.service for row in found.values()]  # type: ignore[union-attr]
    assert services == ["bedrock", "bedrock-mantle"]


def test_signatures_need_a_region() -> None:
    assert fault_of(KEYS, region="") == ("providers.p: region: is required for signatures of AWS")


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"kind": "aws_sigv4"}, "access_key_id: is required, or `source: chain`"),
        ({"kind": "aws_sigv4", "access_key_id": "${ID}"}, "secret_access_key: is required"),
        ({**KEYS, "source": "chain"}, "access_key_id: `source: chain` finds its own keys"),
        ({**KEYS, "profile": "prod"}, "profile: only `source: chain` reads profiles"),
    ],
)
def test_keys_or_a_chain(given: dict[str, Any], fault: str) -> None:
    assert fault_of(given).startswith(f"providers.p.credential: {fault}")


def test_a_chain_with_a_profile() -> None:
    found = credential({"kind": "aws_sigv4", "source": "chain", "profile": "prod"})
    assert (found.source, found.profile) == ("chain", "prod")
