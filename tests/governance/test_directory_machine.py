"""Whatever is done to keys, and in whatever order it is heard of: verify(key) is true iff it was
issued and is neither revoked nor expired, and all above it is there; and an outage is never a 401.

The world is what administrators have done; the directory hears of it by looks that may fail, be
repeated, or come with their rows in any order. What it says is compared with what was true at its
last look.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.errors import StoreDown, Unauthenticated
from relay.governance.directory import Directory
from relay.governance.token_text import Minted, mint
from relay.store.directory_rows import Changes, Row
from tests.fakes.keys import (
    NOW_US,
    PEPPERS,
    credential_row,
    key_row,
    organisation_row,
    team_row,
)
from tests.fakes.properties import examples

STALE_S, BEHIND_S = 60.0, 2.0
TEAMS, KEYS = 3, 4


@dataclass(frozen=True)
class Secret:
    """The model of a credential."""

    minted: Minted
    key: int
    until_us: int | None = None
    is_revoked: bool = False


@dataclass(frozen=True)
class World:
    """All that is true at one moment."""

    archived_organisations: frozenset[int] = frozenset()
    archived_teams: frozenset[int] = frozenset()
    revoked: frozenset[int] = frozenset()
    until_us: tuple[tuple[int, int], ...] = ()
    secrets: tuple[Secret, ...] = ()

    def is_live(self, key: int, now_us: int) -> bool:
        team = key % TEAMS
        return (
            key not in self.revoked
            and now_us < dict(self.until_us).get(key, now_us + 1)
            and team not in self.archived_teams
            and team % 2 not in self.archived_organisations
        )

    def allows(self, secret: Secret, now_us: int) -> bool:
        return (
            not secret.is_revoked
            and (secret.until_us is None or now_us < secret.until_us)
            and self.is_live(secret.key, now_us)
        )


class Directories(RuleBasedStateMachine):
    """Rules are what administrators, the store and time do."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.now_us = 500.0, NOW_US
        self.directory = Directory(PEPPERS, lambda: self.now_s, stale_s=STALE_S, behind_s=BEHIND_S)
        self.world = World()
        self.seen: World | None = None
        self.looked_s = 0.0
        self.has_failed = False
        self.changed = 0
        self.rows: dict[tuple[type, str], Row] = {}
        self.history: list[Row] = []
        self.issued: list[Minted] = []

    @initialize()
    def begin(self) -> None:
        for n in range(2):
            self._write(organisation_row(f"org_{n}"))
        for n in range(TEAMS):
            self._write(team_row(f"team_{n}", f"org_{n % 2}"))
        for n in range(KEYS):
            self._write(key_row(f"key_{n}", f"team_{n % TEAMS}"))

    def _write(self, row: Row) -> None:
        self.changed += 1
        numbered = row._replace(changed=self.changed)
        self.rows[type(row), row.id] = numbered
        self.history.append(numbered)

    # --- what administrators do -------------------------------------------------------------

    @rule(key=st.integers(0, KEYS - 1))
    def create(self, key: int) -> None:
        if len(self.issued) < 12:
            minted = mint("virtual key")
            self.issued.append(minted)
            self._set(Secret(minted, key))

    @rule(at=st.integers(0, 20), overlap_s=st.sampled_from([0, 5, 100]))
    def rotate(self, at: int, overlap_s: int) -> None:
        if secret := self._secret(at):
            self._set(replace(secret, until_us=self.now_us + overlap_s * 1_000_000))
            self.create(secret.key)

    @rule(at=st.integers(0, 20))
    def revoke_credential(self, at: int) -> None:
        if secret := self._secret(at):
            self._set(replace(secret, is_revoked=True))

    def _secret(self, at: int) -> Secret | None:
        secrets = self.world.secrets
        return secrets[at % len(secrets)] if secrets else None

    def _set(self, secret: Secret) -> None:
        others = tuple(one for one in self.world.secrets if one.minted is not secret.minted)
        self.world = replace(self.world, secrets=(*others, secret))
        self._write(
            credential_row(
                secret.minted,
                f"key_{secret.key}",
                expires_at_us=secret.until_us,
                is_revoked=secret.is_revoked,
            )
        )

    @rule(key=st.integers(0, KEYS - 1))
    def revoke_key(self, key: int) -> None:
        self.world = replace(self.world, revoked=self.world.revoked | {key})
        self._write_key(key)

    @rule(key=st.integers(0, KEYS - 1), in_s=st.sampled_from([-1, 5, 100]))
    def expire_key(self, key: int, in_s: int) -> None:
        until = {**dict(self.world.until_us), key: self.now_us + in_s * 1_000_000}
        self.world = replace(self.world, until_us=tuple(until.items()))
        self._write_key(key)

    def _write_key(self, key: int) -> None:
        self._write(
            key_row(
                f"key_{key}",
                f"team_{key % TEAMS}",
                is_revoked=key in self.world.revoked,
                expires_at_us=dict(self.world.until_us).get(key),
            )
        )

    @rule(team=st.integers(0, TEAMS - 1), is_archived=st.booleans())
    def archive_team(self, team: int, is_archived: bool) -> None:
        archived = self.world.archived_teams - {team}
        if is_archived:
            archived |= {team}
        self.world = replace(self.world, archived_teams=archived)
        self._write(team_row(f"team_{team}", f"org_{team % 2}", is_archived=is_archived))

    @rule(organisation=st.integers(0, 1), is_archived=st.booleans())
    def archive_organisation(self, organisation: int, is_archived: bool) -> None:
        archived = self.world.archived_organisations - {organisation}
        if is_archived:
            archived |= {organisation}
        self.world = replace(self.world, archived_organisations=archived)
        self._write(organisation_row(f"org_{organisation}", is_archived=is_archived))

    # --- what is heard of it ----------------------------------------------------------------

    @rule(seed=st.integers(0, 2**32), is_whole=st.booleans(), again=st.integers(0, 3))
    def look(self, seed: int, is_whole: bool, again: int) -> None:
        """Rows in any order, some of them known already."""
        since = self.directory.revision
        is_whole = is_whole or since is None
        rows = list(self.rows.values())
        if not is_whole:
            known = [row for row in rows if row.changed <= (since or 0)]
            rows = [row for row in rows if row.changed > (since or 0)] + known[:again]
        random.Random(seed).shuffle(rows)
        self.directory.apply(Changes(self.changed, tuple(rows), is_whole), self.now_s)
        self.seen, self.looked_s, self.has_failed = self.world, self.now_s, False

    @rule()
    def old_rows_come_late(self) -> None:
        """What a slow look had read before a faster one; it tells nothing new."""
        if self.seen is not None:
            late = tuple(
                row
                for row in reversed(self.history)
                if row.changed <= (self.directory.revision or 0)
            )
            self.directory.apply(Changes(self.directory.revision or 0, late), self.now_s)
            self.looked_s, self.has_failed = self.now_s, False

    @rule(seed=st.integers(0, 2**32))
    def look_is_cut_short(self, seed: int) -> None:
        """A whole that is not taken up to its end changes nothing."""
        rows = list(self.rows.values())
        random.Random(seed).shuffle(rows)
        for _ in self.directory.applying(Changes(self.changed, tuple(rows), True), self.now_s):
            break

    @rule()
    def look_fails(self) -> None:
        self.directory.failed()
        self.has_failed = True

    @rule(for_s=st.sampled_from([0.25, 1.0, 3.0, 61.0]))
    def time_passes(self, for_s: float) -> None:
        self.now_s += for_s
        self.now_us += int(for_s * 1_000_000)

    # --- what must hold ---------------------------------------------------------------------

    @invariant()
    def a_key_passes_iff_it_may(self) -> None:
        age_s = self.now_s - self.looked_s
        is_stale = self.seen is None or age_s > STALE_S
        is_behind = self.seen is None or self.has_failed or age_s > BEHIND_S
        secrets = {one.minted: one for one in self.seen.secrets} if self.seen else {}
        for minted in self.issued:
            known = secrets.get(minted)
            may = bool(known and self.seen and self.seen.allows(known, self.now_us))
            if may and not is_stale:
                assert known
                view = self.directory.identify(minted.text, self.now_us)
                assert view.key_id == f"key_{known.key}"
                assert view.team_id == f"team_{known.key % TEAMS}"
            else:
                kind = StoreDown if may or is_behind else Unauthenticated
                with pytest.raises(kind):
                    self.directory.identify(minted.text, self.now_us)

    @invariant()
    def a_generation_goes_on_iff_its_key_may(self) -> None:
        age_s = self.now_s - self.looked_s
        for key in range(KEYS):
            if self.seen is None:
                kind: type[Exception] | None = StoreDown
            elif not self.seen.is_live(key, self.now_us):
                kind = Unauthenticated
            else:
                kind = StoreDown if age_s > STALE_S else None
            if kind is None:
                assert self.directory.live(f"key_{key}", self.now_us).key_id == f"key_{key}"
            else:
                with pytest.raises(kind):
                    self.directory.live(f"key_{key}", self.now_us)

    @invariant()
    def nobody_else_passes(self) -> None:
        stranger = mint("virtual key").text
        with pytest.raises((Unauthenticated, StoreDown)):
            self.directory.identify(stranger, self.now_us)


TestDirectories = Directories.TestCase
TestDirectories.settings = examples(60, full=3000)
