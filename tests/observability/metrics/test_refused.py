"""What never became a generation: requests that are turned away, each once and by its surface, and
what is handed through unread; held to what clients saw."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from rtrelay.v1 import FeedbackRequest

from relay.errors import ClientCancelled, FirstTokenTimeout, RelayError
from relay.observability.metrics.recorder import MAX_NAMES
from relay.outcome import HandedThrough
from tests.fakes.converse_client import generate, start
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.metrics_page import MetricsPage
from tests.fakes.relay_under_test import Document, chat_body, provider, relay_under_test
from tests.observability.metrics.test_recorder import recorder, told

REFUSED, HANDED = "rtrelay_requests_refused_total", "rtrelay_passthrough_total"
CHAT = "/v1/chat/completions"


def document(emulator: EmulatorProcess) -> Document:
    row = provider(emulator.base_url_tls, ca_file=emulator.ca_file, passthrough=True)
    candidate = {"provider": "lab", "model": "emu:ttft=5,itl=1,tokens=3,seed=9301"}
    return {"providers": {"lab": row}, "models": {"fast": {"candidates": [candidate]}}}


def refused(page: MetricsPage) -> dict[tuple[str, str], float]:
    return {
        (labels["surface"], labels["reason"]): value
        for labels, value in page.samples.get(REFUSED, [])
    }


@pytest.mark.sockets
async def test_each_is_counted_once_by_its_surface(emulator: EmulatorProcess) -> None:
    async with relay_under_test(document(emulator)) as relay, relay.admin() as admin:
        http = relay.http
        wrong = [
            await http.post(CHAT, content=b"{"),
            await http.post(CHAT, json={"model": "fast"}),
            await http.post("/v1/messages", json=[]),
            await http.post("/v1/responses", json={"model": "fast", "input": 7}),
            await http.get(CHAT),
            await http.get("/v1/nothing"),
            await http.get("/v1/models/no-such-model"),
            await http.post("/v1/messages/count_tokens", content=b"no"),
            await http.post("/v1/feedback", content=b"no"),
            await http.get("/pass/nobody/files"),
        ]
        assert {one.status_code for one in wrong} <= {400, 404, 405}
        # Answered, and refused as a generation: neither is turned away.
        assert (await relay.chat(chat_body())).status_code == 200
        assert (await relay.chat(chat_body("no-such-model"))).status_code == 404
        assert (await relay.generate(start(model="no-such-model"))).error is not None
        assert (await relay.generate(b"\xff")).error is not None
        with pytest.raises(grpc.aio.AioRpcError):
            await relay.stub.Feedback(FeedbackRequest())
        async with relay.talk() as session:
            await session.start("g1", model="no-such-model")
            await session.start("g1", model="fast")  # its id was used
            await session.half_close()
            await session.over()
        assert refused(await MetricsPage.get(admin)) == {
            ("chat_completions", "invalid_request"): 3,
            ("messages", "invalid_request"): 1,
            ("responses", "invalid_request"): 1,
            ("http", "invalid_request"): 1,
            ("models", "unknown_model"): 1,
            ("count_tokens", "invalid_request"): 1,
            ("feedback", "invalid_request"): 2,
            ("passthrough", "invalid_request"): 1,
            ("generate", "unknown_model"): 1,
            ("generate", "invalid_request"): 1,
            ("converse", "unknown_model"): 1,
            ("converse", "duplicate_generation"): 1,
        }


@pytest.mark.sockets
async def test_a_caller_who_is_nobody(emulator: EmulatorProcess, tmp_path: Path) -> None:
    async with keyed_relay(tmp_path, document(emulator)) as keyed:
        relay = keyed.relay
        assert (await relay.chat(chat_body(), authorization="Bearer wrong")).status_code == 401
        assert (await generate(relay.channel, start())).error is not None
        metrics = relay.worker._metrics
        assert metrics is not None
        page = MetricsPage((await metrics.page()).decode())
        assert refused(page) == {
            ("chat_completions", "unauthenticated"): 1,
            ("generate", "unauthenticated"): 1,
        }


@pytest.mark.sockets
async def test_what_is_handed_through(emulator: EmulatorProcess) -> None:
    async with relay_under_test(document(emulator)) as relay, relay.admin() as admin:
        for path in ("models", "models", "no/such/path"):
            await relay.http.get(f"/pass/lab/{path}")
        page = await MetricsPage.get(admin)
        outcomes = page.by("outcome", HANDED, provider="lab", surface="passthrough")
        assert outcomes == {"ok": 2, "client_error": 1}
        assert page.sum("rtrelay_passthrough_seconds_count", provider="lab") == 3
        assert page.sum(REFUSED) == 0


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (200, None, "ok"),
        (101, None, "ok"),
        (304, None, "ok"),
        (404, None, "client_error"),
        (503, None, "server_error"),
        (0, None, "error"),
        (0, FirstTokenTimeout("x"), "error"),
        (200, ClientCancelled("x"), "cancelled"),
    ],
)
def test_outcomes(status: int, error: RelayError | None, outcome: str) -> None:
    assert HandedThrough("lab", "passthrough", status, error, 1).outcome == outcome


def test_names_of_providers_are_bounded() -> None:
    one = recorder()
    for number in range(MAX_NAMES + 5):
        one.handed_through(HandedThrough(f"p{number}", "passthrough", 200, None, 1))
    rows = told(one, "passthrough_total")
    assert len(rows) == MAX_NAMES + 1
    assert rows["_other", "passthrough", "ok"] == 5
