"""Keys, and all that is above them, in memory: rows in, one graph of records out.

Rows may come in any order and more than once: of each record the latest change counts. What is
named and not there yet is a record that nothing goes with, until its row comes.

Whether a key may be used is asked along the graph, so that a change of one record holds for all
below it at once, without touching them. The view of a key is made when it is first asked for and
again after any change: changes are rare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

import structlog

from relay.governance.budget_scopes import BudgetRow
from relay.governance.key_view import KeyView
from relay.governance.limits import KeyLimits, Limits
from relay.governance.scopes import Scopes
from relay.store.directory_rows import (
    BudgetEntry,
    CertificateRow,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)

_log = structlog.get_logger("relay.keys")

_NEVER: Final = 2**63
_UNKNOWN: Final = -1
"""`changed` of a record that is named only."""
NO_MAC: Final = bytes(32)
MAX_TAGS: Final = 4096
"""Whose budgets are remembered, with and without."""


class Organisation:
    """Top of the graph."""

    __slots__ = ("changed", "id", "is_live", "limits")

    def __init__(self, organisation_id: str) -> None:
        self.id = organisation_id
        self.changed = _UNKNOWN
        self.is_live = False
        self.limits = "{}"


class Team:
    """Of one organisation."""

    __slots__ = ("changed", "id", "is_live", "limits", "organisation")

    def __init__(self, team_id: str, organisation: Organisation) -> None:
        self.id = team_id
        self.changed = _UNKNOWN
        self.is_live = False
        self.limits = "{}"
        self.organisation = organisation


class Key:
    """Of one team. `until_us`: not to be used from then on, 0 for one that is revoked."""

    __slots__ = ("changed", "id", "limits", "scopes", "tags", "team", "until_us", "view", "viewed")

    def __init__(self, key_id: str, team: Team) -> None:
        self.id = key_id
        self.changed = _UNKNOWN
        self.until_us = 0
        self.team = team
        self.scopes = self.limits = "{}"
        self.tags = "[]"
        self.view: KeyView | None = None
        self.viewed = _UNKNOWN
        """The roll's `version` that the view is of."""

    def is_live(self, now_us: int) -> bool:
        """Takes the same time whatever is the case."""
        team = self.team
        return (now_us < self.until_us) & team.is_live & team.organisation.is_live


class Credential:
    """A secret of a key, or a certificate that stands for it (which has no MAC)."""

    __slots__ = ("changed", "key", "mac", "until_us")

    def __init__(self, key: Key) -> None:
        self.changed = _UNKNOWN
        self.key = key
        self.mac = NO_MAC
        self.until_us = 0


class BadRecord(Exception):
    """A row holds what this version cannot read."""


