"""Keys that a search finds: when it is asked, what serves meanwhile, and botocore's own."""

from __future__ import annotations

import asyncio
import os
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.config import parse
from relay.config.credentials import AwsSigV4Config
from relay.config.providers import ProxyUrl
from relay.credentials import aws_chain
from relay.credentials.ask import Way
from relay.credentials.aws_chain import LOOK_S, AwsChainCredential, BotocoreSearch, Found
from relay.credentials.aws_keys import AwsKeysCredential
from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer, key_of
from relay.credentials.base import Renewing
from relay.credentials.build import Unkept, build, without_desk
from relay.credentials.desk import CredentialDesk
from relay.credentials.schedule import EARLY_S, MARGIN_S, REFUSED_AGAIN_S, SAME_AGAIN_S, SPREAD_S
from relay.errors import CredentialUnavailable
from relay.transport.base import Headers
from tests.credentials.calls import AT_S, call, dated
from tests.fakes.canaries import Canaries
from tests.fakes.memory_transport import MemoryTransport
from tests.fakes.properties import examples

ROW = {
    "providers": {
        "p": {
            "door": "bedrock",
            "region": "us-east-1",
            "credential": {"kind": "aws_sigv4", "source": "chain", "profile": "prod"},
        }
    }
}


def keys(number: int) -> AwsKeys:
    return AwsKeys(f"AKID{number}", f"secret-{number}-0123456789", f"token-{number}-0123456789")


class Searching:
    """A search whose answers are scripted, and the time."""

    def __init__(self, draw: float = 0.5) -> None:
        self.now_s = 1000.0
        self.off_s = 0.0
        """How far this machine's clock is behind."""
        self.next: Found | CredentialUnavailable | None = None
        self.asked: list[bool] = []
        self.one = AwsChainCredential(
            SigV4Signer("bedrock", "us-east-1"),
            self,
            clock=lambda: self.now_s,
            wall=self.wall_s,
            draw=lambda: draw,
        )

    def wall_s(self) -> float:
        return AT_S + self.now_s - 1000.0 - self.off_s

    def __call__(self, *, anew: bool) -> Found:
        self.asked.append(anew)
        if isinstance(self.next, CredentialUnavailable):
            raise self.next
        assert self.next is not None
        return self.next

    def found(self, number: int, life_s: float | None) -> None:
        ends_s = None if life_s is None else AT_S + self.now_s - 1000.0 + life_s
        self.next = Found(keys(number), ends_s)

    async def renew(self) -> None:
        await self.one.renew(None)

    async def fail(self, text: str = "no") -> None:
        self.next = CredentialUnavailable(text)
        with pytest.raises(CredentialUnavailable, match=text):
            await self.renew()

    @property
    def due_s(self) -> float:
        return self.one.due_s(self.now_s)

    def headers(self) -> Headers:
        return self.one.headers(call(), self.wall_s())

    def refused(self, sent: Headers, status: int = 403) -> bool:
        date = dated(self.wall_s() + self.off_s)
        return self.one.answered(status, date, sent, self.wall_s(), self.now_s)


async def test_nothing_is_sent_before_the_first_search() -> None:
    it = Searching()
    assert isinstance(it.one, Renewing)
    assert it.due_s == 0.0
    assert it.one.wait_s(it.now_s) > 0.0
    with pytest.raises(CredentialUnavailable, match="no AWS keys"):
        it.headers()
    it.found(1, None)
    await it.renew()
    assert key_of(it.headers()) == "AKID1"
    assert it.one.wait_s(it.now_s) == 0.0


@examples(100)
@given(life_s=st.floats(1.0, 1e6), draw=st.floats(0.0, 0.999))
def test_looked_for_ahead_of_their_end(life_s: float, draw: float) -> None:
    it = Searching(draw)
    it.found(1, life_s)
    asyncio.run(it.renew())
    ahead_s = life_s - it.due_s
    latest_s = min(EARLY_S, life_s / 2)
    if life_s > 5:
        assert latest_s <= ahead_s + 1e-3
        assert ahead_s <= latest_s + min(SPREAD_S, life_s / 10) + 1e-3
    assert it.due_s >= 0.2


async def test_keys_that_do_not_end_are_looked_for_hourly() -> None:
    it = Searching()
    it.found(1, None)
    await it.renew()
    assert 0.8 * LOOK_S < it.due_s <= LOOK_S
    it.now_s += 1e6
    assert it.one.wait_s(it.now_s) == 0.0


