"""A relay whose providers want tokens, at emulated clouds: expiry, revocation, clocks, rotation.

Lives are seconds here, so that a test sees several; what counts is order, never how long.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from relay.commands.check import probe
from relay.config import Config, ConfigError, parse
from tests.credentials.calls import call
from tests.credentials.certificates import certificate, pem, rsa_key
from tests.fakes.canaries import Canaries
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    chat_body,
    eventually,
    relay_under_test,
    sse_payloads,
)

pytestmark = pytest.mark.sockets

FAST = "emu:ttft=1,itl=1,tokens=3"
SLOW = "emu:ttft=1,itl=20,tokens=60"


@pytest.fixture(scope="module")
def clouds() -> Iterator[EmulatorProcess]:
    with EmulatorProcess() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def _usual(clouds: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FIRST_SECRET", "first-client-secret")
    monkeypatch.setenv("SECOND_SECRET", "second-client-secret")
    monkeypatch.setenv("BAD_SECRET", "bad-secret")
    yield
    clouds.reset()
    for name in ("script", "clock", "rotate"):
        clouds.cloud(name)


def azure(clouds: EmulatorProcess, secret: str = "FIRST_SECRET") -> dict[str, Any]:
    return {
        "door": "azure",
        "base_url": f"{clouds.base_url_plain}/azure/openai/v1",
        "warm_connections": 1,
        "credential": {
            "kind": "azure_entra",
            "tenant_id": "t-1",
            "client_id": "c-1",
            "client_secret": f"${{{secret}}}",
            "authority": f"{clouds.base_url_plain}/emulator/cloud/entra",
        },
    }


def vertex(clouds: EmulatorProcess, folder: Path, kind: str = "service_account") -> dict[str, Any]:
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(clouds.cloud_told(kind)))
    return {
        "door": "vertex",
        "base_url": f"{clouds.base_url_plain}/vertex",
        "project": "p-1",
        "region": "europe-west4",
        "warm_connections": 1,
        "credential": {"kind": "google", "file": str(path)},
    }


@asynccontextmanager
async def relay_of(row: dict[str, Any]) -> AsyncIterator[RelayUnderTest]:
    async with relay_under_test({"providers": {"p": row}}) as relay:
        yield relay


async def ask(relay: RelayUnderTest, model: str = FAST) -> tuple[int, str]:
    """Status, and what was said: the text, or why there is none."""
    answer = await relay.chat(chat_body(f"p/{model}"))
    if answer.status_code != 200:
        return answer.status_code, answer.json()["error"]["message"]
    return 200, "".join(
        choice["delta"].get("content") or ""
        for payload in sse_payloads(answer.text)
        for choice in payload.get("choices", [])
    )


def asks(clouds: EmulatorProcess, endpoint: str = "entra") -> list[int]:
    """Statuses of what was asked of a token endpoint."""
    told = clouds.cloud_told("report")["asks"]
    rows = told if isinstance(told, list) else told.get(endpoint, [])
    return [row["status"] for row in rows if row.get("endpoint", endpoint) == endpoint]


async def state(relay: RelayUnderTest) -> dict[str, Any]:
    async with relay.admin() as admin:
        answer = await admin.get("/admin/state")
        told: dict[str, Any] = answer.json()["credentials"]["p"]
        return told


async def test_tokens_are_there_before_anything_is_served(clouds: EmulatorProcess) -> None:
    async with relay_of(azure(clouds)) as relay:
        assert asks(clouds) == [200]
        assert (await ask(relay))[0] == 200
        assert asks(clouds) == [200], "none is fetched beside a request"
        told = await state(relay)
        assert told["kind"] == "azure_entra"
        assert told["source"] == "client_secret"
        assert 3500 < told["expires_in_s"] <= 3600
        assert (told["wait_s"], told["last_error"], told["refreshes"]) == (0, "", 1)


@pytest.mark.parametrize("kind", ["service_account", "user"])
async def test_google_files(clouds: EmulatorProcess, tmp_path: Path, kind: str) -> None:
    async with relay_of(vertex(clouds, tmp_path, kind)) as relay:
        assert (await ask(relay))[0] == 200
        assert (await state(relay))["source"] == kind


async def test_metadata_server(clouds: EmulatorProcess, tmp_path: Path) -> None:
    row = vertex(clouds, tmp_path)
    host = clouds.base_url_plain.removeprefix("http://")
    row["credential"] = {"kind": "google", "source": "metadata", "metadata_host": host}
    async with relay_of(row) as relay:
        assert (await ask(relay))[0] == 200


async def test_app_service(clouds: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    base = f"{clouds.base_url_plain}/emulator/cloud/app_service/msi/token"
    monkeypatch.setenv("IDENTITY_ENDPOINT", base)
    monkeypatch.setenv("IDENTITY_HEADER", "an-identity-header")
    row = azure(clouds)
    row["credential"] = {"kind": "azure_entra", "source": "managed_identity"}
    async with relay_of(row) as relay:
        assert (await ask(relay))[0] == 200


async def test_workload_identity(clouds: EmulatorProcess, tmp_path: Path) -> None:
    row = azure(clouds)
    (tmp_path / "federated").write_text("a-federated-token")
    del row["credential"]["client_secret"]
    row["credential"] |= {"source": "workload", "token_file": str(tmp_path / "federated")}
    async with relay_of(row) as relay:
        assert (await ask(relay))[0] == 200


async def test_a_certificate_that_is_exchanged_under_an_open_stream(
    clouds: EmulatorProcess, tmp_path: Path
) -> None:
    """Another certificate alone counts from then on: the stream goes on, and tokens do."""
    path = tmp_path / "app.pem"
    path.write_text(clouds.cloud_told("certificate")["pem"])
    row = azure(clouds)
    del row["credential"]["client_secret"]
    row["credential"] |= {"source": "client_certificate", "certificate_file": str(path)}
    clouds.cloud("script", endpoint="entra", expires_in_s=2)
    async with relay_of(row) as relay:
        credential = relay.worker.services.catalog.endpoints["p"].credential
        streaming = asyncio.create_task(ask(relay, SLOW))
        leaf = certificate(rsa_key(), from_days=-1000, to_days=10_000)
        public = leaf.public_bytes(Encoding.PEM).decode()
        clouds.cloud("certificate", certificate=public, alone=True)
        await eventually(lambda: credential.describe(0).last_error)
        assert "invalid_client (AADSTS700027)" in credential.describe(0).last_error
        path.write_bytes(pem(rsa_key(), leaf))
        before = credential.describe(0).refreshes
        await eventually(lambda: credential.describe(0).refreshes > before)
        assert (await streaming)[0] == 200
        assert (await ask(relay))[0] == 200


async def test_endpoint_down_across_expiry(clouds: EmulatorProcess) -> None:
    """The token serves to its end; then the error says since when and why; then it is back."""
    clouds.cloud("script", endpoint="entra", expires_in_s=2)
    async with relay_of(azure(clouds)) as relay:
        clouds.cloud("script", endpoint="entra", status=503)
        credential = relay.worker.services.catalog.endpoints["p"].credential
        await eventually(lambda: credential.describe(0).last_error)
        assert (await ask(relay))[0] == 200, "what there is serves on"
        await eventually(lambda: credential.wait_s(relay.worker.services.clock()) > 0)
        status, why = await ask(relay)
        assert status == 503
        assert "providers.p: no access token since " in why
        assert "127.0.0.1 refused: temporarily_unavailable (AADSTS90033)" in why
        assert "next try in " in why
        clouds.cloud("script", endpoint="entra")
        await eventually(lambda: credential.wait_s(relay.worker.services.clock()) == 0, 20)
        assert (await ask(relay))[0] == 200


async def test_a_revoked_token_costs_what_had_it_and_nothing_after(clouds: EmulatorProcess) -> None:
    async with relay_of(azure(clouds)) as relay:
        assert (await ask(relay))[0] == 200
        clouds.cloud("revoke", kind="entra")
        status, why = await ask(relay)
        assert status != 200
        assert why
        await eventually(lambda: len(asks(clouds)) == 2)
        credential = relay.worker.services.catalog.endpoints["p"].credential
        await eventually(lambda: credential.describe(0).refreshes == 2)
        assert [(await ask(relay))[0] for _ in range(3)] == [200] * 3
        assert asks(clouds) == [200, 200]


async def test_of_many_requests_that_are_refused_those_after_the_renewal_are_sent_anew(
    clouds: EmulatorProcess,
) -> None:
    """What was sent with an old token and is refused once there is a newer one may be retried."""
    async with relay_of(azure(clouds)) as relay:
        credential = relay.worker.services.catalog.endpoints["p"].credential
        old = credential.headers(call(), 0.0)
        clouds.cloud("revoke", kind="entra")
        await ask(relay)
        await eventually(lambda: credential.describe(0).refreshes == 2)
        now_s = relay.worker.services.clock()
        assert credential.answered(401, [], old, 0.0, now_s)


@pytest.mark.parametrize("skew_s", [-3600, 3600])
async def test_a_clock_that_is_an_hour_off(
    clouds: EmulatorProcess, tmp_path: Path, skew_s: float
) -> None:
    clouds.cloud("clock", skew_s=skew_s)
    async with relay_of(vertex(clouds, tmp_path)) as relay:
        assert (await ask(relay))[0] == 200
        assert (await state(relay))["failures"] == 0


def reloading(relay: RelayUnderTest, row: dict[str, Any] | ConfigError) -> None:
    """As SIGHUP does."""

    def read() -> Config:
        if isinstance(row, ConfigError):
            raise row
        free = {name: {"address": "127.0.0.1:0"} for name in ("grpc", "http", "admin")}
        return parse({"providers": {"p": row}, "server": free})

    relay.worker._reload_config = read
    relay.worker._reload()


async def test_rotation_with_a_stream_open(clouds: EmulatorProcess) -> None:
    """The new secret's token is fetched first, which takes a while; requests go on with the old."""
    async with relay_of(azure(clouds)) as relay:
        old = relay.worker.services.catalog
        stream = asyncio.create_task(ask(relay, SLOW))
        await eventually(lambda: relay.worker.services.live)
        clouds.cloud("script", endpoint="entra", delay_ms=300)
        reloading(relay, azure(clouds, "SECOND_SECRET"))
        assert relay.worker.services.catalog is old
        assert (await ask(relay))[0] == 200
        await eventually(lambda: relay.worker.services.catalog is not old)
        status, text = await ask(relay)
        assert status == 200
        assert text
        assert not stream.done(), "it was open all the while"
        status, text = await stream
        assert (status, len(text.split()) > 40) == (200, True)
        assert asks(clouds) == [200, 200]


