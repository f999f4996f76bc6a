"""Who is asked, and as whom, by LiteLLM's `litellm_params`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relay.importing.addresses import STAND_IN
from relay.importing.draft import Draft
from relay.importing.headers import header_value
from relay.importing.reading import Section
from relay.importing.report import Report
from relay.importing.rows import CUSTOM, Account
from relay.importing.variables import Variables

_NEWEST = frozenset({"", "v1", "preview", "latest"})
"""Versions of Azure's API that are its newer paths."""


@dataclass(frozen=True)
class Around:
    """What a deployment is read with."""

    draft: Draft
    report: Report
    variables: Variables
    credentials: Mapping[str, Section]
    """`credential_list`, by name."""


def account_of(
    door: str, provider: str, model: str, params: Section, around: Around
) -> Account | None:
    """The account; None where the relay cannot ask it, which is told."""
    report, variables = around.report, around.variables
    named = params.text("litellm_credential_name")
    shared = around.credentials.get(named)
    if named and shared is None:
        report.leave(
            params.path_of("litellm_credential_name"),
            f"there is no {named!r} in credential_list; give the row its api_key",
        )

    def of(name: str) -> tuple[Any, str]:
        for section in (params, shared):
            if section is None or (value := section.take(name)) in (None, ""):
                continue
            if isinstance(value, dict | list):  # as a text it may be without end (anchors)
                report.leave(section.path_of(name), "a text is expected here")
                continue
            return value, section.path_of(name)
        return None, params.path_of(name)

    def text(name: str, stand_in: str) -> str:
        value, path = of(name)
        return variables.plain(str(value), path, stand_in=stand_in).strip() if value else ""

    account = Account(door, params.path)
    account.key, account.key_path = of("api_key")
    _, account.address_path = of("api_base")
    for name in ("base_url", "api_base"):  # the second goes first
        value, path = of(name)
        if value:
            account.address_path = path
            account.unset_address = variables.unset(str(value))
            account.address = (
                STAND_IN
                if account.unset_address
                else variables.plain(str(value), path, stand_in="").strip()
            )
    if organization := text("organization", ""):
        account.headers["openai-organization"] = header_value(
            "openai-organization", organization, of("organization")[1], variables
        )
    if provider in ("openai", "text-completion-openai") and account.address:
        account.door = CUSTOM if "api.openai.com" not in account.address else door
    elif door == "azure":
        if not _is_azure(account, text("api_version", ""), params, of, report, variables):
            return None
    elif provider == "azure_ai" and "claude" not in model:
        if not account.address:
            report.leave(params.path, "an address is needed (api_base); give it a row by hand")
            return None
        account.door, account.wish = CUSTOM, "azure-ai"
        account.notes.append("Azure AI Foundry: see that base_url is that of its OpenAI surface")
        report.differ(
            account.address_path,
            "taken as a host with OpenAI's format; see that the row's base_url is the path that has"
            " `/chat/completions` behind it",
        )
    elif door == "bedrock":
        _of_bedrock(account, model, text, of, report, variables)
    elif door == "vertex":
        _of_vertex(account, model, text, of, report)
    elif door == CUSTOM and not account.address:
        account.address_path = params.path_of("api_base")
    return account


def _is_azure(
    account: Account,
    version: str,
    params: Section,
    of: Any,
    report: Report,
    variables: Variables,
) -> bool:
    if not account.address:
        account.address_path = params.path_of("api_base")
    if version not in _NEWEST:
        account.door, account.api_version = "azure_deployments", version
    tenant, _ = of("tenant_id")
    client, _ = of("client_id")
    secret, path = of("client_secret")
    if tenant and client and secret:
        account.credential = {
            "kind": "azure_entra",
            "tenant_id": variables.plain(str(tenant), params.path, stand_in="set-the-tenant"),
            "client_id": variables.plain(str(client), params.path, stand_in="set-the-client"),
            "client_secret": variables.secret(secret, "AZURE_CLIENT_SECRET", path),
        }
    token, path = of("azure_ad_token")
    if token:
        report.leave(
            path,
            "a token that expires; give the row `credential: {kind: azure_entra}` (docs/clouds.md)",
        )
    return True


def _of_bedrock(
    account: Account, model: str, text: Any, of: Any, report: Report, variables: Variables
) -> None:
    account.region = text("aws_region_name", "us-east-1")
    if not account.region:
        account.region = variables.plain(
            "os.environ/AWS_REGION_NAME", account.path, stand_in="us-east-1"
        )
    if model.startswith("invoke/") and "claude" in model:
        account.door = "bedrock_messages"
    if account.key:
        return
    key, key_path = of("aws_access_key_id")
    secret, secret_path = of("aws_secret_access_key")
    token, token_path = of("aws_session_token")
    profile, profile_path = of("aws_profile_name")
    if key and secret:
        account.credential = {
            "kind": "aws_sigv4",
            "access_key_id": variables.secret(key, "AWS_ACCESS_KEY_ID", key_path),
            "secret_access_key": variables.secret(secret, "AWS_SECRET_ACCESS_KEY", secret_path),
        }
        if token:
            account.credential["session_token"] = variables.secret(
                token, "AWS_SESSION_TOKEN", token_path
            )
        return
    account.credential = {"kind": "aws_sigv4", "source": "chain"}
    account.notes.append("AWS's own search for credentials needs the extra `aws` of this package")
    if profile and isinstance(profile, str):
        account.credential["profile"] = variables.plain(profile, profile_path, stand_in="default")
    for name in ("aws_role_name", "aws_session_name", "aws_web_identity_token"):
        value, path = of(name)
        if value:
            report.leave(
                path, "put the role into a profile of AWS's own files, and name it: `profile`"
            )


def _of_vertex(account: Account, model: str, text: Any, of: Any, report: Report) -> None:
    if account.key and "claude" not in model:
        account.door = "vertex_express"
        return
    account.door = "vertex_anthropic" if "claude" in model else "vertex"
    account.key = None
    account.project = text("vertex_project", "set-the-project")
    if not account.project:
        account.project = "set-the-project"
        report.leave(
            account.path, "no project is named: put its id in the place of set-the-project"
        )
    account.region = text("vertex_location", "us-central1") or "us-central1"
    account.credential = {"kind": "google"}
    _, path = of("vertex_credentials")
    if of("vertex_credentials")[0]:
        report.leave(
            path,
            "name the file in GOOGLE_APPLICATION_CREDENTIALS, or give the row `credential: {kind:"
            " google, source: service_account, file: PATH}`",
        )
