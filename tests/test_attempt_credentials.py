"""Credentials on the way of a request: what is signed, refused, tried once more, and never shown;
and that nothing leaves its data zones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import orjson
import pytest
from structlog.testing import capture_logs

from relay.content import Policy
from relay.credentials.aws_sigv4 import time_of
from relay.credentials.base import Call, CredentialState
from relay.errors import (
    AllAttemptsFailed,
    CredentialUnavailable,
    OutsideZones,
    Reason,
    RelayError,
    Retry,
    UpstreamStatus,
)
from relay.outcome import AttemptOutcome, AttemptRole, GenerationEnd
from relay.transport.base import Headers
from tests.credentials.calls import dated
from tests.fakes.canaries import Canaries
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time

HELLO: Final = FakeEndpoint(chunks=answer("Hello"))
SSE: Final = ("content-type", "text/event-stream")


def refusal(
    status: int = 401,
    code: str = "invalid_api_key",
    *,
    said: str = "no",
    headers: Headers = [],  # noqa: B006
) -> FakeEndpoint:
    body = orjson.dumps({"error": {"message": said, "type": code, "code": code}})
    return FakeEndpoint(status=status, headers=[*headers], chunks=[(0.0, body)])


class Tokens:
    """A credential of one token at a time, whose next one comes when it is told to."""

    kind: ClassVar[str] = "fake"

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)
        self.renews_at_once = True
        self.told: list[tuple[int, str]] = []
        self.sessions: list[str] = []
        self.out_s = 0.0

    def headers(self, call: Call, wall_s: float) -> Headers:
        if self.out_s or not self.tokens:
            raise CredentialUnavailable("no access token (timeout)", retry_after_s=self.out_s)
        self.sessions.append(call.session)
        return [("authorization", f"Bearer {self.tokens[0]}")]

    def wait_s(self, now_s: float) -> float:
        return self.out_s

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        ((_, value),) = sent
        self.told.append((status, value))
        if status < 400:
            return False
        if self.renews_at_once and len(self.tokens) > 1 and value.endswith(self.tokens[0]):
            del self.tokens[0]
        return not value.endswith(self.tokens[0])

    def secrets(self) -> Sequence[str]:
        return self.tokens[:1]

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(self.kind)


def scene(
    rows: Mapping[str, FakeEndpoint | Sequence[FakeEndpoint]],
    credential: Tokens | None = None,
    **more: Any,
) -> Scenario:
    """The first of these has the credential."""
    scenario = Scenario(rows, **more)
    if credential is not None:
        endpoint = scenario.services.catalog.endpoints[next(iter(rows))]
        object.__setattr__(endpoint, "credential", credential)
    return scenario


def keys_sent(scenario: Scenario, name: str = "a") -> list[str]:
    """Credentials of each request, oldest first."""
    return [
        dict(attempt.request.headers).get("authorization", "")
        for attempt in scenario.transport.to(f"{name}.test")
    ]


def roles(end: GenerationEnd) -> list[AttemptRole]:
    return [record.role for record in end.attempts]


# --- once more, free ------------------------------------------------------------------------


@on_virtual_time
@pytest.mark.parametrize("hedges", [False, True])
async def test_a_newer_token_is_tried_at_once_and_free(hedges: bool) -> None:
    more = {"hedge": {"mode": "active", "delay": 3000}} if hedges else {}
    tokens = Tokens("old-token", "new-token")
    scenario = scene({"a": [refusal(), HELLO], "b": HELLO}, tokens, alias_more=more)
    _, end = await scenario.generate()
    assert end.error is None
    assert keys_sent(scenario) == ["Bearer old-token", "Bearer new-token"]
    assert scenario.transport.to("b.test") == []
    assert roles(end) == [AttemptRole.PRIMARY, AttemptRole.RETRY]
    assert tokens.told == [(401, "Bearer old-token"), (200, "Bearer new-token")]
    assert end.attempts[0].is_free
    states = scenario.services.planner.states
    a = states.known("a/m")
    assert a is not None
    assert a.breaker.admits(0.0)
    assert a.limiter.in_flight == 0
    await scenario.settled()
    scenario.check()


@on_virtual_time
@pytest.mark.parametrize("hedges", [False, True])
async def test_there_is_no_second_try_at_the_same_target(hedges: bool) -> None:
    more = {"hedge": {"mode": "active", "delay": 3000}} if hedges else {}
    tokens = Tokens("one-token", "two-token", "three-token")
    scenario = scene({"a": refusal(), "b": HELLO}, tokens, alias_more=more)
    _, end = await scenario.generate()
    assert keys_sent(scenario) == ["Bearer one-token", "Bearer two-token"]
    assert roles(end) == [AttemptRole.PRIMARY, AttemptRole.RETRY, AttemptRole.FAILOVER]
    assert end.error is None
    assert end.attempts[1].error is not None
    assert end.attempts[1].error.retry is Retry.BEFORE_COMMIT
    await scenario.settled()
    scenario.check()


@on_virtual_time
async def test_the_same_token_is_not_tried_again() -> None:
    scenario = scene({"a": refusal(), "b": HELLO}, Tokens("only-token"))
    _, end = await scenario.generate()
    assert keys_sent(scenario) == ["Bearer only-token"]
    assert roles(end) == [AttemptRole.PRIMARY, AttemptRole.FAILOVER]
    await scenario.settled()


@on_virtual_time
@pytest.mark.parametrize(
    ("endpoint", "is_told"),
    [
        (refusal(401), True),
        (refusal(403, "invalid_api_key"), True),
        (refusal(400, "invalid_api_key"), True),
        (refusal(429, "insufficient_quota"), True),
        (refusal(403, "x", headers=[("x-amzn-errortype", "InvalidSignatureException:http://x")]),
         True),
        (refusal(403, "x", headers=[("x-amzn-errortype", "AccessDeniedException")]), False),
        (refusal(403, "model_not_allowed"), False),
        (refusal(429, "rate_limit_exceeded"), False),
        (refusal(400, "invalid_request_error"), False),
        (refusal(500, "server_error"), False),
        (refusal(405, "x"), False),
        (FakeEndpoint(chunks=[(0.0, b'data: {"error": {"message": "no", "code":'
                                    b' "invalid_api_key"}}\n\n')]), False),
    ],
)  # fmt: skip
async def test_what_a_credential_is_told_of(endpoint: FakeEndpoint, is_told: bool) -> None:
    tokens = Tokens("old-token", "new-token")
    scenario = scene({"a": [endpoint, HELLO], "b": HELLO}, tokens)
    await scenario.generate()
    refused = [status for status, _ in tokens.told if status >= 400]
    assert refused == ([endpoint.status] if is_told else [])
    assert len(keys_sent(scenario)) == (2 if is_told else 1)
    await scenario.settled()


@on_virtual_time
async def test_a_token_that_another_request_renewed_meanwhile() -> None:
    """Two requests of the old token are under way; both are tried with the new one."""
    slow = replace(refusal(), headers_s=1.0)
    tokens = Tokens("old-token", "new-token")
    scenario = scene({"a": [slow, slow, HELLO, HELLO]}, tokens)
    ends = await asyncio.gather(scenario.generate(), scenario.generate(generation_id="gen_2"))
    assert [end.error for _, end in ends] == [None, None]
    assert keys_sent(scenario) == ["Bearer old-token"] * 2 + ["Bearer new-token"] * 2
    await scenario.settled()


# --- several keys ---------------------------------------------------------------------------


def two_keys(monkeypatch: pytest.MonkeyPatch, **more: Any) -> dict[str, Any]:
    monkeypatch.setenv("KEY_1", "sk-first-0123456789")
    monkeypatch.setenv("KEY_2", "sk-second-0123456789")
    return {"a": {"auth": "bearer", "api_keys": ["${KEY_1}", "${KEY_2}"], **more}}


@pytest.mark.parametrize("refused", [refusal(401), refusal(429, "insufficient_quota")])
def test_the_next_key_of_a_row(refused: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": [refused, HELLO]}, rows_more=two_keys(monkeypatch))
        for number in range(3):
            _, end = await scenario.generate(generation_id=f"gen_{number}")
            assert end.error is None
        first, second = "Bearer sk-first-0123456789", "Bearer sk-second-0123456789"
        assert keys_sent(scenario) == [first, second, second, second]
        await scenario.settled()

    check()


def test_sessions_keep_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    @on_virtual_time
    async def check() -> None:
        scenario = Scenario({"a": HELLO}, rows_more=two_keys(monkeypatch, spread_keys=True))
        for number in range(20):
            wanted = request(policy=Policy(session_id=f"session-{number % 10}"))
            await scenario.generate(wanted, generation_id=f"gen_{number}")
        sent = keys_sent(scenario)
        assert sent[:10] == sent[10:]
        assert len(set(sent)) == 2
        await scenario.settled()

    check()


# --- signatures under a clock that is off ---------------------------------------------------


@pytest.mark.parametrize("off_s", [3600.0, -3600.0])
def test_signed_anew_by_the_clock_of_the_service(
    off_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ID", "AKIDEXAMPLE")
    monkeypatch.setenv("SECRET", "aws-secret-0123456789")
    keys = {"kind": "aws_sigv4", "access_key_id": "${ID}", "secret_access_key": "${SECRET}"}

    @on_virtual_time
    async def check() -> None:
        date = dated(time.time() + off_s)
        kind = ("x-amzn-errortype", "InvalidSignatureException")
        refused = refusal(403, "x", said="Signature expired", headers=[*date, kind])
        well = FakeEndpoint(headers=[SSE, *date], chunks=answer("Hello"))
        scenario = Scenario(
            {"a": [refused, well]}, rows_more={"a": {"region": "us-east-1", "credential": keys}}
        )
        for number in range(2):
            _, end = await scenario.generate(generation_id=f"gen_{number}")
            assert end.error is None
        sent_s = [time_of(a.request.headers) for a in scenario.transport.to("a.test")]
        assert len(sent_s) == 3, "one refusal, and no more"
        off = [round(((at_s or 0.0) - time.time() - off_s) / 60) for at_s in sent_s]
        assert off == [round(-off_s / 60), 0, 0]
        await scenario.settled()

    check()


# --- none at all ----------------------------------------------------------------------------


@on_virtual_time
async def test_without_a_token_nothing_is_sent_and_nothing_is_learnt() -> None:
    tokens = Tokens("a-token")
    tokens.out_s = 14.0
    scenario = scene({"a": HELLO}, tokens)
    for number in range(20):
        _, end = await scenario.generate(generation_id=f"gen_{number}")
        assert isinstance(end.error, RelayError)
        assert end.error.reason is Reason.UPSTREAM_MISCONFIGURED
        assert "providers.a: no access token (timeout)" in end.error.public_message
        assert end.error.retry_after_s == 14.0
        (record,) = end.attempts
        assert record.is_free
    assert scenario.transport.attempts == []
    state = scenario.services.planner.states.known("a/m")
    assert state is not None
    assert state.wait_s(0.0) == 14.0
    assert state.limiter.in_flight == 0
    tokens.out_s = 0.0
    assert state.wait_s(0.0) == 0.0, "its breaker is as it was"
    _, end = await scenario.generate()
    assert end.error is None
    await scenario.settled()


@on_virtual_time
async def test_one_that_ends_between_asking_and_signing_gives_its_place_back() -> None:
    tokens = Tokens()
    scenario = scene({"a": HELLO}, tokens)
    for _ in range(20):
        attempt = scenario.attempt()
        with pytest.raises(CredentialUnavailable):
            await attempt.run_until_ready()
        assert attempt.record.outcome is AttemptOutcome.FAILURE
    state = scenario.services.planner.states.known("a/m")
    assert state is not None
    assert state.limiter.in_flight == 0
    assert state.wait_s(0.0) == 0.0
    assert scenario.transport.attempts == []


@on_virtual_time
@pytest.mark.parametrize("mode", ["ordered", "balanced"])
async def test_a_target_without_a_token_is_asked_last(mode: str) -> None:
    tokens = Tokens("a-token")
    tokens.out_s = 5.0
    scenario = scene({"a": HELLO, "b": HELLO}, tokens, alias_more={"choose": {"mode": mode}})
    for number in range(10):
        _, end = await scenario.generate(generation_id=f"gen_{number}")
        assert end.error is None
        assert [record.provider for record in end.attempts] == ["b"]
    await scenario.settled()


# --- what is seen of them -------------------------------------------------------------------


def test_nothing_that_was_sent_is_seen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Providers that tell everything they were sent, to a row of keys, of signatures, of tokens
    that are other ones by the time of the answer."""
    canaries = Canaries()
    for name in ("KEY_1", "KEY_2", "ID", "SECRET", "TOKEN"):
        monkeypatch.setenv(name, canaries.make(name))
    signing = {
        "kind": "aws_sigv4",
        "access_key_id": "${ID}",
        "secret_access_key": "${SECRET}",
        "session_token": "${TOKEN}",
    }
    rows_more = {
        "keys": {"auth": "x-api-key", "api_keys": ["${KEY_1}", "${KEY_2}"]},
        "aws": {"region": "r", "credential": signing},
    }

    @on_virtual_time
    async def check() -> None:
        rows = {"tokens": HELLO, "keys": HELLO, "aws": HELLO}
        tokens = Tokens(*(canaries.make(f"token {number}") for number in range(9)))
        scenario = scene(rows, tokens, rows_more=rows_more)
        seen: list[str] = []
        with capture_logs() as logs:
            for name in rows:
                host = f"{name}.test"
                for status in (401, 403, 400, 500, 200):
                    # What is sent is known once it was sent, so it is asked twice.
                    scenario.transport.set(host, HELLO)
                    for _ in range(2):
                        attempt = _attempt(scenario, name)
                        try:
                            await attempt.run_until_ready()
                            while await attempt.read():
                                pass
                        except UpstreamStatus as error:
                            seen += [repr(error), str(error), error.public_message]
                            seen += [str(error.metadata), error.provider_code, error.provider_type]
                        seen.append(repr(attempt.record))
                        sent = scenario.transport.to(host)[-1].request.headers
                        signature = dict(sent).get("authorization", "").rpartition("Signature=")[2]
                        if name == "aws":
                            canaries.add("signature", signature)
                        scenario.transport.set(host, _telling(status, sent))
            for endpoint in scenario.services.catalog.endpoints.values():
                credential = endpoint.credential
                seen += [repr(endpoint), repr(credential), repr(credential.describe(0.0))]
        seen += [str(logs)]
        seen += [str(s.describe(0.0)) for _, s in scenario.services.planner.states.items()]
        for text in seen:
            canaries.search("what was seen", text)
        assert not canaries.found, canaries.found[:5]
        assert any("***" in text for text in seen)
        await scenario.settled()

    check()


