"""Two requests for the same thing, one of an SDK and one of the relay, and how they differ.

What may differ is written down here and in the cases, each with its reason; all else is a finding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Request = dict[str, Any]
"""As the emulator's recorder gives it."""

TELEMETRY = ("x-stainless-", "amz-sdk-", "x-goog-api-client", "user-agent", "x-client-request-id")
"""Who asks, and for which time: no part of what is asked."""
TRANSPORT = ("accept", "accept-encoding", "connection", "content-length", "host", "te", "trailer")
"""Of the HTTP client, not of the interface."""

VALUES_DIFFER = ("x-amz-date",)
"""Only their being there is compared."""


def differences(
    sdk: Request,
    relay: Request,
    *,
    headers: Mapping[str, str] | None = None,
    values: Mapping[str, str] | None = None,
    body: Callable[[dict[str, Any]], None] | None = None,
    path: Callable[[str], str] | None = None,
) -> list[str]:
    """One line a difference; empty if the relay asks as the SDK does.

    Args:
        headers: names that one of the two may have alone, and why.
        values: names of headers that both have, with values that may differ, and why.
        body: takes what may differ out of a body.
        path: the part of a path that has to be the same.
    """
    found = []
    for name in ("method", "path", "query"):
        one, other = sdk[name], relay[name]
        if name == "path" and path is not None:
            one, other = path(one), path(other)
        if name == "query":
            one, other = sorted(one.split("&")), sorted(other.split("&"))
        if one != other:
            found.append(f"{name}: {one} | {other}")
    free = {*VALUES_DIFFER, *(values or {})}
    found += _headers(sdk["headers"], relay["headers"], set(headers or {}), free)
    one, other = json.loads(json.dumps(sdk["body"])), json.loads(json.dumps(relay["body"]))
    if body is not None:
        body(one)
        body(other)
    found += _values("body", one, other)
    return found


def _headers(
    sdk: dict[str, str], relay: dict[str, str], allowed: set[str], free: set[str]
) -> list[str]:
    found = []
    for name in sorted({*sdk, *relay}):
        if name in TRANSPORT or name in allowed or name.startswith(TELEMETRY):
            continue
        one, other = sdk.get(name), relay.get(name)
        is_free = name in free
        if name == "authorization" and one and other:
            # Scheme, and scope of a signature, are the same always.
            is_free = is_free and one.split()[:2] == other.split()[:2]
        if one is None or other is None or (one != other and not is_free):
            found.append(f"{name}: {one} | {other}")
    return found


def _values(where: str, one: Any, other: Any) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            line
            for name in sorted({*one, *other})
            for line in _values(f"{where}.{name}", one.get(name), other.get(name))
        ]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            line
            for number, pair in enumerate(zip(one, other, strict=True))
            for line in _values(f"{where}[{number}]", *pair)
        ]
    return [] if one == other else [f"{where}: {one!r} | {other!r}"]
