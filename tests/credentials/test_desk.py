"""The desk: renewals beside requests, reloads that fetch nothing anew, secrets that stay in."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.credentials.base import Call, CredentialState, Renewing
from relay.credentials.desk import FAULT_WAIT_S, FIRST_WAIT_S, CredentialDesk
from relay.errors import ConnectError, CredentialUnavailable, TlsFailed
from relay.transport.base import Headers
from tests.credentials.calls import call
from tests.credentials.token_world import (
    ENTRA,
    ENTRA_ROW,
    METADATA,
    SERVICE_ACCOUNT,
    World,
    google_row,
    reply,
    row,
    token_of,
    tokens,
    wall_s,
)
from tests.fakes.canaries import Canaries
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.virtual_time import now_s, on_virtual_time, since_start_s


def running(test: Any) -> Any:
    """Decorator: the test gets a world that is closed behind it."""

    @on_virtual_time
    async def runs() -> None:
        world = World.of({ENTRA: tokens()})
        try:
            await test(world)
        finally:
            await world.aclose()

    def test_() -> None:
        runs()

    test_.__name__ = test.__name__
    return test_


# --- renewal ----------------------------------------------------------------------------------


@running
async def test_starts_with_a_token(world: World) -> None:
    world.transport.set(ENTRA, tokens(delay_s=0.5))
    credential = await world.start(row(ENTRA_ROW))
    assert since_start_s() == 0.5
    assert token_of(credential) == "token-0001"
    assert credential.wait_s(now_s()) == 0


@running
async def test_renewed_before_the_end_for_ever(world: World) -> None:
    credential = await world.start(row(ENTRA_ROW))
    for number in range(2, 6):
        await asyncio.sleep(3300)
        assert token_of(credential) == f"token-{number:04d}"
    gaps_s = [b - a for a, b in itertools.pairwise(world.times_s(ENTRA))]
    assert all(3240 <= gap_s <= 3300 for gap_s in gaps_s), "a tenth of the last minutes at random"
    assert len(set(gaps_s)) == len(gaps_s)


@running
async def test_requests_never_wait_for_a_renewal(world: World) -> None:
    """Tokens of 4 s that take half a second: at no moment is there none, nor one that is over."""
    world.transport.set(ENTRA, tokens(life_s=4, delay_s=0.5))
    credential = await world.start(row(ENTRA_ROW))
    given_s: dict[str, float] = {}
    while since_start_s() < 60:
        token = token_of(credential)
        assert token is not None
        given_s.setdefault(token, since_start_s())
        assert since_start_s() - given_s[token] < 4 - 0.5
        await asyncio.sleep(0.01)
    assert len(given_s) > 20


@running
async def test_the_same_token_again_is_no_error(world: World) -> None:
    """As a metadata server's, until four minutes before its end."""
    same = [reply(access_token="same", expires_in=left) for left in (3600, 300, 270, 240.5)]
    world.transport.set(METADATA, [*same, *tokens()])
    credential = await world.start(row({"kind": "google", "source": "metadata"}))
    await asyncio.sleep(3600)
    times_s = world.times_s(METADATA)
    assert [b - a for a, b in itertools.pairwise(times_s[1:5])] == [30, 30, 30]
    assert token_of(credential) == "token-0001"
    assert credential.describe(now_s()).last_error == ""


@running
async def test_endpoint_down_across_expiry(world: World) -> None:
    down = FakeEndpoint(fault=ConnectError("the provider cannot be reached"), fault_at="connect")
    world.transport.set(ENTRA, [*tokens()[:1], down])
    credential = await world.start(row(ENTRA_ROW))
    await asyncio.sleep(3589)
    assert token_of(credential) == "token-0001", "it serves on"
    assert credential.describe(now_s()).last_error
    await asyncio.sleep(2)
    with pytest.raises(CredentialUnavailable) as raised:
        credential.headers(call(), wall_s())
    told = raised.value.public_message
    # Ten seconds before its end it was used no more: AT_S is noon.
    assert told.startswith("no access token since 12:59:50Z (login.microsoftonline.com: the provi")
    assert "; next try in " in told
    assert raised.value.retry_after_s == credential.wait_s(now_s())
    assert 0 < credential.wait_s(now_s()) <= 60
    world.transport.set(ENTRA, tokens("later"))
    await asyncio.sleep(61)
    assert token_of(credential) == "later-0001"
    gaps_s = [b - a for a, b in itertools.pairwise(world.times_s(ENTRA))]
    assert all(gap_s <= 60 for gap_s in gaps_s[1:])
    assert len(gaps_s) < 40, "and it was left in peace"


