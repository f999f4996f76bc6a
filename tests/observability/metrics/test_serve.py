"""Who may read the page: whoever reaches the listener, or, with keys, whoever has a token
that may read the state."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from relay.admin_port import AdminPort
from relay.administration.administrators import create_administrator
from relay.administration.desk import Desk
from relay.administration.roles import OPERATOR, Actor
from relay.config import load
from relay.observability.metrics.recorder import Recorder
from relay.store import schema
from relay.supervisor import Supervisor
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.keyed_relay import KeyedRelay, keyed_relay
from tests.fakes.keys import PEPPER
from tests.fakes.metrics_page import MetricsPage
from tests.fakes.relay_under_test import chat_body, provider, relay_under_test

pytestmark = pytest.mark.sockets

DEAD: dict[str, Any] = {"wire": "openai_chat", "base_url": "http://127.0.0.1:1/v1", "auth": "none"}
DOCUMENT: dict[str, Any] = {
    "providers": {"lab": DEAD},
    "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
}
TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def test_it_is_open_without_keys() -> None:
    async with relay_under_test(DOCUMENT) as relay, relay.admin() as admin:
        response = await admin.get("/metrics")
        assert (response.status_code, response.headers["content-type"]) == (200, TYPE)
        assert response.headers["cache-control"] == "no-store"
        head = await admin.request("HEAD", "/metrics")
        assert (head.status_code, head.content) == (200, b"")
        assert (await admin.post("/metrics")).status_code == 405
        assert (await admin.get("/metrics/more")).status_code == 404
        strange = {"host": f"page.test:{relay.worker.admin_port}"}
        assert (await admin.get("/metrics", headers=strange)).status_code == 403
        assert (await relay.http.get("/metrics")).status_code == 404, "not on the data port"


async def test_failures_are_counted() -> None:
    async with relay_under_test(DOCUMENT) as relay, relay.admin() as admin:
        for _ in range(3):
            assert (await relay.chat(chat_body())).status_code >= 500
        assert (await relay.chat(chat_body("no-such-name"))).status_code == 404
        page = await MetricsPage.get(admin)
        assert page.by("reason", "rtrelay_attempt_errors_total", model="m")
        assert page.sum("rtrelay_attempts_sent_total") == 0
        assert page.sum("rtrelay_generations_total", alias="fast", outcome="error") == 3
        assert page.sum("rtrelay_dead_air_generations_total", alias="fast") == 3


async def test_another_path() -> None:
    document = {**DOCUMENT, "observability": {"metrics": {"path": "/own/prometheus"}}}
    async with relay_under_test(document) as relay, relay.admin() as admin:
        assert (await admin.get("/own/prometheus")).status_code == 200
        assert (await admin.get("/metrics")).status_code == 404


async def test_without_it_nothing_is_counted() -> None:
    document = {**DOCUMENT, "observability": {"metrics": {"enabled": False}}}
    async with relay_under_test(document) as relay, relay.admin() as admin:
        told = [getattr(one, "__self__", None) for one in relay.worker.services.on_ended]
        assert not [one for one in told if isinstance(one, Recorder)]
        assert (await admin.get("/metrics")).status_code == 404


async def test_with_keys_it_takes_a_token(tmp_path: Path) -> None:
    async with keyed_relay(tmp_path, DOCUMENT) as running, running.relay.admin() as admin:
        assert (await admin.get("/metrics")).status_code == 401
        key = await running.key()
        assert (await admin.get("/metrics", headers=bearer(key))).status_code == 401
        viewer = administrator(running, "viewer")
        response = await admin.get("/metrics", headers=bearer(viewer))
        assert (response.status_code, response.headers["content-type"]) == (200, TYPE)
        billing = administrator(running, "billing")
        assert (await admin.get("/metrics", headers=bearer(billing))).status_code == 403
        document = (await admin.get("/admin/openapi.json", headers=bearer(viewer))).json()
        assert document["paths"]["/metrics"]["get"]["x-permission"] == "state.read"


async def test_denials_and_spend_are_told(tmp_path: Path) -> None:
    async with keyed_relay(tmp_path, DOCUMENT) as running, running.relay.admin() as admin:
        limited = await running.key("key_1", scopes={"models": ["other"]})
        chat = running.relay.chat
        assert (await chat(chat_body(), authorization=f"Bearer {limited}")).status_code == 403
        assert (await chat(chat_body(), authorization="Bearer rtk_wrong")).status_code == 401
        free = await running.key("key_2")
        assert (await chat(chat_body(), authorization=f"Bearer {free}")).status_code >= 500
        viewer = administrator(running, "viewer")
        page = await MetricsPage.get(admin, **bearer(viewer))
        assert page.by("reason", "rtrelay_refusals_total") == {"permission_denied": 1}
        assert page.by("shown", "rtrelay_keys_denied_total") == {"key": 1}
        assert ({"team": "team_1"}, 0.0) in page.samples["rtrelay_spend_usd_total"]
        assert page.sum("rtrelay_accounts_open") == 1
        assert page.samples["rtrelay_audit_entries_total"]


async def test_spend_is_what_was_booked(tmp_path: Path, emulator: EmulatorProcess) -> None:
    prices = {"emu": {"input": 1.0, "output": 10.0}}
    row = provider(emulator.base_url_plain, prices=prices, models=["emu"])
    document = {"providers": {"lab": row}}
    async with keyed_relay(tmp_path, document) as running, running.relay.admin() as admin:
        key = await running.key()
        for _ in range(3):
            answer = await running.relay.chat(chat_body("lab/emu"), authorization=f"Bearer {key}")
            assert answer.status_code == 200
        page = await MetricsPage.get(admin, **bearer(administrator(running, "viewer")))
        with running.desk.engine.connect() as connection:
            booked = connection.execute(select(schema.generations.c.settled_micro)).scalars().all()
        assert len(booked) == 3
        assert page.sum("rtrelay_spend_usd_total", team="team_1") == sum(booked) / 1e6 > 0
        assert page.sum("rtrelay_attempts_sent_total", provider="lab", model="emu") == 3
        assert page.sum("rtrelay_attempt_cost_usd_total") > 0


async def test_the_supervisors_page_without_any_worker(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("server: {admin: {address: '127.0.0.1:0'}}\n")
    port = await AdminPort.open(load(path), path, Supervisor(path, 2))
    try:
        url = f"http://127.0.0.1:{port.number}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False) as admin:
            page = await MetricsPage.get(admin)
            assert page.sum("rtrelay_workers") == 2
            assert page.sum("rtrelay_workers_answering") == 0
            assert page.samples["rtrelay_worker_answers"] == [
                ({"worker": "0"}, 0.0),
                ({"worker": "1"}, 0.0),
            ]
    finally:
        await port.aclose()


def administrator(running: KeyedRelay, role: str) -> str:
    """The token of one."""
    now_us = lambda: time.time_ns() // 1000  # noqa: E731
    desk = Desk(running.desk.engine, audit=None, pepper=PEPPER, now_us=now_us)
    return create_administrator(desk, Actor("cli:tests", OPERATOR), role, role).secret


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}
