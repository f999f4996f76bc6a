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
"""Whose value is sent along as it is, unless it looks like a secret."""
_LOOKS_SECRET: Final = re.compile(
    r"@"  # a user and password in an address
    r"|(?<![A-Za-z0-9])(?:sk[-_]|pk[-_]|rtk_|key-|gh[a-z]_|github_pat_|xox|AIza|AKIA|eyJ|bearer )"
    r"|[?&;][^=&;]*(?:key|token|secret|sig|pass|auth)[^=&;]*="
    r"|(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{20}",
    re.IGNORECASE,
)
_RANDOM: Final = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
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
        elif text := header_value(lower, value, f"{path}.{name}", variables):
            found[lower] = text
    return found


def header_value(lower: str, value: object, path: str, variables: Variables) -> str:
    """As it is, or the reference to a variable where it may be a secret; empty where there is none.

    Args:
        lower: name of the header, in lower case.
    """
    if isinstance(value, str) and lower in _NO_SECRETS and _is_plain(value):
        return value
    return variables.secret(value, f"HEADER_{variable_of(lower)}", path)


def _is_plain(value: str) -> bool:
    return (
        value.isascii()
        and value.isprintable()
        and "${" not in value
        and not value.startswith("os.environ/")
        and not _looks_secret(value)
    )


def _looks_secret(value: str) -> bool:
    return _LOOKS_SECRET.search(value) is not None or any(
        not run.islower() and not run.isupper() and any(sign.isdigit() for sign in run)
        for run in _RANDOM.findall(value)
    )