@running
async def test_a_credential_that_is_refused_says_so(world: World) -> None:
    quoting = "AADSTS7000215: Invalid client secret provided: entra-client-secret."
    refusal = reply(401, error="invalid_client", error_description=quoting)
    world.transport.set(ENTRA, refusal)
    credential = await world.start(row(ENTRA_ROW))
    assert token_of(credential) is None
    state = credential.describe(now_s())
    assert state.last_error == f"{ENTRA} refused: invalid_client (AADSTS7000215)"
    assert (state.failures, state.refreshes, state.expires_in_s) == (1, 0, None)


@running
async def test_one_that_cannot_be_had_holds_up_nobody(world: World) -> None:
    world.transport.set(METADATA, FakeEndpoint(connect_s=float("inf")))
    bad = row({"kind": "google", "source": "metadata"})
    await world.start(bad, row(ENTRA_ROW))
    assert since_start_s() == FIRST_WAIT_S
    assert token_of(world.desk.of(row(ENTRA_ROW))) is not None


# --- refusals by providers --------------------------------------------------------------------


@running
async def test_a_revoked_token_is_replaced_at_once(world: World) -> None:
    credential = await world.start(row(ENTRA_ROW))
    await asyncio.sleep(100)
    sent = credential.headers(call(), wall_s())
    assert not credential.answered(401, [], sent, wall_s(), now_s()), "there is no other yet"
    await asyncio.sleep(0.1)
    assert token_of(credential) == "token-0002"
    assert world.times_s(ENTRA) == [0, 100]
    assert credential.answered(401, [], sent, wall_s(), now_s()), "there is one now"
    assert len(world.asked(ENTRA)) == 2


@running
async def test_many_refusals_fetch_once_in_half_a_minute(world: World) -> None:
    world.transport.set(ENTRA, tokens(delay_s=0.5))
    credential = await world.start(row(ENTRA_ROW))
    began_s = since_start_s()
    while since_start_s() < began_s + 95:
        sent = credential.headers(call(), wall_s())
        credential.answered(401, [], sent, wall_s(), now_s())
        credential.answered(401, [], sent, wall_s(), now_s())
        await asyncio.sleep(0.25)
    assert [round(at_s - began_s) for at_s in world.times_s(ENTRA)[1:]] == [0, 30, 60, 90]


@running
async def test_other_answers_fetch_nothing(world: World) -> None:
    credential = await world.start(row(ENTRA_ROW))
    sent = credential.headers(call(), wall_s())
    for status in (200, 400, 404, 429, 500):
        assert not credential.answered(status, [], sent, wall_s(), now_s())
    await asyncio.sleep(10)
    assert len(world.asked(ENTRA)) == 1


# --- reloads ----------------------------------------------------------------------------------


@running
async def test_same_configuration_same_object(world: World) -> None:
    credential = await world.start(row(ENTRA_ROW))
    other_model = row(ENTRA_ROW, models=["m"])
    assert world.desk.of(other_model) is credential
    assert not world.desk.lacks(world.named(credential))
    world.desk.retain(world.named(credential))
    await world.desk.fetch(world.named(credential))
    assert len(world.asked(ENTRA)) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"egress_proxy": "http://proxy:1"},
        {"secret": "another-client-secret"},
        {"credential": {**ENTRA_ROW, "scope": "https://ai.azure.com/.default"}},
    ],
)
def test_another_configuration_is_another_object(fields: dict[str, Any]) -> None:
    desk = CredentialDesk()
    before = row(ENTRA_ROW)
    given = {"credential": ENTRA_ROW} | fields
    after = row(given.pop("credential"), **given)
    assert desk.of(after) is not desk.of(before)
    assert desk.of(after) is desk.of(after)


def test_another_file_at_the_same_path_is_another_object(tmp_path: Path) -> None:
    desk = CredentialDesk()
    before = desk.of(google_row(tmp_path, SERVICE_ACCOUNT))
    assert desk.of(google_row(tmp_path, SERVICE_ACCOUNT)) is before
    changed = {**SERVICE_ACCOUNT, "private_key_id": "kid-2"}
    assert desk.of(google_row(tmp_path, changed)) is not before