async def test_a_reload_that_changes_no_credential_fetches_none(clouds: EmulatorProcess) -> None:
    async with relay_of(azure(clouds)) as relay:
        old = relay.worker.services.catalog
        reloading(relay, azure(clouds) | {"rpm": 1000})
        assert relay.worker.services.catalog is not old, "at once"
        assert (await ask(relay))[0] == 200
        assert asks(clouds) == [200]


async def test_the_last_of_several_reloads_counts(clouds: EmulatorProcess) -> None:
    async with relay_of(azure(clouds)) as relay:
        clouds.cloud("script", endpoint="entra", delay_ms=200)
        reloading(relay, azure(clouds, "SECOND_SECRET"))
        await asyncio.sleep(0)
        reloading(relay, azure(clouds) | {"rpm": 7})
        reloading(relay, ConfigError("providers: broken"))
        await asyncio.sleep(0.5)
        endpoint = relay.worker.services.catalog.endpoints["p"]
        assert endpoint.rpm == 7
        assert (await ask(relay))[0] == 200


async def test_a_secret_that_is_refused_stops_no_reload_and_is_told(
    clouds: EmulatorProcess,
) -> None:
    async with relay_of(azure(clouds)) as relay:
        old = relay.worker.services.catalog
        reloading(relay, azure(clouds, "BAD_SECRET"))
        await eventually(lambda: relay.worker.services.catalog is not old)
        status, why = await ask(relay)
        assert status == 503
        assert "refused: invalid_client (AADSTS7000215)" in why