async def test_the_old_keys_serve_until_ten_seconds_before_their_end() -> None:
    it = Searching()
    it.found(1, 3600)
    await it.renew()
    it.now_s += it.due_s
    await it.fail()
    assert key_of(it.headers()) == "AKID1"
    assert it.one.describe(it.now_s).last_error == "no"
    it.now_s = 1000 + 3600 - MARGIN_S - 0.1
    assert key_of(it.headers()) == "AKID1"
    it.now_s += 0.2
    with pytest.raises(CredentialUnavailable, match=r"no AWS keys \(no\); next try in \d+ s") as e:
        it.headers()
    assert e.value.retry_after_s is not None
    assert it.one.wait_s(it.now_s) > 0.0


async def test_backs_off_to_a_minute() -> None:
    it = Searching(draw=0.999)
    waits = []
    for _ in range(9):
        await it.fail()
        waits.append(round(it.due_s))
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    it.found(1, None)
    await it.renew()
    await it.fail()
    assert round(it.due_s) == 1


async def test_the_same_keys_again_are_asked_for_in_half_a_minute() -> None:
    it = Searching()
    it.found(1, 600)
    await it.renew()
    it.now_s += 580
    found, it.next = it.next, Found(keys(1), AT_S + 600)
    assert found == it.next
    await it.renew()
    assert 1.0 < it.due_s <= SAME_AGAIN_S


async def test_keys_that_have_ended_are_none() -> None:
    it = Searching()
    it.found(1, 3600)
    await it.renew()
    it.found(2, -1.0)
    with pytest.raises(CredentialUnavailable, match="have ended"):
        await it.renew()
    assert key_of(it.headers()) == "AKID1"
    assert it.due_s > 0.0


async def test_a_failed_look_for_keys_that_do_not_end_is_not_made_again_at_once() -> None:
    it = Searching()
    it.found(1, None)
    await it.renew()
    it.now_s += LOOK_S
    assert it.due_s == 0.0
    await it.fail()
    assert it.due_s > 0.0
    assert key_of(it.headers()) == "AKID1"


async def test_steps_of_this_clock_change_nothing_of_when() -> None:
    it = Searching()
    it.found(1, 3600)
    await it.renew()
    due_s = it.due_s
    it.off_s = -7200.0
    assert it.due_s == due_s
    assert key_of(it.headers()) == "AKID1"


async def test_a_clock_that_is_off_is_reckoned_with() -> None:
    """The service's Date tells; then the end of keys is told by its clock."""
    it = Searching()
    it.off_s = 3000.0
    it.found(1, None)
    await it.renew()
    assert it.refused(it.headers()), "signed anew"
    assert it.asked == [False], "the keys were not at fault"
    it.found(2, 3600)
    await it.renew()
    state = it.one.describe(it.now_s)
    assert state.expires_in_s == pytest.approx(3600, abs=1)


async def test_a_refusal_asks_for_a_search_anew_at_most_every_half_minute() -> None:
    it = Searching()
    woken: list[float] = []
    it.one.on_due = lambda: woken.append(it.now_s)
    it.found(1, 3600)
    await it.renew()
    sent = it.headers()
    assert not it.refused(sent), "nothing is there to try with yet"
    assert it.due_s == 0.0
    assert woken == [1000.0]
    await it.renew()
    assert it.asked == [False, True]
    assert not it.refused(sent)
    assert it.due_s > 0.0
    assert woken == [1000.0]
    it.now_s += REFUSED_AGAIN_S
    assert not it.refused(sent)
    it.found(2, 3600)
    await it.renew()
    assert it.refused(sent), "there are other keys by now"
    assert not it.refused(sent, 200)


async def test_what_is_no_refusal_of_keys_asks_for_nothing() -> None:
    it = Searching()
    it.found(1, 3600)
    await it.renew()
    for status in (200, 400, 429):
        assert not it.refused(it.headers(), status)
    assert it.due_s > 0.0


async def test_secrets_are_those_that_were_valid_lately() -> None:
    it = Searching()
    for number in range(6):
        it.found(number, 3600)
        await it.renew()
        await it.renew()
    wanted = [value for number in (2, 3, 4, 5) for value in keys(number).values()]
    assert it.one.secrets() == wanted
    texts = f"{it.one!r} {it.one.describe(0.0)!r}"
    assert not [value for value in wanted if value in texts]


# --- the thread -----------------------------------------------------------------------------


