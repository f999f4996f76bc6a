"""Whatever administrators do to one another, in whatever order: nobody has more than whoever made
him had, on a real store."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from sqlalchemy import select

from relay.administration import teams
from relay.administration.administrators import (
    create_administrator,
    identify,
    revoke_administrator,
    rotate_administrator,
)
from relay.administration.faults import Denied, Fault
from relay.administration.roles import PERMISSIONS, ROLES, Actor
from relay.store import schema
from relay.store.engine import engine_for, make_ready
from tests.fakes.admin_world import OPERATOR, Clock, desk_over
from tests.fakes.keys import PEPPERS
from tests.fakes.properties import examples

HOUR_US = 3_600_000_000


@cache
def _empty_store() -> bytes:
    """Of a file that has our tables: to make them takes longer than all the steps."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "relay.db"
        make_ready(f"sqlite:///{file}")
        return file.read_bytes()


def objects(organisation_id: str, team_id: str, everything: list[tuple[str, str]]) -> set[Any]:
    bound = Actor("", "viewer", organisation_id, team_id)
    return {one for one in everything if bound.sees(*one)}


class Grants(RuleBasedStateMachine):
    tokens: Bundle[str] = Bundle("tokens")

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        file = self._folder / "relay.db"
        file.write_bytes(_empty_store())
        self.engine = engine_for(f"sqlite:///{file}")
        self.clock = Clock()
        self.desk = desk_over(self.engine, self.clock)
        self.everything: list[tuple[str, str]] = [("", "")]
        self.wheres: list[dict[str, Any]] = [{}]
        for name in ("a", "b"):
            organisation = teams.create_organisation(self.desk, OPERATOR, name)["id"]
            team = teams.create_team(self.desk, OPERATOR, organisation, f"team {name}")["id"]
            self.everything += [(organisation, ""), (organisation, team)]
            self.wheres += [{"organisation": organisation}, {"team": team}]
        self.makers: dict[str, Actor] = {}
        """Who made each token, as he was then."""
        self.revoked: set[str] = set()
        self.count = 0

    def teardown(self) -> None:
        self.engine.dispose()
        shutil.rmtree(self._folder)

    def actor(self, secret: str) -> Actor | None:
        return identify(self.desk, PEPPERS, secret)

    def kept(self, maker: Actor, secret: str) -> str:
        self.makers[secret] = maker
        return secret

    @rule(target=tokens, role=st.sampled_from(ROLES), where=st.integers(0, 4))
    def operator_makes(self, role: str, where: int) -> str:
        self.count += 1
        bound = self.wheres[where]
        made = create_administrator(self.desk, OPERATOR, f"n{self.count}", role, **bound)
        return self.kept(OPERATOR, made.secret)

    @rule(
        target=tokens,
        by=tokens,
        role=st.sampled_from(ROLES),
        where=st.integers(0, 4),
        hours=st.none() | st.integers(1, 5),
    )
    def makes(self, by: str, role: str, where: int, hours: int | None) -> str:
        maker = self.actor(by)
        if maker is None:
            return by
        self.count += 1
        until = None if hours is None else self.clock.now_us + hours * HOUR_US
        try:
            made = create_administrator(
                self.desk,
                maker,
                f"n{self.count}",
                role,
                expires_at_us=until,
                **self.wheres[where],
            )
        except Fault:
            return by
        return self.kept(maker, made.secret)

    @rule(target=tokens, by=tokens, of=tokens, overlap_s=st.sampled_from([0, 3600]))
    def rotates(self, by: str, of: str, overlap_s: int) -> str:
        actor, id_ = self.actor(by), of.removeprefix("rta_").partition(".")[0]
        if actor is None:
            return by
        try:
            made = rotate_administrator(self.desk, actor, id_, overlap_s=overlap_s)
        except Fault:
            return by
        if overlap_s == 0:
            self.revoked.add(of)
        maker = self.makers[of] if by == of else actor
        return self.kept(maker, made.secret)

    @rule(by=tokens, of=consumes(tokens))
    def revokes(self, by: str, of: str) -> None:
        actor, id_ = self.actor(by), of.removeprefix("rta_").partition(".")[0]
        if actor is None:
            return
        try:
            revoke_administrator(self.desk, actor, id_)
        except Fault:
            return
        self.revoked.add(of)

    @rule(hours=st.integers(1, 3))
    def time_goes_by(self, hours: int) -> None:
        self.clock.now_us += hours * HOUR_US

    @invariant()
    def nobody_has_more_than_his_maker(self) -> None:
        for secret, maker in self.makers.items():
            actor = self.actor(secret)
            assert actor is None or secret not in self.revoked
            if actor is None:
                continue
            for permission in PERMISSIONS:
                assert maker.may(permission) or not actor.may(permission)
            mine = objects(actor.organisation_id, actor.team_id, self.everything)
            his = objects(maker.organisation_id, maker.team_id, self.everything)
            assert mine <= his
            if maker.expires_at_us is not None:
                assert actor.expires_at_us is not None
                assert actor.expires_at_us <= maker.expires_at_us

    @invariant()
    def every_token_is_one_that_somebody_was_given(self) -> None:
        with self.engine.connect() as connection:
            ids = set(connection.scalars(select(schema.administrators.c.id)))
        assert ids == {secret.removeprefix("rta_").partition(".")[0] for secret in self.makers}


@pytest.mark.parametrize("overlap_s", [0, 3600])
def test_who_ends_makes_no_token_that_does_not(tmp_path: Path, overlap_s: int) -> None:
    """Found by the machine above: by changing another's token he would have outlived his own."""
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    make_ready(url)
    engine = engine_for(url)
    clock = Clock()
    desk = desk_over(engine, clock)
    ends = create_administrator(
        desk, OPERATOR, "ends", "owner", expires_at_us=clock.now_us + HOUR_US
    )
    stays = create_administrator(desk, OPERATOR, "stays", "owner")
    actor = identify(desk, PEPPERS, ends.secret)
    assert actor is not None
    with pytest.raises(Denied, match="ends no later"):
        rotate_administrator(desk, actor, stays.row["id"], overlap_s=overlap_s)
    assert identify(desk, PEPPERS, stays.secret) is not None, "nothing was changed"
    own = rotate_administrator(desk, actor, ends.row["id"], overlap_s=overlap_s)
    assert own.row["expires_at_us"] == ends.row["expires_at_us"]
    engine.dispose()


TestGrants = Grants.TestCase
TestGrants.settings = settings(examples(12, full=300), stateful_step_count=15)


def test_a_role_is_given_by_who_may_do_all_that_it_may() -> None:
    """The log of all organisations is the auditor's and not the admin's."""
    with pytest.raises(Denied, match=r"audit\.read"):
        Actor("admin:1", "admin").require_grant("auditor", "", "")
    Actor("admin:1", "admin").require_grant("auditor", "org_1", "")  # who has it of none
    with pytest.raises(Denied):
        Actor("admin:1", "admin").require_grant("owner", "org_1", "")
    Actor("admin:1", "admin", "org_1").require_grant("billing", "org_1", "team_1")
