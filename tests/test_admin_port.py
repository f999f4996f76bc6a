"""The supervisor's admin port: TLS, readiness, and what is mounted on it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from relay.admin_port import AdminPort
from relay.config import load
from relay.frontends.asgi import Receive, Scope, Send, send_answer
from relay.http_server import StartError
from relay.supervisor import Supervisor
from tests.fakes.relay_under_test import eventually
from tests.fakes.tls_files import TlsFiles

pytestmark = pytest.mark.sockets


def write(path: Path, **more: Any) -> Path:
    document = {"server": {"admin": {"address": "127.0.0.1:0"}}, **more}
    path.write_text(yaml.safe_dump(document))
    return path


async def test_it_tells_of_workers_that_are_not_there_yet(tmp_path: Path) -> None:
    async def metrics(scope: Scope, receive: Receive, send: Send) -> None:
        await send_answer(send, 200, scope["path"].encode())

    path = write(tmp_path / "relay.yaml")
    port = await AdminPort.open(load(path), path, Supervisor(path, 2), {"/metrics": metrics})
    url = f"http://127.0.0.1:{port.number}"
    async with httpx2.AsyncClient(base_url=url, trust_env=False) as admin:
        response = await admin.get("/readyz")
        assert (response.status_code, response.json()) == (
            503,
            {"status": "starting", "workers": 2, "ready": 0},
        )
        assert (await admin.get("/healthz")).status_code == 200
        state = (await admin.get("/admin/state")).json()
        assert state["workers"] == {str(n): {"status": "gone", "restarts": 0} for n in range(2)}
        assert (state["generations"], state["machines"]) == (0, None)
        strange = {"host": f"page.test:{port.number}"}  # a page whose name is made to mean us
        assert (await admin.get("/admin/state", headers=strange)).status_code == 403
        assert (await admin.get("/healthz", headers=strange)).status_code == 200
        assert (await admin.get("/metrics")).text == "/metrics"
        assert (await admin.get("/metrics/more")).text == "/metrics/more"
        assert (await admin.get("/metricsmore")).status_code == 404
    await port.aclose()
    await port.aclose()


async def test_its_certificate_is_replaced_on_a_reload(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path)
    path = write(tmp_path / "relay.yaml", tls={**files.settings(), "check_files_ms": 0})
    supervisor = Supervisor(path, 2)
    port = await AdminPort.open(load(path), path, supervisor)
    try:

        async def serial() -> str:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            _, writer = await asyncio.open_connection("127.0.0.1", port.number, ssl=context)
            data = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            return bytes(data).hex()

        before = await serial()
        files.renew()
        assert await serial() == before
        supervisor._reload()
        await eventually(lambda: not len(port._reaper))
        assert await serial() != before
        path.write_text("models: [\n")  # each worker says so; the port serves on
        supervisor._reload()
        await eventually(lambda: not len(port._reaper))
        assert await serial()
    finally:
        await port.aclose()


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    taken = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with taken:
        number = taken.sockets[0].getsockname()[1]
        path = write(tmp_path / "relay.yaml", server={"admin": {"address": f"127.0.0.1:{number}"}})
        with pytest.raises(StartError, match=r"server\.admin\): Address already in use"):
            await AdminPort.open(load(path), path, Supervisor(path, 2))
