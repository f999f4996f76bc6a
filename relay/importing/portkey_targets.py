"""A target of Portkey's: who is asked, and as whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

from relay.config import known_providers
from relay.config.providers import ServiceTier
from relay.importing.addresses import azure_resource
from relay.importing.draft import Draft, Target
from relay.importing.headers import header_value
from relay.importing.portkey_providers import DOORS, by_slug
from relay.importing.reading import Section
from relay.importing.report import Report
from relay.importing.rows import CUSTOM, Account, row_of
from relay.importing.variables import Variables, variable_of

_GUARDS: Final = "there are no guardrails yet"
LEFT: Final[Mapping[str, str]] = {
    "cache": "there is no cache of answers; `prompt_cache: auto` uses the providers' own"
    " (README.md)",
    **dict.fromkeys(
        (
            *("input_guardrails", "output_guardrails", "default_input_guardrails"),
            *("default_output_guardrails", "before_request_hooks", "after_request_hooks"),
            *("input_mutators", "output_mutators"),
        ),
        _GUARDS,
    ),
    "forward_headers": "clients' headers are not handed on; fixed ones are `headers` of a row",
    "metadata": "tags and turn ids come with requests: `x-relay-tags`, `x-relay-turn-id`",
    "transform_to_form_data": "`passthrough: true` in a provider's row hands files through",
}
DIFFERS: Final[Mapping[str, str]] = {
    "retry": "each candidate is asked once, then each fallback, before the first token; which"
    " errors may be asked again is decided by their class (docs/operations.md)",
    "strict_open_ai_compliance": "answers keep to what the API of the client knows",
    "name": "targets are called PROVIDER/MODEL",
    "id": "targets are called PROVIDER/MODEL",
}


@dataclass(frozen=True)
class Around:
    """What a target is read with."""

    draft: Draft
    report: Report
    variables: Variables


def target_of(node: Section, model: str, timeout_ms: int | None, around: Around) -> Target | None:
    """Reads a target to its end; None for one that is not served here, which is told.

    Args:
        model: of an `override_params` around it; empty where there is none.
    """
    report = around.report
    slug, provider = node.text("virtual_key"), node.text("provider")
    overrides = node.section("override_params")
    model = overrides.text("model") or model
    if provider.startswith("@"):
        slug, provider = provider[1:], ""
    if model.startswith("@"):
        before, _, model = model[1:].partition("/")
        slug = slug or before
    if not provider:
        provider = by_slug(slug)
        if provider:
            report.differ(
                node.path or "the file",
                f"taken as {provider} by the name of its key, {slug!r}: see that this is so",
            )
    door = DOORS.get(provider)
    has_host = "custom_host" in node
    if door is None and not has_host:
        shown = f"provider {provider!r}" if provider else f"virtual key {slug!r}" if slug else "it"
        report.leave(
            node.path or "the file",
            f"there is no row for {shown}; if it speaks OpenAI's format, give it one with `wire:"
            " openai_chat` and its `base_url`",
        )
        return None
    account = Account(door or CUSTOM, node.path or "the file")
    account.address, account.address_path = node.text("custom_host"), node.path_of("custom_host")
    account.key, account.key_path = node.take("api_key"), node.path_of("api_key")
    if door is None:
        account.wish = provider
    if slug and account.key in (None, ""):
        wish = str(known_providers().get(door or "", {}).get("api_key_env") or "")
        wish = wish if not _has_other_key(slug, door or "", around.draft) else ""
        told = f"the key that Portkey keeps as {slug!r}"
        account.notes.append(f"The key that Portkey keeps as {slug}")
        account.key = f"os.environ/{wish or variable_of(slug) + '_API_KEY'}"
        if not _needs_more(door or ""):
            around.variables.named(str(account.key).removeprefix("os.environ/"), told)
    _of_clouds(account, node, model, around)
    model = model or node.text("azure_model_name")
    if account.door.startswith("azure"):
        model = node.text("deployment_id") or model
    for theirs, ours in (
        ("openai_organization", "openai-organization"),
        ("openai_project", "openai-project"),
        ("openai_beta", "openai-beta"),
        ("anthropic_beta", "anthropic-beta"),
    ):
        if value := node.text(theirs):
            path = node.path_of(theirs)
            account.headers[ours] = header_value(ours, value, path, around.variables)
    if tier := overrides.text("service_tier"):
        if tier in get_args(ServiceTier):
            account.more["service_tier"] = tier
        else:
            report.leave(overrides.path_of("service_tier"), f"{tier!r} is no tier that is known")
    node.take("anthropic_version")
    row = row_of(account, around.draft, report, around.variables)
    if not model:
        model = next(
            iter(known_providers().get(account.door, {}).get("models", ())), "set-the-model"
        )
        report.leave(
            node.path or "the file",
            f"no model is named (override_params.model): here an alias has one for each provider,"
            f" and {model!r} stands for it",
        )
    overrides.finish(
        dict.fromkeys(overrides.names(), "the relay adds no parameters: let clients send it")
    )
    node.finish(LEFT, DIFFERS)
    return Target(row.name, model)


def _needs_more(door: str) -> bool:
    return door.startswith(("bedrock", "vertex"))


def _has_other_key(slug: str, door: str, draft: Draft) -> bool:
    """Whether a row of this door, of another virtual key, has the well-known variable by now."""
    mine = f"The key that Portkey keeps as {slug}"
    return any(
        note.startswith("The key that Portkey keeps as ") and note != mine
        for row in draft.rows.values()
        if row.fields.get("door", row.name) == door
        for note in row.notes
    )


def _of_clouds(account: Account, node: Section, model: str, around: Around) -> None:
    """What doors of the clouds need beside a key."""
    if account.door == "azure":
        _azure(account, node, around)
    elif account.door == "foundry_anthropic":
        account.address = account.address or node.text("azure_foundry_url")
        if not azure_resource(account.address)[0] or "anthropic" not in account.address:
            account.door, account.wish = CUSTOM, "azure-ai"
        node.take("azure_api_version")
    elif account.door == "bedrock":
        _bedrock(account, node, around)
    elif account.door == "vertex":
        _vertex(account, node, model, around)


def _azure(account: Account, node: Section, around: Around) -> None:
    account.resource, version = node.text("resource_name"), node.text("api_version")
    account.address_path = node.path_of("resource_name")
    if version and version not in ("v1", "preview", "latest"):
        account.door, account.api_version = "azure_deployments", version
    mode = node.text("azure_auth_mode")
    tenant, client = node.text("azure_entra_tenant_id"), node.text("azure_entra_client_id")
    secret = node.take("azure_entra_client_secret")
    if mode == "managed":
        account.credential = {"kind": "azure_entra", "source": "managed_identity"}
        if managed := node.text("azure_managed_client_id"):
            account.credential["client_id"] = managed
    elif tenant and client and secret:
        account.credential = {
            "kind": "azure_entra",
            "tenant_id": tenant,
            "client_id": client,
            "client_secret": around.variables.secret(
                secret, "AZURE_CLIENT_SECRET", node.path_of("azure_entra_client_secret")
            ),
        }
    node.leave(
        "azure_ad_token", "a token that expires; give the row a `credential` (docs/clouds.md)"
    )


def _bedrock(account: Account, node: Section, around: Around) -> None:
    account.region = node.text("aws_region")
    if not account.region:
        account.region = "us-east-1"
        around.report.leave(
            node.path or "the file", "no aws_region is named: us-east-1 stands for it"
        )
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    given: dict[str, Any] = {name: node.take(name) for name in names}
    if given[names[0]] and given[names[1]]:
        account.credential = {"kind": "aws_sigv4"} | {
            name.removeprefix("aws_") if name != "aws_access_key_id" else "access_key_id": (
                around.variables.secret(value, name.upper(), node.path_of(name))
            )
            for name, value in given.items()
            if value
        }
    elif account.key in (None, "") or str(account.key).startswith("os.environ/"):
        account.key = None
        account.credential = {"kind": "aws_sigv4", "source": "chain"}
        account.notes.append(
            "AWS's own search for credentials needs the extra `aws` of this package"
        )
    for name in ("aws_role_arn", "aws_external_id", "aws_auth_type"):
        node.leave(name, "put the role into a profile of AWS's own files, and name it: `profile`")


def _vertex(account: Account, node: Section, model: str, around: Around) -> None:
    account.door = "vertex_anthropic" if "claude" in model else "vertex"
    account.key = None
    account.project = node.text("vertex_project_id")
    if not account.project:
        account.project = "set-the-project"
        around.report.leave(
            node.path or "the file", "no vertex_project_id is named: set-the-project stands for it"
        )
    account.region = node.text("vertex_region") or "us-central1"
    account.credential = {"kind": "google"}
    node.leave(
        "vertex_service_account_json",
        "keep it in a file, and name that in GOOGLE_APPLICATION_CREDENTIALS, or give the row"
        " `credential: {kind: google, source: service_account, file: PATH}`",
    )
