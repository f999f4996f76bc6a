"""Records from rows, in any order and more than once: of each the latest change counts."""

from __future__ import annotations

from typing import Any

import pytest
import structlog

from relay.governance.directory import Directory
from relay.governance.pepper import (
    _MIN_DIFFERENT,
    MIN_CHARACTERS,
    Pepper,
    Peppers,
    WeakPepper,
    check_strength,
)
from relay.governance.roll import MAX_TAGS, NO_MAC, BadRecord, Credential, Roll
from relay.store.directory_rows import (
    BudgetEntry,
    CertificateRow,
    Changes,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)

MAC, OTHER_MAC = b"m" * 32, b"n" * 32
NEVER = 2**63


def organisation(changed: int = 1, **more: Any) -> OrganisationRow:
    usual: dict[str, Any] = {"id": "o", "limits": "{}", "is_archived": False}
    return OrganisationRow(**{**usual, **more}, changed=changed)


def team(changed: int = 1, **more: Any) -> TeamRow:
    usual: dict[str, Any] = {
        "id": "t",
        "organisation_id": "o",
        "limits": "{}",
        "is_archived": False,
    }
    return TeamRow(**{**usual, **more}, changed=changed)


def key(changed: int = 1, **more: Any) -> KeyRow:
    usual: dict[str, Any] = {
        "id": "k",
        "team_id": "t",
        "scopes": "{}",
        "tags": "[]",
        "limits": "{}",
        "expires_at_us": None,
        "is_revoked": False,
    }
    return KeyRow(**{**usual, **more}, changed=changed)


def credential(changed: int = 1, **more: Any) -> CredentialRow:
    usual: dict[str, Any] = {
        "id": "c",
        "key_id": "k",
        "mac": MAC,
        "pepper_id": "p",
        "expires_at_us": None,
        "is_revoked": False,
    }
    return CredentialRow(**{**usual, **more}, changed=changed)


def certificate(changed: int = 1, **more: Any) -> CertificateRow:
    usual: dict[str, Any] = {"id": "DNS:a", "key_id": "k", "is_revoked": False}
    return CertificateRow(**{**usual, **more}, changed=changed)


def budget(changed: int = 1, **more: Any) -> BudgetEntry:
    usual: dict[str, Any] = {
        "id": "b",
        "scope": "key",
        "scope_id": "k",
        "organisation_id": "o",
        "period": "total",
        "time_zone": "UTC",
        "limit_micro": 100,
        "is_hard": True,
        "alert_percents": "[80, 50]",
        "is_archived": False,
    }
    return BudgetEntry(**{**usual, **more}, changed=changed)


def roll(*rows: Any) -> Roll:
    made = Roll()
    made.take(rows)
    return made


ALL = (organisation(), team(), key(), credential(), certificate(), budget())


# --- the latest change counts -----------------------------------------------------------------


@pytest.mark.parametrize("changed", [4, 5])
def test_rows_that_are_no_later_change_nothing(changed: int) -> None:
    """Those of the same change, and those of before it."""
    made = roll(
        organisation(5),
        team(5),
        key(5),
        credential(5),
        certificate(5),
        budget(5),
    )
    made.take(
        [
            organisation(changed, is_archived=True, limits='{"rpm":1}'),
            team(changed, is_archived=True, organisation_id="o2"),
            key(changed, is_revoked=True, team_id="t2"),
            credential(changed, is_revoked=True, mac=OTHER_MAC),
            certificate(changed, is_revoked=True, key_id="k2"),
            budget(changed, limit_micro=1),
        ]
    )
    record = made.keys["k"]
    assert record.is_live(0)
    assert (record.team.id, record.team.organisation.id) == ("t", "o")
    assert record.team.organisation.limits == "{}"
    assert made.by_mac[MAC].until_us == NEVER
    assert OTHER_MAC not in made.by_mac
    assert made.certificates["DNS:a"].until_us == NEVER
    assert made.certificates["DNS:a"].key is record
    assert [row.limit_micro for row in made.view(record).budgets] == [100]


