"""google-auth in a thread, over the relay's transport."""

from __future__ import annotations

import asyncio
import builtins
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from relay.credentials.ask import Ask
from relay.credentials.build import build
from relay.credentials.google_library import LibraryCredential
from relay.errors import ConnectError, CredentialUnavailable
from tests.credentials.calls import call
from tests.credentials.token_world import GOOGLE, SERVICE_ACCOUNT, form, reply, row, tokens
from tests.fakes.memory_transport import FakeEndpoint, MemoryTransport

# The file is the operator's own, which is what the warning asks to be sure of.
pytestmark = pytest.mark.filterwarnings("ignore:The load_credentials_from_file:DeprecationWarning")

IMPERSONATED = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": (
        "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
        "target@p.iam.gserviceaccount.com:generateAccessToken"
    ),
    "source_credentials": SERVICE_ACCOUNT,
    "delegates": [],
}


def made_of(tmp_path: Path, told: dict[str, Any]) -> LibraryCredential:
    (tmp_path / "key.json").write_bytes(orjson.dumps(told))
    config = {"kind": "google", "source": "library", "file": "key.json"}
    made = build(row(config, folder=tmp_path))
    assert isinstance(made, LibraryCredential)
    return made


async def test_what_ours_do_not_do(tmp_path: Path) -> None:
    """Impersonation: one token for another, asked with the first."""
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1800))
    second = reply(accessToken="impersonated", expireTime=expires)
    transport = MemoryTransport({GOOGLE: tokens(), "iamcredentials.googleapis.com": second})
    made = made_of(tmp_path, IMPERSONATED)
    await made.renew(Ask(transport))
    headers = dict(made.headers(call(), time.time()))
    assert headers["authorization"] == "Bearer impersonated"
    asked = transport.to("iamcredentials.googleapis.com")[0].request
    assert ("authorization", "Bearer token-0001") in asked.headers
    assert made.describe(time.monotonic()).expires_in_s == pytest.approx(1800, abs=5)
    assert form(transport.to(GOOGLE)[0].request)["assertion"].count(".") == 2
    await made.renew(Ask(transport))
    assert made.describe(time.monotonic()).refreshes == 2
    await transport.aclose()


async def test_a_failure_tells_no_answer(tmp_path: Path) -> None:
    quoting = reply(400, error="invalid_grant", error_description="the-assertion-that-was-sent")
    transport = MemoryTransport({GOOGLE: quoting})
    made = made_of(tmp_path, SERVICE_ACCOUNT)
    with pytest.raises(CredentialUnavailable) as raised:
        await made.renew(Ask(transport))
    assert raised.value.public_message == f"google-auth: {GOOGLE} answered 400"
    transport.set(
        GOOGLE,
        FakeEndpoint(fault=ConnectError("the provider cannot be reached"), fault_at="connect"),
    )
    with pytest.raises(
        CredentialUnavailable, match=r"google-auth: oauth2\.googleapis\.com: the prov"
    ):
        await made.renew(Ask(transport))
    await transport.aclose()


async def test_cancelled_the_thread_ends_soon(tmp_path: Path) -> None:
    transport = MemoryTransport({GOOGLE: FakeEndpoint(headers_s=float("inf"))})
    made = made_of(tmp_path, SERVICE_ACCOUNT)
    before = threading.active_count()
    task = asyncio.create_task(made.renew(Ask(transport)))
    await eventually(lambda: transport.attempts)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await eventually(lambda: not transport.unfinished)
    assert threading.active_count() <= before + 1, "a thread of the pool, which is free again"
    assert await asyncio.wait_for(asyncio.to_thread(lambda: 1), 1) == 1
    await transport.aclose()


def test_without_the_extra_the_field_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("google.auth"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match=r"credential\.source: library needs google-auth"):
        made_of(tmp_path, SERVICE_ACCOUNT)


async def eventually(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
