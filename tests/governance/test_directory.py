"""Who may call, by what the store has told: one text and one amount of work for all who may not."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import pytest

from relay.errors import RelayError, StoreDown, Unauthenticated
from relay.governance.directory import NOT_NOW, REFUSED, Directory
from relay.governance.pepper import Pepper, Peppers
from relay.governance.roll import Key
from relay.governance.token_text import Minted, mint
from relay.store.directory_rows import BudgetEntry, Changes, CredentialRow, Row
from tests.fakes.keys import (
    NOW_US,
    PEPPER,
    PEPPERS,
    certificate_row,
    credential_row,
    key_row,
    organisation_row,
    team_row,
    whole,
)

HOUR_US = 3_600_000_000
MINE = mint("virtual key")
OTHER_PEPPER = Pepper("another pepper, which is 9876543210 long enough")


class Told:
    """A directory on a clock of its own, told what the test says."""

    def __init__(self, *rows: Row, peppers: Peppers = PEPPERS) -> None:
        self.now_s = 500.0
        self.directory = Directory(peppers, lambda: self.now_s, stale_s=60, behind_s=2)
        self.tell(*(rows or (organisation_row(), team_row(), key_row(), credential_row(MINE))))

    def tell(self, *rows: Row) -> None:
        """Everything there is."""
        self.directory.apply(whole(*rows), self.now_s)

    def hear(self, *rows: Row, revision: int = 2) -> None:
        """What is new."""
        self.directory.apply(Changes(revision, rows), self.now_s)

    def key_of(self, bearer: str, now_us: int = NOW_US) -> str:
        return self.directory.identify(bearer, now_us).key_id

    def refusal_of(self, bearer: str, now_us: int = NOW_US) -> RelayError:
        with pytest.raises((Unauthenticated, StoreDown)) as caught:
            self.directory.identify(bearer, now_us)
        return caught.value


def secret_of_another(minted: Minted) -> str:
    """The same id with another secret, its checksum right."""
    return Minted(minted.kind, minted.id, mint("virtual key").secret).text


def test_a_key_is_known_with_all_that_stands_above_it() -> None:
    told = Told(
        organisation_row(limits='{"rpm": 100}'),
        team_row(limits='{"sessions": 5}'),
        key_row(scopes='{"models": ["fast"]}', tags='["eu"]', limits='{"generations": 2}'),
        credential_row(MINE),
    )
    view = told.directory.identify(MINE.text, NOW_US)
    assert (view.key_id, view.team_id, view.organisation_id) == ("key_1", "team_1", "org_1")
    assert view.scopes.models == ("fast",)
    assert view.tags == ("eu",)
    limits = view.limits
    assert (limits.organisation.rpm, limits.team.sessions, limits.key.generations) == (100, 5, 2)
    assert told.directory.live("key_1", NOW_US) is view, "made once until something changes"


# --- who may not --------------------------------------------------------------------------------


def refusals() -> dict[str, tuple[list[Row], str]]:
    """By what is wrong: what the directory knows, and what is shown."""
    good: list[Row] = [organisation_row(), team_row(), key_row(), credential_row(MINE)]
    past = NOW_US - 1

    def but(at: int, row: Row) -> list[Row]:
        return [*good[:at], row, *good[at + 1 :]]

    wrong = MINE.text[:-1] + ("0" if MINE.text[-1] != "0" else "1")
    admin = mint("administrator")
    return {
        "unknown": (good, mint("virtual key").text),
        "another secret": (good, secret_of_another(MINE)),
        "wrong checksum": (good, wrong),
        "no key at all": (good, "sk-something-of-somebody-else"),
        "an administrator's": ([*good, credential_row(admin)], admin.text),
        "the same id as an administrator's": (
            good,
            Minted("administrator", MINE.id, MINE.secret).text,
        ),
        "revoked": (but(3, credential_row(MINE, is_revoked=True)), MINE.text),
        "revoked key": (but(2, key_row(is_revoked=True)), MINE.text),
        "expired": (but(3, credential_row(MINE, expires_at_us=past)), MINE.text),
        "expiring now": (but(3, credential_row(MINE, expires_at_us=NOW_US)), MINE.text),
        "expired key": (but(2, key_row(expires_at_us=past)), MINE.text),
        "archived team": (but(1, team_row(is_archived=True)), MINE.text),
        "archived organisation": (but(0, organisation_row(is_archived=True)), MINE.text),
        "another pepper": (
            but(
                3,
                credential_row(
                    MINE,
                    mac=OTHER_PEPPER.mac("virtual key", MINE.signed),
                    pepper_id=OTHER_PEPPER.id,
                ),
            ),
            MINE.text,
        ),
        "without its key": ([organisation_row(), team_row(), credential_row(MINE)], MINE.text),
        "without its team": ([organisation_row(), key_row(), credential_row(MINE)], MINE.text),
        "without its organisation": ([team_row(), key_row(), credential_row(MINE)], MINE.text),
    }


@pytest.mark.parametrize("kind", refusals())
def test_all_who_may_not_are_told_the_same(kind: str) -> None:
    rows, bearer = refusals()[kind]
    error = Told(*rows).refusal_of(bearer)
    assert isinstance(error, Unauthenticated)
    assert (error.public_message, error.metadata, error.retry_after_s) == (REFUSED, {}, None)


@pytest.mark.parametrize("kind", refusals())
def test_all_who_may_not_cost_the_same(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, bearer = refusals()[kind]
    told, counts = Told(*rows), {"mac": 0, "compare": 0, "live": 0}
    mac, compare = Pepper.mac, hmac.compare_digest
    live = Key.is_live

    def counted(name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any) -> Any:
            counts[name] += 1
            return inner(*arguments)

        return wrapper

    monkeypatch.setattr(Pepper, "mac", counted("mac", mac))
    monkeypatch.setattr(hmac, "compare_digest", counted("compare", compare))
    monkeypatch.setattr(Key, "is_live", counted("live", live))
    told.refusal_of(bearer)
    assert counts == {"mac": 1, "compare": 1, "live": 1}


def test_any_bit_of_what_is_kept_matters() -> None:
    row = credential_row(MINE)
    for bit in range(0, 256, 7):
        mac = bytearray(row.mac)
        mac[bit // 8] ^= 1 << bit % 8
        told = Told(organisation_row(), team_row(), key_row(), row._replace(mac=bytes(mac)))
        assert isinstance(told.refusal_of(MINE.text), Unauthenticated)


def test_a_record_is_no_good_for_another_purpose_or_id() -> None:
    as_administrator = PEPPER.mac("administrator", MINE.signed)
    of_secret_alone = PEPPER.mac("virtual key", MINE.secret)
    for mac in (as_administrator, of_secret_alone, b"", bytes(32)):
        told = Told(organisation_row(), team_row(), key_row(), credential_row(MINE, mac=mac))
        told.refusal_of(MINE.text)


# --- changes ------------------------------------------------------------------------------------


def test_a_secret_takes_anothers_place_with_both_good_for_a_while() -> None:
    told, new = Told(), mint("virtual key")
    told.hear(
        credential_row(MINE, expires_at_us=NOW_US + HOUR_US, changed=2),
        credential_row(new, changed=2),
    )
    assert told.key_of(MINE.text) == told.key_of(new.text) == "key_1"
    told.refusal_of(MINE.text, NOW_US + HOUR_US)
    assert told.key_of(new.text, NOW_US + HOUR_US) == "key_1"


def test_an_old_pepper_still_holds_while_it_is_named() -> None:
    rows: list[Row] = [
        organisation_row(),
        team_row(),
        key_row(),
        credential_row(
            MINE, mac=OTHER_PEPPER.mac("virtual key", MINE.signed), pepper_id=OTHER_PEPPER.id
        ),
    ]
    assert Told(*rows, peppers=Peppers(PEPPER, [OTHER_PEPPER])).key_of(MINE.text) == "key_1"
    told = Told(*rows)
    told.refusal_of(MINE.text)
    assert told.directory.unverifiable(whole(*rows)) == 1


def test_a_clock_that_was_wrong_for_a_while_costs_a_key_seconds() -> None:
    told = Told(
        organisation_row(), team_row(), key_row(), credential_row(MINE, expires_at_us=NOW_US + 1)
    )
    told.refusal_of(MINE.text, NOW_US + HOUR_US)
    told.refusal_of(MINE.text)
    told.now_s += 11
    told.hear(revision=1)
    assert told.key_of(MINE.text) == "key_1"


def test_revoked_is_revoked_whatever_the_clocks_say() -> None:
    told = Told()
    told.hear(key_row(is_revoked=True, expires_at_us=NOW_US + HOUR_US, changed=2))
    told.refusal_of(MINE.text, NOW_US - HOUR_US)
    with pytest.raises(Unauthenticated):
        told.directory.live("key_1", NOW_US)


def test_what_comes_late_changes_nothing() -> None:
    told = Told()
    told.hear(key_row(is_revoked=True, changed=5), revision=5)
    told.hear(key_row(tags='["old"]', changed=4), revision=5)
    told.refusal_of(MINE.text)


def test_a_change_above_a_key_holds_for_it_at_once() -> None:
    told = Told()
    told.hear(organisation_row(limits='{"rpm": 7}', changed=2))
    assert told.directory.live("key_1", NOW_US).limits.organisation.rpm == 7
    told.hear(organisation_row(is_archived=True, changed=3), revision=3)
    told.refusal_of(MINE.text)
    told.hear(organisation_row(changed=4), revision=4)
    assert told.key_of(MINE.text) == "key_1"


def test_a_key_moves_to_another_team() -> None:
    told = Told()
    told.hear(team_row("team_2", "org_2", changed=2), key_row(team_id="team_2", changed=2))
    told.refusal_of(MINE.text)  # whose organisation is not there yet
    told.hear(organisation_row("org_2", changed=3), revision=3)
    view = told.directory.identify(MINE.text, NOW_US)
    assert (view.team_id, view.organisation_id) == ("team_2", "org_2")


def test_a_whole_takes_the_place_of_all_that_was() -> None:
    told, other = Told(), mint("virtual key")
    told.hear(key_row(changed=9), revision=9)
    told.tell(organisation_row(), team_row(), key_row("key_2"), credential_row(other, "key_2"))
    told.refusal_of(MINE.text)
    assert told.key_of(other.text) == "key_2"
    assert told.directory.revision == 1, "of a copy that is older"


def test_a_whole_is_in_force_with_its_last_step_only() -> None:
    told, other = Told(), mint("virtual key")
    many: list[Row] = [key_row(f"key_{n}") for n in range(1200)]
    steps = told.directory.applying(
        whole(organisation_row(), team_row(), *many, credential_row(other, "key_7"), revision=3),
        told.now_s,
    )
    next(steps)
    assert told.key_of(MINE.text) == "key_1"
    told.refusal_of(other.text)
    assert len(list(steps)) == 2
    told.refusal_of(MINE.text)
    assert told.key_of(other.text) == "key_7"


# --- a store that cannot be read ----------------------------------------------------------------


def test_while_looks_fail_good_keys_pass_and_others_are_not_called_bad() -> None:
    told = Told()
    told.directory.failed()
    assert told.key_of(MINE.text) == "key_1"
    for bearer in (mint("virtual key").text, secret_of_another(MINE)):
        error = told.refusal_of(bearer)
        assert isinstance(error, StoreDown)
        assert (error.public_message, error.retry_after_s) == (NOT_NOW, 1.0)
    assert isinstance(told.refusal_of("sk-no-key"), Unauthenticated), "which no store would know"
    told.hear()
    assert isinstance(told.refusal_of(mint("virtual key").text), Unauthenticated)


def test_a_look_that_is_missed_counts_as_one_that_failed() -> None:
    told = Told()
    told.now_s += 2.5
    assert told.directory.is_behind
    assert isinstance(told.refusal_of(mint("virtual key").text), StoreDown)
    assert told.key_of(MINE.text) == "key_1"


def test_after_a_minute_nothing_is_known_to_be_good() -> None:
    told = Told()
    told.directory.failed()
    told.now_s += 60
    assert told.key_of(MINE.text) == "key_1"
    told.now_s += 0.1
    assert isinstance(told.refusal_of(MINE.text), StoreDown)
    with pytest.raises(StoreDown):
        told.directory.live("key_1", NOW_US)


def test_what_is_known_to_be_revoked_stays_so() -> None:
    told = Told()
    told.hear(key_row(is_revoked=True, changed=2))
    told.directory.failed()
    told.now_s += 100
    with pytest.raises(Unauthenticated):
        told.directory.live("key_1", NOW_US)


def test_before_the_first_look_nobody_is_called_bad() -> None:
    directory = Directory(PEPPERS, lambda: 500.0)
    assert not directory.is_loaded
    asks: list[Callable[[], object]] = [
        lambda: directory.identify(MINE.text, NOW_US),
        lambda: directory.identify_certificate(["DNS:agent.test"], NOW_US),
        lambda: directory.live("key_1", NOW_US),
    ]
    for ask in asks:
        with pytest.raises(StoreDown):
            ask()


def test_a_record_that_cannot_be_read_is_nobodys_fault_and_lets_nobody_in() -> None:
    for row in (
        key_row(scopes='{"regions": ["eu"]}'),
        key_row(tags="[1]"),
        key_row(limits="x"),
    ):
        told = Told(organisation_row(), team_row(), row, credential_row(MINE))
        assert isinstance(told.refusal_of(MINE.text), StoreDown)
        told.hear(key_row(changed=2))
        assert told.key_of(MINE.text) == "key_1"


# --- certificates -------------------------------------------------------------------------------


def certified(*rows: Row) -> Directory:
    return Told(
        organisation_row(), team_row(), key_row(), key_row("key_2"), credential_row(MINE), *rows
    ).directory


def test_a_certificate_stands_for_a_key() -> None:
    directory = certified(certificate_row("DNS:Agent.Test"), certificate_row("URI:spiffe://t/A"))
    for names in (["DNS:agent.test"], ["CN:x", "URI:spiffe://t/A"], ["dns:AGENT.test", "DNS:o"]):
        assert directory.identify_certificate(names, NOW_US).key_id == "key_1"
    for names in ([], ["URI:spiffe://t/a"], ["DNS:sub.agent.test"], ["CN:agent.test"], [""]):
        with pytest.raises(Unauthenticated, match=REFUSED):
            directory.identify_certificate(names, NOW_US)


def test_one_that_stands_for_two_keys_stands_for_none() -> None:
    directory = certified(certificate_row("DNS:a"), certificate_row("DNS:b", "key_2"))
    with pytest.raises(Unauthenticated):
        directory.identify_certificate(["DNS:a", "DNS:b"], NOW_US)


def test_a_certificate_that_was_taken_away() -> None:
    directory = certified(certificate_row("DNS:a", is_revoked=True), certificate_row("DNS:b"))
    with pytest.raises(Unauthenticated):
        directory.identify_certificate(["DNS:a"], NOW_US)
    assert directory.identify_certificate(["DNS:a", "DNS:b"], NOW_US).key_id == "key_1"
    directory.apply(Changes(2, (key_row(is_revoked=True, changed=2),)), 500.0)
    with pytest.raises(Unauthenticated):
        directory.identify_certificate(["DNS:b"], NOW_US)


# --- budgets ------------------------------------------------------------------------------------


def budget(id_: str, scope: str, scope_id: str, **fields: Any) -> BudgetEntry:
    row = BudgetEntry(
        id_,
        scope,
        scope_id,
        "org_1",
        "day",
        "UTC",
        5,
        True,
        "[80, 50]",
        is_archived=False,
        changed=1,
    )
    return row._replace(**fields)


def test_budgets_of_a_key_are_its_own_and_those_above_it() -> None:
    directory = certified(
        budget("b1", "key", "key_1"),
        budget("b2", "team", "team_1"),
        budget("b3", "organisation", "org_1"),
        budget("b4", "key", "key_2"),
        budget("b5", "organisation", "org_2"),
        budget("b6", "key", "key_1", is_archived=True),
    )
    view = directory.live("key_1", NOW_US)
    assert {row.id for row in view.budgets} == {"b1", "b2", "b3"}
    assert view.budgets[0].alert_percents == (50, 80)
    directory.apply(Changes(2, (budget("b2", "team", "team_1", limit_micro=9, changed=2),)), 500.0)
    limits = {row.id: row.limit_micro for row in directory.live("key_1", NOW_US).budgets}
    assert limits == {"b1": 5, "b2": 9, "b3": 5}
    directory.apply(Changes(3, (budget("b1", "key", "key_2", changed=3),)), 500.0)
    assert {row.id for row in directory.live("key_2", NOW_US).budgets} == {"b1", "b2", "b3", "b4"}
    assert {row.id for row in directory.live("key_1", NOW_US).budgets} == {"b2", "b3"}


def test_budgets_of_tags_are_the_organisations_and_anybodys() -> None:
    directory = certified(
        budget("b1", "tag", "eu"),
        budget("b2", "tag", "eu", organisation_id=None),
        budget("b3", "tag", "eu", organisation_id="org_2"),
        budget("b4", "tag", "us", is_archived=True),
        budget("b5", "tag", "x"),
    )
    assert [row.id for row in directory.tag_budgets("org_1", ["eu", "us", "none"])] == ["b1", "b2"]
    assert [row.id for row in directory.tag_budgets("org_2", ["x", "eu"])] == ["b2", "b3"]
    directory.apply(Changes(2, (budget("b6", "tag", "us", changed=2),)), 500.0)
    assert [row.id for row in directory.tag_budgets("org_1", ["us"])] == ["b6"]
    for n in range(10_000):
        directory.tag_budgets("org_1", [f"t{n}"])
    assert len(directory._roll._tag_budgets) <= 4096


def test_a_budget_with_odd_alerts_still_counts() -> None:
    directory = certified(budget("b1", "key", "key_1", alert_percents="?"))
    assert directory.live("key_1", NOW_US).budgets[0].alert_percents == ()


def test_nothing_shows_a_mac() -> None:
    told = Told()
    row = credential_row(MINE)
    assert isinstance(row, CredentialRow)
    view = told.directory.identify(MINE.text, NOW_US)
    assert row.mac.hex() not in repr(view)
    assert MINE.secret not in repr(view)