def test_later_rows_change_all_that_they_say() -> None:
    made = roll(*ALL)
    made.take(
        [
            organisation(6, id="o2"),
            team(6, id="t2", organisation_id="o2", limits='{"rpm":7}'),
            key(6, team_id="t2", tags='["x"]', limits='{"rpm":8}', expires_at_us=900),
            credential(6, mac=OTHER_MAC, expires_at_us=800),
            certificate(6, is_revoked=True),
            budget(6, limit_micro=5, alert_percents="[9, 3]"),
        ]
    )
    record = made.keys["k"]
    view = made.view(record)
    assert (view.team_id, view.organisation_id, view.tags) == ("t2", "o2", ("x",))
    assert (view.limits.key.rpm, view.limits.team.rpm) == (8, 7)
    assert [(row.limit_micro, row.alert_percents) for row in view.budgets] == [(5, (3, 9))]
    assert (record.is_live(899), record.is_live(900)) == (True, False)
    assert MAC not in made.by_mac, "the secret of before is no one's"
    assert made.by_mac[OTHER_MAC].until_us == 800
    assert made.certificates["DNS:a"].until_us == 0


def test_a_credential_and_a_certificate_may_go_over_to_another_key() -> None:
    made = roll(*ALL, key(1, id="k2"))
    made.take([credential(2, key_id="k2"), certificate(2, key_id="k2")])
    assert made.by_mac[MAC].key is made.keys["k2"] is made.certificates["DNS:a"].key


def test_what_is_only_named_is_no_good_until_its_row_comes() -> None:
    made = roll(key(), credential())
    record = made.keys["k"]
    assert (record.team.is_live, record.is_live(0)) == (False, False)
    made.take([team()])
    assert (record.team.organisation.is_live, record.is_live(0)) == (False, False)
    made.take([organisation()])
    assert record.is_live(0)
    assert record.team is made.teams["t"]
    assert record.team.organisation is made.organisations["o"]


def test_nobody_is_never_live() -> None:
    nobody = Roll().nobody
    assert not nobody.key.is_live(-1)
    assert (nobody.until_us, nobody.mac, nobody.key.team.is_live) == (0, NO_MAC, False)
    assert not nobody.key.team.organisation.is_live


@pytest.mark.parametrize("dead", ["organisation", "team", "key"])
def test_each_of_them_has_to_be_live(dead: str) -> None:
    rows: dict[str, Row] = {
        "organisation": organisation(2, is_archived=True),
        "team": team(2, is_archived=True),
        "key": key(2, is_revoked=True),
    }
    made = roll(*ALL)
    assert made.keys["k"].is_live(0)
    made.take([rows[dead]])
    assert not made.keys["k"].is_live(0)


# --- secrets that were put aside --------------------------------------------------------------


def test_a_revoked_secret_is_found_no_more() -> None:
    made = roll(*ALL)
    made.take([credential(2, is_revoked=True)])
    assert MAC not in made.by_mac
    assert made.credentials["c"].until_us == 0


def test_what_was_put_aside_is_back_with_the_next_change_but_for_what_was_revoked_since() -> None:
    made = roll(*ALL, credential(1, id="c2", mac=OTHER_MAC))
    first, second = made.by_mac[MAC], made.by_mac[OTHER_MAC]
    for record in (first, second):
        made.put_aside(record)
    assert made.by_mac == {}
    made.take([credential(2, id="c2", mac=OTHER_MAC, is_revoked=True)])
    assert made.by_mac == {MAC: first}
    made.take_back()
    assert made.by_mac == {MAC: first}


def test_it_is_taken_back_once() -> None:
    """Whoever is revoked after it came back does not come back again."""
    made = roll(*ALL)
    record = made.by_mac[MAC]
    made.put_aside(record)
    made.put_aside(record)
    made.take_back()
    assert made.by_mac == {MAC: record}
    made.by_mac.clear()
    made.take_back()
    assert made.by_mac == {}


def test_what_is_not_among_them_is_not_put_aside() -> None:
    made = roll(*ALL)
    made.put_aside(Credential(made.keys["k"]))
    made.take_back()
    assert set(made.by_mac) == {MAC}


# --- views ------------------------------------------------------------------------------------


def test_a_view_is_made_once_and_anew_after_any_change() -> None:
    made = roll(*ALL)
    record = made.keys["k"]
    view = made.view(record)
    assert made.view(record) is view
    made.take([])
    assert made.view(record) is not view
    assert made.view(record) == view


@pytest.mark.parametrize("wrong", [{"scopes": "["}, {"tags": "[1]"}, {"tags": "{}"}])
def test_what_cannot_be_read_is_nobodys_and_is_told(wrong: dict[str, str]) -> None:
    made = roll(*ALL)
    made.take([key(2, **wrong)])
    with structlog.testing.capture_logs() as lines, pytest.raises(BadRecord):
        made.view(made.keys["k"])
    assert [(line["event"], line["key"]) for line in lines] == [("key_unreadable", "k")]