async def test_check_probes_with_a_token_of_its_own(clouds: EmulatorProcess) -> None:
    good, bad = azure(clouds), azure(clouds, "BAD_SECRET")
    results = await probe(parse({"providers": {"good": good, "bad": bad}}))
    assert asks(clouds) == [200, 401]
    told = {row.provider: (row.is_reachable, row.status) for row in results}
    assert told["good"][0]
    assert told["bad"][0] is False
    assert "no access token yet (127.0.0.1 refused: invalid_client" in told["bad"][1]


async def test_no_secret_in_logs_errors_and_state(
    clouds: EmulatorProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canaries = Canaries()
    monkeypatch.setenv("FIRST_SECRET", canaries.make("client secret"))
    account = clouds.cloud_told("service_account")["private_key"]
    canaries.add("private key", account[200:264], in_pieces=False)
    clouds.cloud("script", endpoint="entra", expires_in_s=2)
    shown: list[str] = []
    with structlog.testing.capture_logs() as logs:
        for row in (azure(clouds), vertex(clouds, tmp_path)):
            async with relay_of(row) as relay:
                credential = relay.worker.services.catalog.endpoints["p"].credential
                shown += [str(await ask(relay))]
                clouds.cloud("revoke", kind="*")
                shown += [str(await ask(relay)) for _ in range(2)]
                await asyncio.sleep(0.2)
                shown += [str(await ask(relay)), repr(credential), repr(relay.worker._catalog)]
                for value in credential.secrets():
                    canaries.add("token", value, in_pieces=False)
                async with relay.admin() as admin:
                    shown.append((await admin.get("/admin/state")).text)
    assert len(canaries._whole) >= 5
    for entry in logs:
        canaries.search("log", repr(entry))
    for text in shown:
        canaries.search("shown", text)
    assert not canaries.found
    assert {"credential_renewed"} <= {entry["event"] for entry in logs}
