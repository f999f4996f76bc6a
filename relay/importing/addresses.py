"""Addresses of providers: without what could be a secret in them, and as our rows have them."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

from relay.importing.report import Report

STAND_IN: Final = "https://set-the-address.invalid/v1"
"""`.invalid` (RFC 6761) reaches nobody."""

_AZURE: Final = re.compile(
    r"https://([A-Za-z0-9-]+)\.(openai\.azure\.com|services\.ai\.azure\.com"
    r"|cognitiveservices\.azure\.com)(?:/.*)?"
)
_PATHS: Final = ("/chat/completions", "/completions", "/embeddings", "/messages", "/responses")


def clean(text: str, path: str, report: Report) -> str:
    """Scheme, host, port and path of an address; empty for one that cannot be used."""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname or ""
    if (
        parts.scheme not in ("http", "https")
        or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-fA-F:.]+", host)
        or port == 0
        or not re.fullmatch(r"[\x21-\x7e]*", parts.path)
    ):
        report.leave(path, "an http:// or https:// address is expected; give the row its base_url")
        return ""
    if "@" in parts.netloc or parts.query or parts.fragment:
        report.leave(
            path,
            "only scheme, host, port and path were taken; a key that was in the rest belongs into"
            " the row's api_key or headers",
        )
    shown = f"[{host}]" if ":" in host else host
    way = parts.path.rstrip("/")
    for ending in _PATHS:
        way = way.removesuffix(ending)
    return f"{parts.scheme}://{shown}{f':{port}' if port else ''}{way}"


def azure_resource(address: str) -> tuple[str, str]:
    """The resource's name and the host behind it; both empty for another address."""
    match = _AZURE.fullmatch(address)
    return (match[1], match[2]) if match is not None else ("", "")


def origin_of(address: str) -> str:
    """Scheme, host and port."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def name_of_host(address: str) -> str:
    """What a row at this address may be called."""
    host = urlsplit(address).hostname or ""
    if re.fullmatch(r"[0-9.]+|.*:.*", host):
        return f"host-{host}"
    labels = [label for label in host.split(".") if label not in ("api", "www", "gateway", "llm")]
    return (labels or [host])[0] or "host"


def is_local(address: str) -> bool:
    """Whether it is this machine."""
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "host.docker.internal", "::1") or host.startswith("127.")