@pytest.mark.parametrize("percents", ["x", "3", '["a"]', "[null]"])
def test_a_budget_whose_percents_cannot_be_read_stops_all_the_same(percents: str) -> None:
    with structlog.testing.capture_logs() as lines:
        made = roll(*ALL, budget(2, limit_micro=7, alert_percents=percents))
    (row,) = made.view(made.keys["k"]).budgets
    assert (row.limit_micro, row.is_hard, row.alert_percents) == (7, True, ())
    assert [(line["event"], line["budget"]) for line in lines] == [("budget_unreadable", "b")]


def test_a_budget_may_go_over_to_another_and_be_archived() -> None:
    made = roll(*ALL)
    made.take([budget(2, scope="team", scope_id="t")])
    assert [row.scope for row in made.view(made.keys["k"]).budgets] == ["team"]
    made.take([budget(3, scope="tag", scope_id="x")])
    assert made.view(made.keys["k"]).budgets == ()
    assert [row.id for row in made.tag_budgets("o", "x")] == ["b"]
    made.take([budget(4, scope="tag", scope_id="x", is_archived=True)])
    assert made.tag_budgets("o", "x") == ()


def test_budgets_of_tags_are_remembered_within_a_bound_and_until_a_change() -> None:
    made = roll(*ALL, budget(2, scope="tag", scope_id="x"))
    known = made.tag_budgets("o", "x")
    assert made.tag_budgets("o", "x") is known
    for number in range(MAX_TAGS - 1):
        made.tag_budgets("o", f"tag {number}")
    assert made.tag_budgets("o", "x") is known
    assert len(made._tag_budgets) == MAX_TAGS
    made.tag_budgets("o", "one more")
    assert len(made._tag_budgets) == 1
    made.take([budget(3, scope="tag", scope_id="x", limit_micro=1)])
    assert [row.limit_micro for row in made.tag_budgets("o", "x")] == [1]


@pytest.mark.parametrize(("owner", "counts"), [("o", True), (None, True), ("other", False)])
def test_budgets_of_a_tag_count_for_their_organisation_or_for_anybody(
    owner: str | None, counts: bool
) -> None:
    made = roll(*ALL, budget(2, scope="tag", scope_id="x", organisation_id=owner))
    assert bool(made.tag_budgets("o", "x")) is counts


# --- peppers ----------------------------------------------------------------------------------


def test_a_pepper_of_just_enough_characters_that_differ_will_do() -> None:
    least = _MIN_DIFFERENT
    different = "".join(chr(ord("a") + number) for number in range(least))
    enough = (different * MIN_CHARACTERS)[:MIN_CHARACTERS]
    check_strength(enough)
    with pytest.raises(WeakPepper):
        check_strength(enough[:-1])
    with pytest.raises(WeakPepper):
        check_strength((different[:-1] * MIN_CHARACTERS)[:MIN_CHARACTERS])


def test_a_pepper_is_known_by_its_id_alone() -> None:
    pepper, old = Pepper("abcdefgh" * 8), Pepper("ijklmnop" * 8)
    known = Peppers(pepper, [old])
    for one in (pepper, old):
        assert "".join(list(one.id)) in known
    assert "00000000" not in known
    assert "zzzzzzzz" not in known
    assert pepper.id not in Peppers(old)


# --- a directory over it ----------------------------------------------------------------------


class Clock:
    """Seconds of a machine that has run for long."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def test_whose_a_key_is_is_told_also_of_one_that_is_revoked() -> None:
    directory = Directory(Peppers(Pepper("abcdefgh" * 8)), Clock())
    directory.apply(Changes(1, (*ALL, key(2, is_revoked=True)), is_whole=True), 0.0)
    assert directory.organisation_of("k") == "o"
    assert directory.organisation_of("nobody's") == ""


def test_how_old_a_look_is_counts_from_it_whatever_the_clock_shows() -> None:
    clock = Clock()
    directory = Directory(Peppers(Pepper("abcdefgh" * 8)), clock)
    looked_s = clock.now_s
    directory.apply(Changes(1, ALL, is_whole=True), looked_s)
    assert (directory.is_behind, directory.is_stale) == (False, False)
    clock.now_s = 2 * looked_s
    assert (directory.is_behind, directory.is_stale) == (True, True)
    directory.apply(Changes(2), clock.now_s)
    assert (directory.is_behind, directory.is_stale) == (False, False)
    directory.failed()
    assert (directory.is_behind, directory.is_stale) == (True, False)