class Slow:
    """A search that hangs until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.ended = threading.Event()

    def __call__(self, *, anew: bool) -> Found:
        self.began.set()
        self.go.wait(10)
        self.ended.set()
        return Found(keys(1), None)


@pytest.fixture
def slow() -> Iterator[Slow]:
    one = Slow()
    yield one
    one.go.set()
    assert one.ended.wait(10) or not one.began.is_set()


async def test_the_loop_runs_on_meanwhile(slow: Slow) -> None:
    one = AwsChainCredential(SigV4Signer("bedrock", "r"), slow)
    renewing = asyncio.create_task(one.renew(None))
    await asyncio.to_thread(slow.began.wait, 10)
    for _ in range(10):
        await asyncio.sleep(0)
    assert not renewing.done()
    slow.go.set()
    await renewing
    assert key_of(one.headers(call(), AT_S)) == "AKID1"


async def test_cancelled_it_leaves_nothing_and_a_second_search_waits_its_turn(slow: Slow) -> None:
    one = AwsChainCredential(SigV4Signer("bedrock", "r"), slow)
    renewing = asyncio.create_task(one.renew(None))
    await asyncio.to_thread(slow.began.wait, 10)
    renewing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await renewing
    with pytest.raises(CredentialUnavailable, match="still under way"):
        await one.renew(None)
    slow.go.set()
    await asyncio.to_thread(slow.ended.wait, 10)
    await asyncio.sleep(0.01)
    assert one.wait_s(time.monotonic()) > 0.0, "what it found is not taken"


async def test_too_slow_is_a_failure(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_chain, "SEARCH_S", 0.01)
    one = AwsChainCredential(SigV4Signer("bedrock", "r"), slow)
    with pytest.raises(CredentialUnavailable, match="longer than"):
        await one.renew(None)
    assert "longer than" in one.describe(0.0).last_error


def test_a_loop_that_is_gone_is_no_error(slow: Slow) -> None:
    one = AwsChainCredential(SigV4Signer("bedrock", "r"), slow)

    async def main() -> None:
        renewing = asyncio.create_task(one.renew(None))
        await asyncio.to_thread(slow.began.wait, 10)
        renewing.cancel()
        await asyncio.wait([renewing])

    asyncio.run(main())
    slow.go.set()
    for thread in threading.enumerate():
        if thread.name == "aws-credentials":
            thread.join(10)
            assert not thread.is_alive()


# --- botocore -------------------------------------------------------------------------------


@pytest.fixture
def canaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canaries:
    """No keys but those that a test puts there."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    return Canaries()


def test_of_the_environment(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret := canaries.make("secret"))
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    found = BotocoreSearch(None)(anew=False)
    assert found == Found(AwsKeys("AKIDENV", secret, "token"), None)


@pytest.mark.parametrize(
    "name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
)
def test_what_no_header_may_carry_is_no_key(
    canaries: Canaries, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(each, "AKIDENV")
    monkeypatch.setenv(name, f"{canaries.make('odd')}\r\nx-a: 1")
    with pytest.raises(CredentialUnavailable, match="that no header may carry") as caught:
        BotocoreSearch(None)(anew=False)
    assert "canary" not in str(caught.value).lower()


def test_of_a_profile_whose_file_is_written_anew(canaries: Canaries, tmp_path: Path) -> None:
    path, search = tmp_path / "credentials", BotocoreSearch("prod")
    for name in ("one", "two"):
        path.write_text(
            f"[prod]\naws_access_key_id = AKID{name}\naws_secret_access_key = s-{name}\n"
        )
        assert search(anew=False).keys == AwsKeys(f"AKID{name}", f"s-{name}")


def _process(tmp_path: Path, script: str) -> BotocoreSearch:
    program = tmp_path / "give.py"
    program.write_text(script)
    (tmp_path / "config").write_text(
        f"[profile prod]\ncredential_process = {sys.executable} {program}\n"
    )
    return BotocoreSearch("prod")


def test_of_a_process_with_an_end(canaries: Canaries, tmp_path: Path) -> None:
    secret = canaries.make("secret")
    search = _process(
        tmp_path,
        "import json; print(json.dumps({'Version': 1, 'AccessKeyId': 'AKIDP', 'SecretAccessKey':"
        f" {secret!r}, 'SessionToken': 't', 'Expiration': '2099-01-01T00:00:00Z'}}))",
    )
    found = search(anew=False)
    assert found.keys == AwsKeys("AKIDP", secret, "t")
    assert found.expires_at_s == 4070908800.0
    assert search(anew=False) == found


def test_botocore_still_has_the_end_where_it_is_looked_for() -> None:
    one = botocore.credentials.RefreshableCredentials.create_from_metadata(
        {"access_key": "a", "secret_key": "b", "token": "c", "expiry_time": "2099-01-01T00:00:00Z"},
        refresh_using=dict,
        method="x",
    )
    assert one._expiry_time.timestamp() == 4070908800.0
    assert hasattr(one, "refresh_needed")


def test_errors_tell_who_and_no_secret(
    canaries: Canaries, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    canary = canaries.make("what a process says")
    search = _process(tmp_path, f"import sys; sys.stderr.write({canary!r}); sys.exit(3)")
    with pytest.raises(CredentialUnavailable) as caught:
        search(anew=False)
    assert str(caught.value) == "botocore: CredentialRetrievalError (custom-process)"
    canaries.search("the error", repr(caught.value) + str(caught.value.metadata))
    canaries.search("botocore's log", caplog.text)
    assert caught.value.__suppress_context__
    assert not canaries.found


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("", "botocore: ProfileNotFound"),
        ("[profile prod]\nregion = x\n", "the search found no AWS keys of profile prod"),
        ("[profile prod\n", "botocore: ConfigParseError"),
        (
            "[profile prod]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = none\n",
            "botocore: InvalidConfigError",
        ),
    ],
)
def test_what_is_missing_is_told(
    canaries: Canaries, tmp_path: Path, config: str, text: str
) -> None:
    (tmp_path / "config").write_text(config)
    with pytest.raises(CredentialUnavailable) as caught:
        BotocoreSearch("prod")(anew=False)
    assert str(caught.value) == text


