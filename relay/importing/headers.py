"""Headers that their file sends along: the values of those that may be secrets become variables."""

from __future__ import annotations

import re
from typing import Final

from relay.importing.report import Report
from relay.importing.variables import Variables, variable_of

_NO_SECRETS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "http-referer",
        "openai-beta",
        "openai-organization",
        "openai-project",
        "x-title",
    }
)
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS: Final = frozenset({"content-length", "content-type", "host", "transfer-encoding"})
"""Written by whoever sends a request."""


def headers_of(given: object, path: str, report: Report, variables: Variables) -> dict[str, str]:
    """For a row's `headers`."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        report.leave(path, "a mapping of names to values is expected; see the row's `headers`")
        return {}
    found: dict[str, str] = {}
    for name, value in given.items():
        lower = str(name).lower()
        if not _NAME.fullmatch(str(name)) or lower in _OURS:
            report.leave(path, "one of its headers cannot be set by a row, and was left out")
        elif isinstance(value, str) and lower in _NO_SECRETS and _is_plain(value):
            found[lower] = value
        elif reference := variables.secret(value, f"HEADER_{variable_of(lower)}", f"{path}.{name}"):
            found[lower] = reference
    return found


def _is_plain(value: str) -> bool:
    return (
        value.isascii()
        and value.isprintable()
        and "${" not in value
        and not value.startswith("os.environ/")
    )
