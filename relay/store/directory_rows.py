"""Rows of who may call, as they are read: texts are not looked into here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple


class OrganisationRow(NamedTuple):
    """Of `organisations`."""

    id: str
    limits: str
    is_archived: bool
    changed: int


class TeamRow(NamedTuple):
    """Of `teams`."""

    id: str
    organisation_id: str
    limits: str
    is_archived: bool
    changed: int


class KeyRow(NamedTuple):
    """Of `keys`."""

    id: str
    team_id: str
    scopes: str
    tags: str
    limits: str
    expires_at_us: int | None
    is_revoked: bool
    changed: int


class CredentialRow(NamedTuple):
    """Of `credentials`."""

    id: str
    key_id: str
    mac: bytes
    pepper_id: str
    expires_at_us: int | None
    is_revoked: bool
    changed: int


class CertificateRow(NamedTuple):
    """Of `certificates`."""

    id: str
    """The subject alternative name."""
    key_id: str
    is_revoked: bool
    changed: int


class BudgetEntry(NamedTuple):
    """Of `budgets`."""

    id: str
    scope: str
    scope_id: str
    organisation_id: str | None
    period: str
    time_zone: str
    limit_micro: int
    is_hard: bool
    alert_percents: str
    is_archived: bool
    changed: int


Row = OrganisationRow | TeamRow | KeyRow | CredentialRow | CertificateRow | BudgetEntry

ORDER: Final = (BudgetEntry, OrganisationRow, TeamRow, KeyRow, CertificateRow, CredentialRow)
"""In which rows are taken up: what is a limit before what it limits, so that no key is of use
before its budgets are known."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new since an earlier look."""

    revision: int
    """Of the store when it was read: the number to ask from next time."""
    rows: tuple[Row, ...] = ()
    """In `ORDER`."""
    is_whole: bool = False
    """Everything there is: what is not in it is not there any more."""

    def steps(self, count: int) -> Iterator[tuple[Row, ...]]:
        """The rows, so many at a time."""
        for start in range(0, len(self.rows), count):
            yield self.rows[start : start + count]