class Proxy(socketserver.StreamRequestHandler):
    """Refuses everybody, and keeps what it was asked."""

    def handle(self) -> None:
        lines = list(iter(lambda: self.rfile.readline().decode().strip(), ""))
        self.server.asked += lines  # type: ignore[attr-defined]
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")


def test_services_are_asked_through_the_row_s_proxy(canaries: Canaries, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(
        "[base]\naws_access_key_id = AKID\naws_secret_access_key = s\n"
    )
    (tmp_path / "config").write_text(
        "[profile prod]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = base\n"
    )
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy) as server:
        server.asked = []  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        secret = canaries.make("the proxy's password")
        url = ProxyUrl(f"http://me:{secret}@127.0.0.1:{server.server_address[1]}")
        with pytest.raises(CredentialUnavailable) as caught:
            BotocoreSearch("prod", Way(url), "eu-west-3")(anew=False)
        server.shutdown()
        asked: list[str] = server.asked  # type: ignore[attr-defined]
    assert asked[0].startswith("CONNECT sts.eu-west-3.amazonaws.com:443 ")
    assert any(line.lower().startswith("proxy-authorization: basic ") for line in asked)
    assert str(caught.value) == "botocore: ProxyConnectionError"
    canaries.search("the error", repr(caught.value))
    assert not canaries.found


def test_roots_and_region_of_the_row(
    canaries: Canaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = BotocoreSearch(None, Way(None, "corp.pem"), "eu-west-3")
    session = search._session()
    assert session.get_config_variable("ca_bundle") == "corp.pem"
    assert session.get_config_variable("region") == "eu-west-3"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    assert search._session().get_config_variable("region") == "us-east-2", "the operator's own word"


async def test_kept_by_the_desk(canaries: Canaries, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found at the start; after a refusal looked for at once, and the next try has the new keys."""
    told: list[str] = []
    desk = CredentialDesk(lambda _, values: told.extend(values))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDONE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", first := canaries.make("first"))
    row = parse(ROW).providers["p"]
    assert isinstance(row.credential, AwsSigV4Config)
    row = row.model_copy(update={"credential": row.credential.model_copy(update={"profile": None})})
    one = desk.of(row)
    with capture_logs() as logs:
        await desk.start(MemoryTransport({}), {"p": one})
        try:
            sent = one.headers(call(), AT_S)
            assert key_of(sent) == "AKIDONE"
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTWO")
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", second := canaries.make("second"))
            assert not one.answered(403, [], sent, AT_S, time.monotonic())
            async with asyncio.timeout(10):
                while key_of(one.headers(call(), AT_S)) == "AKIDONE":
                    await asyncio.sleep(0.005)
            assert one.answered(403, [], sent, AT_S, time.monotonic())
        finally:
            await desk.aclose()
    assert {"AKIDONE", "AKIDTWO", first, second} <= set(told)
    canaries.search("logs", str(logs))
    assert not canaries.found
    assert [line["source"] for line in logs if line["event"] == "credential_renewed"] == [
        "chain",
        "chain",
    ]


# --- the configuration ----------------------------------------------------------------------


def test_built_of_a_row_without_importing_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    row = parse(ROW).providers["p"]
    assert isinstance(build(row), AwsChainCredential)
    assert isinstance(without_desk(row), Unkept)
    assert not isinstance(AwsKeysCredential(SigV4Signer("s", "r"), keys(1)), Renewing)


def test_without_the_extra_it_is_a_fault_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> None:
        assert name == "botocore"

    monkeypatch.setattr("importlib.util.find_spec", missing)
    with pytest.raises(ValueError, match=r"credential: source: chain needs the extra `aws`"):
        build(parse(ROW).providers["p"])
