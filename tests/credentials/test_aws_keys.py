"""Keys of the configuration under clocks that are off."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import parse
from relay.credentials.aws_keys import WINDOW_S, AwsKeysCredential
from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer, time_of
from relay.credentials.build import build, without_desk
from relay.transport.base import Headers
from tests.credentials.calls import AT_S, call, dated
from tests.fakes.properties import examples

KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "session-token-0123456789")


def credential() -> AwsKeysCredential:
    return AwsKeysCredential(SigV4Signer("bedrock", "us-east-1"), KEYS)


class Service:
    """Refuses what is signed for a time over five minutes from its own."""

    def __init__(self, off_s: float) -> None:
        self.off_s = off_s
        """Its clock is ahead of ours by this."""

    def ask(self, one: AwsKeysCredential, wall_s: float) -> tuple[int, bool]:
        sent = one.headers(call(), wall_s)
        signed_s = time_of(sent)
        assert signed_s is not None
        status = 200 if abs(wall_s + self.off_s - signed_s) < WINDOW_S else 403
        return status, one.answered(status, dated(wall_s + self.off_s), sent, wall_s, wall_s - AT_S)


@examples(100)
@given(off_s=st.floats(-1e6, 1e6), wall_s=st.floats(AT_S, AT_S + 1e6))
def test_a_clock_that_is_off_costs_one_refusal(off_s: float, wall_s: float) -> None:
    one, service = credential(), Service(off_s)
    status, is_worth = service.ask(one, wall_s)
    assert is_worth == (status == 403), "a try that is signed anew"
    assert service.ask(one, wall_s) == (200, False)


@examples(50)
@given(st.lists(st.floats(0.0, 40.0), max_size=60))
def test_a_clock_that_drifts_is_followed_without_a_refusal(steps: list[float]) -> None:
    one, service, wall_s = credential(), Service(0.0), AT_S
    for step in steps:
        service.off_s += step
        wall_s += 10
        assert service.ask(one, wall_s) == (200, False)


def test_a_refusal_for_another_reason_is_not_worth_it() -> None:
    one = credential()
    sent = one.headers(call(), AT_S)
    assert not one.answered(403, dated(AT_S + 3), sent, AT_S + 3, 0.0)
    assert not one.answered(403, [], sent, AT_S, 0.0)


def test_answers_that_come_together_are_each_signed_anew_once() -> None:
    """Two requests were under way: the second learns nothing of the clock, but of what it was
    signed with."""
    one = credential()
    sent = one.headers(call(), AT_S)
    assert one.answered(403, dated(AT_S + 3600), sent, AT_S, 0.0)
    assert one.answered(403, dated(AT_S + 3600), sent, AT_S, 0.0)
    again = one.headers(call(), AT_S)
    assert not one.answered(403, dated(AT_S + 3600), again, AT_S, 0.0)


def test_a_date_that_cannot_be_is_not_followed() -> None:
    """A request was accepted: its time was right, whatever the Date says."""
    one = credential()
    sent = one.headers(call(), AT_S)
    one.answered(200, dated(AT_S + 86_400), sent, AT_S, 0.0)
    assert time_of(one.headers(call(), AT_S)) == AT_S


@pytest.mark.parametrize(
    "date",
    [
        "Fri, 99999999999999 Nov 2026 12:00:00 GMT",
        "Fri, 27 Nov 2026 9999999999999999:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Fri, 01 Jan 0100 00:00:00 GMT",
    ],
)
def test_a_refusal_from_no_time_at_all_shuts_nobody_out(date: str) -> None:
    one = credential()
    for second in range(3):
        sent = one.headers(call(), AT_S + second)
        assert time_of(sent) == AT_S + second
        assert not one.answered(403, [("date", date)], sent, AT_S + second, 0.0)


def test_shows_no_secret() -> None:
    one = credential()
    assert set(one.secrets()) == set(KEYS.values())
    for text in (repr(one), repr(one.describe(0.0)), str(one.describe(0.0))):
        assert not [value for value in KEYS.values() if value in text]


def test_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ID", KEYS.access_key_id)
    monkeypatch.setenv("SECRET", KEYS.secret_access_key)
    row = parse(
        {
            "providers": {
                "p": {
                    "door": "bedrock_mantle",
                    "region": "eu-central-1",
                    "credential": {
                        "kind": "aws_sigv4",
                        "access_key_id": "${ID}",
                        "secret_access_key": "${SECRET}",
                    },
                }
            }
        }
    ).providers["p"]
    for one in (build(row), without_desk(row)):
        sent: Headers = one.headers(call(), AT_S)
        text = dict(sent)["authorization"]
        assert "Credential=AKIDEXAMPLE/20261127/eu-central-1/bedrock-mantle/aws4_request" in text
        assert "x-amz-security-token" not in dict(sent)