def _attempt(scenario: Scenario, name: str) -> Any:
    (step,) = [s for s in scenario.plan().attempts if s.target.endpoint.provider == name]
    return scenario.start(step)


def _telling(status: int, sent: Headers) -> FakeEndpoint:
    text = f"refused: {sent}"
    error = {"message": text, "code": text[:200], "type": sent[-1][1]}
    body = orjson.dumps({"error": error})
    if status == 200:
        return FakeEndpoint(chunks=[(0.0, b"data: " + body + b"\n\n")])
    return FakeEndpoint(status=status, headers=[], chunks=[(0.0, body)])


# --- data zones -----------------------------------------------------------------------------

ZONES: Final = {"a": {"data_zone": "us"}, "b": {"data_zone": "eu"}, "c": {}}


def within(*zones: str) -> Any:
    return request(policy=Policy(zones=frozenset(zones)))


@on_virtual_time
@pytest.mark.parametrize(("name", "step"), [("a", 0), ("c", 2)])
async def test_what_would_leave_its_zones_is_never_sent(name: str, step: int) -> None:
    """Whoever planned it: here nobody has looked at zones before."""
    scenario = Scenario({"a": HELLO, "b": HELLO, "c": HELLO}, rows_more=ZONES)
    target = scenario.plan().attempts[step]
    assert target.target.endpoint.provider == name
    attempt = scenario.start(target, within("eu"))
    with capture_logs() as logs, pytest.raises(OutsideZones) as caught:
        await attempt.run_until_ready()
    assert caught.value.reason is Reason.INTERNAL
    assert scenario.transport.attempts == []
    (line,) = [line for line in logs if line["event"] == "target_outside_zones"]
    assert (line["provider"], line["zones"], line["log_level"]) == (name, ["eu"], "error")
    state = scenario.services.planner.states.known(f"{name}/m")
    assert state is not None
    assert state.outside_zones == 1
    assert state.describe(0.0)["outside_zones"] == 1
    assert state.limiter.in_flight == 0


@on_virtual_time
async def test_what_is_in_them_goes_out() -> None:
    scenario = Scenario({"a": HELLO, "b": HELLO, "c": HELLO}, rows_more=ZONES)
    for step in scenario.plan().attempts:
        zone = step.target.zone
        attempt = scenario.start(step, within("eu", zone) if zone else request())
        await attempt.run_until_ready()
        attempt.abort()
    assert len(scenario.transport.attempts) == 3
    await scenario.settled()


@on_virtual_time
async def test_those_inside_are_still_asked() -> None:
    scenario = Scenario({"a": HELLO, "b": HELLO}, rows_more={"a": {}, "b": ZONES["b"]})
    _, end = await scenario.generate(within("eu"))
    assert end.error is None
    assert scenario.transport.to("a.test") == []


@on_virtual_time
async def test_where_all_are_outside_it_is_told_as_a_bug() -> None:
    scenario = Scenario({"a": HELLO, "c": HELLO}, rows_more={"a": ZONES["a"]})
    _, end = await scenario.generate(within("eu"))
    assert isinstance(end.error, AllAttemptsFailed)
    assert end.error.reason is Reason.INTERNAL
    assert scenario.transport.attempts == []