@running
async def test_rotation_has_the_new_one_before_the_old_one_goes(world: World) -> None:
    world.transport.set(ENTRA, tokens(delay_s=0.5))
    old = await world.start(row(ENTRA_ROW))
    new = world.desk.of(row({**ENTRA_ROW, "client_id": "client-2"}))
    assert world.desk.lacks(world.named(new))
    fetching = asyncio.create_task(world.desk.fetch(world.named(new)))
    await asyncio.sleep(0.4)
    assert token_of(old) == "token-0001"
    assert token_of(new) is None
    await fetching
    assert token_of(new) == "token-0002"
    assert token_of(old) == "token-0001", "streams that have it are not touched"
    world.desk.retain(world.named(new))
    await asyncio.sleep(7000)
    asked_by = [b"client_id=client-2" in one.request.body for one in world.asked(ENTRA)]
    assert asked_by == [False, True, True, True], "the old one is renewed no more"


@running
async def test_what_no_row_has_any_more_is_let_go_while_it_is_fetched(world: World) -> None:
    world.transport.set(ENTRA, FakeEndpoint(headers_s=float("inf")))
    await world.start(row(ENTRA_ROW))
    world.desk.retain({})
    await asyncio.sleep(0.1)
    assert world.transport.attempts[0].aborted_s is not None
    assert not world.desk.lacks({})


@running
async def test_rows_of_one_credential_share_it(world: World) -> None:
    rows = [row(ENTRA_ROW, base_url=f"https://p{number}.test/v1") for number in range(5)]
    first = await world.start(*rows)
    assert all(world.desk.of(each) is first for each in rows)
    assert len(world.asked(ENTRA)) == 1


# --- what must not happen -----------------------------------------------------------------------


class Odd:
    """A credential with a mistake in it."""

    kind = "odd"

    def __init__(self) -> None:
        self.tries = 0

    async def renew(self, ask: Any) -> None:
        self.tries += 1
        raise RuntimeError("secret-of-the-odd-one")

    def due_s(self, now_s: float) -> float:
        return 0.0

    def headers(self, call: Call, wall_s: float) -> Headers:
        return []

    def wait_s(self, now_s: float) -> float:
        return 1.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        return False

    def secrets(self) -> list[str]:
        return []

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(self.kind)


@running
async def test_a_mistake_of_ours_ends_no_renewals(world: World) -> None:
    odd = Odd()
    assert isinstance(odd, Renewing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.credentials.desk.build", lambda _: odd)
        made = world.desk.of(row(ENTRA_ROW))
    with structlog.testing.capture_logs() as logs:
        await world.desk.start(world.transport, world.named(made))
        assert since_start_s() == 0, "nobody waits for it"
        await asyncio.sleep(FAULT_WAIT_S * 3 + 1)
    assert odd.tries == 4
    assert "secret-of" not in str(logs)
    assert logs[0]["error"] == "RuntimeError"


@running
async def test_nothing_secret_in_logs_errors_reprs_and_states(world: World) -> None:
    canaries = Canaries()
    secret = canaries.make("client secret")
    names = [canaries.make(f"token {number}") for number in range(8)]
    refused: dict[str, Any] = {
        "error": f"bad {secret}",
        "error_description": f"AADSTS1: {secret} {names[0]}",
    }
    world.transport.set(
        ENTRA,
        [
            reply(400, **refused),
            reply(500, error=secret),
            reply(200, access_token=f"{names[1]}\r\nx: y", expires_in=9),
            reply(200, nothing=names[2]),
            FakeEndpoint(fault=TlsFailed("no"), fault_at="connect"),
            *(reply(access_token=name, expires_in=600) for name in names),
        ],
    )
    with structlog.testing.capture_logs() as logs:
        config = row(ENTRA_ROW, secret=secret)
        credential = await world.start(config)
        shown: list[object] = [config, credential, world.desk, world.desk._kept]
        for _ in range(300):
            try:
                credential.headers(call(), wall_s())
            except CredentialUnavailable as error:
                shown += [error, error.metadata, error.__cause__, error.__context__]
            shown.append(credential.describe(now_s()))
            await asyncio.sleep(10)
    assert len({entry["event"] for entry in logs}) == 2, "both kinds of line were written"
    for one in [*shown, *logs]:
        canaries.search("shown", f"{one} {one!r}")
    assert not canaries.found
    kept = credential.secrets()
    assert secret in kept
    assert len(kept) == 5, "its own, and the newest four tokens"
    assert world.known == {"credential-1": list(kept)}


@running
async def test_closing_ends_what_is_under_way(world: World) -> None:
    world.transport.set(ENTRA, FakeEndpoint(headers_s=float("inf")))
    made = world.desk.of(row(ENTRA_ROW))
    starting = asyncio.create_task(world.desk.start(world.transport, world.named(made)))
    await asyncio.sleep(1)
    await world.desk.aclose()
    await world.desk.aclose()
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting
    assert not world.transport.unfinished
