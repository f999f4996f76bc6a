"""Who is let in, and how those are told who are not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from relay.errors import RelayError, StoreDown, Unauthenticated
from relay.governance.directory import REFUSED, Directory
from relay.governance.failure_throttle import BURST
from relay.governance.gate import MISSING, Gate, Identity, KeyGate, OpenGate, TooManyBadKeys
from relay.governance.tenant import Tenants
from relay.governance.token_text import mint
from relay.store.directory_rows import Changes
from tests.fakes.keys import (
    NOW_US,
    PEPPERS,
    certificate_row,
    credential_row,
    key_row,
    organisation_row,
    team_row,
    whole,
)

MINE = mint("virtual key")
ME = Identity("team_1", "key_1")
CERTIFIED = Identity("team_1", "key_2")


class Gated:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.denied: list[str] = []
        self.directory = Directory(PEPPERS, lambda: self.now_s)
        self.by_certificate: list[bool] = []
        self.gate = KeyGate(self.directory, lambda: self.now_s, lambda: NOW_US, self._denied)
        self.directory.apply(
            whole(
                organisation_row(),
                team_row(),
                key_row(),
                key_row("key_2"),
                credential_row(MINE),
                certificate_row("DNS:agent.test", "key_2"),
            ),
            self.now_s,
        )

    def _denied(self, address: str, is_by_certificate: bool) -> None:
        self.denied.append(address)
        self.by_certificate.append(is_by_certificate)

    def refusal(self, bearer: str, names: Sequence[str] = (), peer: str = "10.0.0.1") -> RelayError:
        with pytest.raises(RelayError) as caught:
            self.gate.identify(bearer, names, peer)
        return caught.value


def test_a_key_is_let_in_and_asked_for_again_by_its_id() -> None:
    gated = Gated()
    assert gated.gate.identify(MINE.text) == ME
    view = gated.gate.view("key_1")
    assert view.team_id == "team_1"
    change = Changes(2, (key_row(is_revoked=True, changed=2),))
    gated.directory.apply(change, gated.now_s)
    with pytest.raises(Unauthenticated):
        gated.gate.view("key_1")


def test_without_anything_it_says_what_is_needed_and_nobody_waits() -> None:
    gated = Gated()
    for _ in range(3 * BURST):
        error = gated.refusal("")
        assert isinstance(error, Unauthenticated)
        assert error.public_message == MISSING
    assert gated.denied == ["10.0.0.1"] * 3 * BURST


@pytest.mark.parametrize("bearer", ["", "any", "sk-something"])
def test_a_certificate_is_enough_whatever_an_sdk_sends_as_its_key(bearer: str) -> None:
    assert Gated().gate.identify(bearer, ["DNS:agent.test"]) == CERTIFIED


def test_a_key_goes_before_a_certificate_also_a_bad_one() -> None:
    gated = Gated()
    assert gated.gate.identify(MINE.text, ["DNS:agent.test"]) == ME
    for bearer in (mint("virtual key").text, mint("administrator").text, MINE.text[:-1]):
        assert isinstance(gated.refusal(bearer, ["DNS:agent.test"]), Unauthenticated)


def test_names_that_stand_for_nobody() -> None:
    assert isinstance(Gated().refusal("any", ["DNS:other.test"]), Unauthenticated)


def test_an_address_that_is_wrong_too_often_waits_and_a_good_key_beside_it_does_not() -> None:
    gated = Gated()
    told = [gated.refusal(mint("virtual key").text) for _ in range(BURST + 5)]
    assert [type(error) for error in told] == [Unauthenticated] * BURST + [TooManyBadKeys] * 5
    assert {error.public_message for error in told[:BURST]} == {REFUSED}
    assert told[-1].retry_after_s
    assert gated.gate.identify(MINE.text, peer="10.0.0.1") == ME
    elsewhere = gated.refusal(mint("virtual key").text, peer="10.0.0.2")
    assert isinstance(elsewhere, Unauthenticated)
    gated.now_s += told[-1].retry_after_s
    gated.directory.apply(Changes(1), gated.now_s)
    assert isinstance(gated.refusal(mint("virtual key").text), Unauthenticated)
    assert gated.denied.count("10.0.0.1") == BURST + 6


def test_an_id_that_is_guessed_at_from_many_addresses_waits_too() -> None:
    gated = Gated()
    stranger = mint("virtual key").text
    told = [gated.refusal(stranger, peer=f"10.0.1.{n}") for n in range(BURST + 1)]
    assert isinstance(told[-1], TooManyBadKeys)


def test_a_store_that_is_away_is_not_counted_against_anybody() -> None:
    gated = Gated()
    gated.directory.failed()
    told = [gated.refusal(mint("virtual key").text) for _ in range(2 * BURST)]
    assert {type(error) for error in told} == {StoreDown}
    assert gated.denied == []


def test_a_flood_is_a_few_lines_of_the_log_and_holds_no_secret() -> None:
    gated = Gated()
    bearers = [mint("virtual key") for _ in range(300)]
    with capture_logs() as lines:
        for n, bearer in enumerate(bearers):
            gated.now_s = 100 + n * 0.05
            gated.directory.apply(Changes(1), gated.now_s)
            gated.refusal(bearer.text)
    assert [line["event"] for line in lines] == ["keys_refused"] * 2
    assert lines[1]["count"] == 200
    assert not any(bearer.secret in repr(lines) for bearer in bearers)


def test_without_keys_everybody_is_let_in_by_a_name() -> None:
    gate = OpenGate(Tenants("salt"))
    assert gate.identify("k") == Identity(Tenants("salt").name("k"))
    assert gate.identify("") == Identity()
    any_gate: Gate = gate
    assert any_gate.view("") is None


def test_whoever_is_refused_is_told_of_and_by_what() -> None:
    gated = Gated()
    gated.refusal("")
    gated.refusal("rtk_bad")
    gated.refusal("", ["DNS:nobody.test"])
    gated.directory.apply(
        Changes(2, (certificate_row("DNS:agent.test", is_revoked=True, changed=2),)), gated.now_s
    )
    gated.refusal("any", ["DNS:agent.test"])
    assert gated.denied == ["10.0.0.1"] * 4
    assert gated.by_certificate == [False, False, True, True]


def test_the_first_that_is_refused_is_told_at_once_and_as_one() -> None:
    gated = Gated()
    with capture_logs() as lines:
        gated.refusal(mint("virtual key").text)
    assert [(line["event"], line["count"]) for line in lines] == [("keys_refused", 1)]


def test_another_try_with_a_bad_key_is_worth_nothing_however_long_it_waits() -> None:
    gated = Gated()
    told = [gated.refusal(mint("virtual key").text) for _ in range(2 * BURST)]
    last = told[-1]
    assert isinstance(last, TooManyBadKeys)
    assert not last.is_worth_another_try