class Roll:
    """All records."""

    def __init__(self) -> None:
        nobody = Key("", Team("", Organisation("")))
        self.nobody: Final = Credential(nobody)
        """Stands in for what is unknown, so that as much is done for it."""
        self.version = 0
        self.organisations: dict[str, Organisation] = {}
        self.teams: dict[str, Team] = {}
        self.keys: dict[str, Key] = {}
        self.credentials: dict[str, Credential] = {}
        self.by_mac: dict[bytes, Credential] = {}
        self._aside: list[Credential] = []
        """Not among those by their MACs, though they are there."""
        self.certificates: dict[str, Credential] = {}
        self._budgets: dict[str, tuple[int, BudgetRow]] = {}
        self._budgets_of: dict[tuple[str, str], dict[str, BudgetRow]] = {}
        self._tag_budgets: dict[tuple[str | None, str], tuple[BudgetRow, ...]] = {}
        self._takers: dict[type[Any], Callable[[Any], None]] = {
            OrganisationRow: self._organisation,
            TeamRow: self._team,
            KeyRow: self._key,
            CredentialRow: self._credential,
            CertificateRow: self._certificate,
            BudgetEntry: self._budget,
        }

    def take(self, rows: Iterable[Row]) -> None:
        """Take up rows; those that are older than what is known of them change nothing."""
        for row in rows:
            self._takers[type(row)](row)
        self.version += 1
        self._tag_budgets.clear()
        self.take_back()

    def put_aside(self, record: Credential) -> None:
        """Nobody may call with it: until something changes it is not found by its MAC any more, so
        that whoever tries again takes the way of what is unknown, and its time."""
        if self.by_mac.pop(record.mac, None) is not None:
            self._aside.append(record)

    def take_back(self) -> None:
        """All that was put aside: things have changed, or may have (a clock was put right)."""
        for record in self._aside:
            self.by_mac[record.mac] = record
        self._aside.clear()

    # --- one kind of row each ---------------------------------------------------------------

    def _organisation(self, row: OrganisationRow) -> None:
        record = self._organisation_of(row.id)
        if row.changed > record.changed:
            record.changed = row.changed
            record.is_live = not row.is_archived
            record.limits = row.limits

    def _team(self, row: TeamRow) -> None:
        record = self._team_of(row.id)
        if row.changed > record.changed:
            record.changed = row.changed
            record.is_live = not row.is_archived
            record.limits = row.limits
            record.organisation = self._organisation_of(row.organisation_id)

    def _key(self, row: KeyRow) -> None:
        record = self._key_of(row.id)
        if row.changed > record.changed:
            record.changed = row.changed
            record.until_us = _until_us(row)
            record.team = self._team_of(row.team_id)
            record.scopes, record.tags, record.limits = row.scopes, row.tags, row.limits

    def _credential(self, row: CredentialRow) -> None:
        record = self.credentials.get(row.id)
        if record is None:
            record = self.credentials[row.id] = Credential(self._key_of(row.key_id))
        if row.changed > record.changed:
            record.changed = row.changed
            record.until_us = _until_us(row)
            record.key = self._key_of(row.key_id)
            self.by_mac.pop(record.mac, None)
            record.mac = row.mac
            if row.is_revoked:
                self._aside = [one for one in self._aside if one is not record]
            else:
                self.by_mac[row.mac] = record

    def _certificate(self, row: CertificateRow) -> None:
        name = canonical_name(row.id)
        record = self.certificates.get(name)
        if record is None:
            record = self.certificates[name] = Credential(self._key_of(row.key_id))
        if row.changed > record.changed:
            record.changed = row.changed
            record.until_us = 0 if row.is_revoked else _NEVER
            record.key = self._key_of(row.key_id)

    def _budget(self, row: BudgetEntry) -> None:
        changed, old = self._budgets.get(row.id, (_UNKNOWN, None))
        if row.changed <= changed:
            return
        new = _budget_of(row)
        self._budgets[row.id] = (row.changed, new)
        if old is not None:
            self._budgets_of[old.scope, old.scope_id].pop(row.id, None)
        self._budgets_of.setdefault((row.scope, row.scope_id), {})[row.id] = new

    def _organisation_of(self, id_: str) -> Organisation:
        record = self.organisations.get(id_)
        if record is None:
            record = self.organisations[id_] = Organisation(id_)
        return record

    def _team_of(self, id_: str) -> Team:
        record = self.teams.get(id_)
        if record is None:
            record = self.teams[id_] = Team(id_, self.nobody.key.team.organisation)
        return record

    def _key_of(self, id_: str) -> Key:
        record = self.keys.get(id_)
        if record is None:
            record = self.keys[id_] = Key(id_, self.nobody.key.team)
        return record

    # --- questions --------------------------------------------------------------------------

    def view(self, key: Key) -> KeyView:
        """What holds for a key now.

        Raises:
            BadRecord: what is kept of it cannot be read, so nobody knows what it may do.
        """
        if key.view is not None and key.viewed == self.version:
            return key.view
        team = key.team
        organisation = team.organisation
        try:
            key.view = KeyView(
                key.id,
                team.id,
                organisation.id,
                Scopes.from_json(key.scopes),
                _tags(key.tags),
                KeyLimits(
                    Limits.from_json(key.limits),
                    Limits.from_json(team.limits),
                    Limits.from_json(organisation.limits),
                ),
                tuple(
                    budget
                    for place in (
                        ("key", key.id),
                        ("team", team.id),
                        ("organisation", organisation.id),
                    )
                    for budget in self._live_budgets(place)
                ),
            )
        except ValueError as error:
            _log.error("key_unreadable", key=key.id, why=str(error))
            raise BadRecord from error
        key.viewed = self.version
        return key.view

    def tag_budgets(self, organisation_id: str, tag: str) -> tuple[BudgetRow, ...]:
        """Those of a tag that count for an organisation: its own, and those of anybody."""
        place = (organisation_id, tag)
        found = self._tag_budgets.get(place)
        if found is None:
            found = tuple(
                budget
                for budget in self._live_budgets(("tag", tag))
                if budget.organisation_id in (None, organisation_id)
            )
            if len(self._tag_budgets) >= MAX_TAGS:  # requests name tags as they like
                self._tag_budgets.clear()
            self._tag_budgets[place] = found
        return found

    def _live_budgets(self, place: tuple[str, str]) -> list[BudgetRow]:
        return [row for row in self._budgets_of.get(place, {}).values() if not row.archived]


def canonical_name(subject: str) -> str:
    """A subject alternative name as it is compared: names of hosts have no case (RFC 4343)."""
    kind, separator, value = subject.strip().partition(":")
    if not separator:
        return subject.strip()
    kind = kind.strip().upper()
    value = value.strip()
    return f"{kind}:{value.lower() if kind == 'DNS' else value}"


def _until_us(row: KeyRow | CredentialRow) -> int:
    """Revoked is revoked, whenever the clock of who did it says that it was."""
    if row.is_revoked:
        return 0
    return _NEVER if row.expires_at_us is None else row.expires_at_us


def _tags(text: str) -> tuple[str, ...]:
    tags = json.loads(text)
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise ValueError("the tags are no list of texts")
    return tuple(tags)


def _budget_of(row: BudgetEntry) -> BudgetRow:
    """One whose percents cannot be read still stops what goes over it."""
    try:
        percents = tuple(sorted(int(percent) for percent in json.loads(row.alert_percents)))
    except (ValueError, TypeError):
        _log.error("budget_unreadable", budget=row.id)
        percents = ()
    return BudgetRow(
        row.id,
        row.scope,
        row.scope_id,
        row.organisation_id,
        row.period,
        row.time_zone,
        row.limit_micro,
        bool(row.is_hard),
        percents,
        row.is_archived,
    )
