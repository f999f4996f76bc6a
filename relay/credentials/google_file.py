"""Google's credential files: JSON whose `type` says what they are."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import orjson

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address


def file_object(content: bytes, path: str) -> dict[str, Any]:
    """
    Raises:
        ValueError: it is no JSON object, or of another universe; names the file and quotes nothing.
    """
    try:
        told = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise ValueError(f"{path}: this is no JSON") from None
    if not isinstance(told, dict):
        raise ValueError(f"{path}: an object is expected")  # noqa: TRY004 - a fault of the file
    universe = told.get("universe_domain", "googleapis.com")
    if universe != "googleapis.com":
        raise ValueError(f"{path}: universe_domain: another than googleapis.com needs `library`")
    return told


def text_in(told: dict[str, Any], name: str, path: str) -> str:
    """
    Raises:
        ValueError: the field is not there, or no text.
    """
    value = told.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{path}: {name}: a text is expected")
    return value


def token_uri_in(told: dict[str, Any], path: str) -> str:
    """Where the file wants to be exchanged; Google's own where it does not say.

    Raises:
        ValueError: it is no address.
    """
    uri = told.get("token_uri", TOKEN_URI)
    if not isinstance(uri, str) or not is_token_address(uri):
        raise ValueError(f"{path}: token_uri: an https:// address is expected")
    return uri


def is_address(uri: str) -> bool:
    """Whether something can be asked of it."""
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        return False
    try:
        parts = urlsplit(uri)
        # Before a bracket the library passes over what stands: `http[::1]` is this machine to it.
        is_plain = "@" not in parts.netloc and parts.netloc.rfind("[") <= 0
        is_http = parts.scheme in ("http", "https") and is_plain
        return is_http and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def is_token_address(uri: str) -> bool:
    """Whether secrets may be sent there: in the clear to this machine alone."""
    if not is_address(uri):
        return False
    parts = urlsplit(uri)
    return parts.scheme == "https" or _is_loopback(parts.hostname or "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
