"""An account at a provider, as either format has it, made a row of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.config import known_providers
from relay.importing.addresses import (
    STAND_IN,
    azure_resource,
    clean,
    is_local,
    name_of_host,
    origin_of,
)
from relay.importing.draft import Draft, Row, name_of
from relay.importing.report import Report
from relay.importing.variables import Variables, variable_of

CUSTOM: Final = "custom"
"""Stands for a host that speaks OpenAI's format and is in no row of ours."""

LOCAL: Final = frozenset({"vllm", "ollama", "llamacpp"})
"""Doors of servers that ask for no key as a rule."""

NO_KEYS: Final = frozenset(
    {"none", "null", "empty", "fake", "fake-key", "dummy", "not-needed", "no-key", "anything"}
)
"""What people write where a client wants a key and the server wants none."""

_NAME_OF_KEY: Final[Mapping[str, str]] = {
    "azure": "AZURE_API_KEY",
    "azure_deployments": "AZURE_API_KEY",
    "foundry_anthropic": "AZURE_AI_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
    "bedrock_messages": "AWS_BEARER_TOKEN_BEDROCK",
    "huggingface": "HF_TOKEN",
    "vertex_express": "GOOGLE_API_KEY",
}
"""Well-known variables that no row of ours names."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
"""What our file takes for a part of an address."""

_WITHOUT_V1: Final = frozenset({"anthropic", "gemini"})
"""Doors whose base_url has no version in it."""


@dataclass
class Account:
    """What is known of who is asked, and as whom."""

    door: str
    """A row of `providers.yaml`, or `CUSTOM`."""
    path: str
    """Where it stands in their file."""
    address: str = ""
    address_path: str = ""
    unset_address: str = ""
    """Variable of the address, where it is not set here; `address` is then `STAND_IN`."""
    key: object = None
    key_path: str = ""
    api_version: str = ""
    resource: str = ""
    region: str = ""
    project: str = ""
    wish: str = ""
    """Name of the row, where there is a better one than the door's."""
    headers: dict[str, str] = field(default_factory=dict)
    """Values are references, or texts that are no secrets."""
    credential: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Fields of the row that stand there as they are: rpm, tpm, service_tier."""
    notes: list[str] = field(default_factory=list)


def row_of(account: Account, draft: Draft, report: Report, variables: Variables) -> Row:
    """The row of this account, which others of the same account share."""
    fields: dict[str, Any] = {}
    door, wish = _place(account, fields, report)
    if account.unset_address:
        # Only now is it known what the row has of it: a door's own path may follow the host.
        stand_in = str(fields.get("base_url", STAND_IN))
        variables.tell_unset(account.unset_address, account.address_path, stand_in)
    _identify(account, door, fields, variables)
    for name in ("resource", "region", "project", "api_version"):
        if name in fields and not _WORD.fullmatch(fields[name]):
            fields[name] = f"set-the-{name.replace('_', '-')}"
            report.leave(
                account.path,
                f"its {name} has characters that none has: {fields[name]!r} stands for it",
            )
    if account.headers:
        fields["headers"] = dict(sorted(account.headers.items()))
    fields |= account.more
    for row in draft.rows.values():
        same = {name: value for name, value in row.fields.items() if name not in ("door", "prices")}
        if same == fields and row.fields.get("door", row.name if door else "") == door:
            row.notes += [note for note in account.notes if note not in row.notes]
            return row
    # A known name that is not meant must not be taken: it would bring its dialect along.
    taken = {*draft.rows, *(known_providers() if not door else ())}
    name = name_of(account.wish or wish, taken, "provider")
    if door and name != door:
        if name in known_providers():
            name = name_of(f"{name}-row", taken, "provider")
        fields = {"door": door, **fields}
    row = draft.rows[name] = Row(name, fields, list(account.notes))
    return row


def _place(account: Account, fields: dict[str, Any], report: Report) -> tuple[str, str]:
    """Where it is: fills the fields; the door, empty for none, and a name."""
    door = account.door
    address = clean(account.address, account.address_path, report) if account.address else ""
    if door in ("azure", "azure_deployments", "foundry_anthropic"):
        _place_azure(account, address, fields, report)
    elif address and door != CUSTOM:
        if door in _WITHOUT_V1:
            address = address.removesuffix("/v1").removesuffix("/v1beta")
        elif door == "ollama" and not address.endswith("/v1"):
            address = f"{address}/v1"
        if address != str(known_providers()[door]["base_url"]).rstrip("/"):
            fields["base_url"] = address
    elif door == CUSTOM:
        if not address:
            report.leave(
                account.address_path or account.path,
                "there is no address; put it in the place of the one that stands for it",
            )
        fields |= {"wire": "openai_chat", "base_url": address or STAND_IN}
        return "", name_of_host(address) if address else "set-the-address"
    for name in ("region", "project"):
        if value := getattr(account, name):
            fields[name] = value
    return door, door


def _place_azure(account: Account, address: str, fields: dict[str, Any], report: Report) -> None:
    resource, host = azure_resource(address)
    resource = account.resource or resource
    is_usual = not address or host == (
        "services.ai.azure.com" if account.door == "foundry_anthropic" else "openai.azure.com"
    )
    if resource and is_usual and "." not in resource:
        fields["resource"] = resource
    elif address:
        ending = {
            "azure": "/openai/v1",
            "azure_deployments": "/openai",
            "foundry_anthropic": "/anthropic",
        }[account.door]
        fields["base_url"] = f"{origin_of(address)}{ending}"
    else:
        fields["resource"] = "set-the-resource"
        report.leave(
            account.address_path or account.path,
            "no resource is named; put its name in the place of `set-the-resource`",
        )
    if account.door == "azure_deployments":
        fields["api_version"] = account.api_version


def _identify(account: Account, door: str, fields: dict[str, Any], variables: Variables) -> None:
    """As whom it is asked: fills the fields."""
    if account.credential is not None:
        fields["credential"] = account.credential
        return
    key = account.key
    is_none = isinstance(key, str) and key.strip().lower() in NO_KEYS
    address = str(fields.get("base_url", ""))
    if is_none or (key in (None, "") and (door in LOCAL or (not door and is_local(address)))):
        fields["auth"] = "none"
        return
    wish = _key_name(account, door, fields)
    if key in (None, ""):
        fields["api_key"] = variables.named(
            wish, f"no key stands at {account.path}, and this is where it is looked for"
        )
    elif reference := variables.secret(key, wish, account.key_path or account.path):
        fields["api_key"] = reference
    else:
        fields["auth"] = "none"


def _key_name(account: Account, door: str, fields: dict[str, Any]) -> str:
    if not door:
        return f"{variable_of(account.wish or name_of_host(fields['base_url']))}_API_KEY"
    if "base_url" in fields:
        # Somebody else's address: the key of the provider's own must not go there by itself.
        return f"{variable_of(name_of_host(fields['base_url']))}_API_KEY"
    known = known_providers()[door].get("api_key_env") or _NAME_OF_KEY.get(door)
    return str(known or f"{variable_of(door)}_API_KEY")
