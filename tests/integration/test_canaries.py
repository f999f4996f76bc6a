"""Every secret that a relay is given is a canary: whatever it and its commands do, write, answer
and store, none of them is seen again.

The one exception is what makes a secret: it shows it once.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import httpx2
import orjson
import psycopg
import pytest
import yaml
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rtrelay.v1 import GenerateRequest, GenerateResponse
from typer.testing import CliRunner
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response

from relay.cli import app as cli
from relay.governance import token_text
from relay.store.engine import make_ready
from tests.fakes.books import Books
from tests.fakes.canaries import Canaries
from tests.fakes.command import relay_command
from tests.fakes.converse_client import GENERATE, Conversation, prompt, start
from tests.fakes.directory_rows import Rows
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.metered_lab import CHAT, MeteredLab, ask
from tests.fakes.otlp_collector import OtlpCollector
from tests.fakes.postgres_server import PASSWORD as POSTGRES_PASSWORD
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.redis_server import PASSWORD as REDIS_PASSWORD
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_fleet import shared
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import chat_body, provider
from tests.fakes.servers import own_postgres, own_postgres_url, own_redis, postgres_cluster
from tests.fakes.tls_files import TlsFiles
from tests.fakes.websocket_provider import WebSocketProvider

__all__ = ["own_postgres", "own_postgres_url", "own_redis", "postgres_cluster"]

pytestmark = [pytest.mark.sockets, pytest.mark.timeout(180)]

_CRASHING: Final = """
import os
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
from relay import cli
from relay.attempt import Attempt
from relay.frontends.http_app import HttpApp

until_first_content, find = Attempt._until_first_content, HttpApp._find

async def crashing(self):
    headers = self.target.endpoint.secrets()
    if self.target.model == "crash":
        raise RuntimeError(f"what was sent: {headers}")
    await until_first_content(self)

def crash(self, scope, request_id):
    if scope["path"] == "/v1/crash":
        raise RuntimeError(f"what was asked: {scope['headers']}")
    return find(self, scope, request_id)

Attempt._until_first_content, HttpApp._find = crashing, crash
cli.main()
"""
"""Has bugs whose exceptions tell what they should not."""


_SERVERS = frozenset({"redis-server", "postgres", "pg_ctl", "initdb"})


class Scene:
    """A relay whose every secret is a canary, and everything that was seen of it."""

    def __init__(self, folder: Path, url: str, redis: str | None) -> None:
        self.folder = folder
        self.url = url
        self.redis = redis
        self.canaries = Canaries()
        self.seen: list[tuple[str, str | bytes]] = []
        """What was told to somebody, and where."""
        self.commands: set[bytes] = set()
        """Command lines of every process that ran."""
        make_ready(url)
        self.books = Books(url)
        self.tls = TlsFiles(folder)
        body = (folder / "server.key").read_text().splitlines()[2]
        self.canaries.add("TLS key", body)

    def secret(self, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
        """A canary in the environment."""
        monkeypatch.setenv(name, self.canaries.make(name))
        return f"${{{name}}}"

    def tell(self, where: str, what: str | bytes) -> None:
        self.seen.append((where, what))

    def search(self) -> None:
        for where, what in self.seen:
            self.canaries.search(where, what)
        for line in self.commands:
            # Servers of the test's are started anew by outages, with passwords in their arguments.
            if Path(line.partition(b"\0")[0].decode(errors="replace")).name not in _SERVERS:
                self.canaries.search("a process's arguments", line)

    async def watch(self) -> None:
        """Look at the arguments of all processes that are started, until cancelled."""
        before = _processes()
        while True:
            for pid in _processes() - before:
                with contextlib.suppress(OSError):
                    self.commands.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            await asyncio.sleep(0.05)

    async def command(self, *words: str, tells: bool = True) -> str:
        """Run one in a thread, which spares its imports; what it says is seen, but of those that
        make a secret."""
        ran = await asyncio.to_thread(CliRunner().invoke, cli, words)
        name = f"relay {words[:2]}"
        self.tell(f"errors of {name}", ran.stderr)
        if ran.exc_info is not None:
            self.tell(f"traceback of {name}", "".join(traceback.format_exception(*ran.exc_info)))
        if tells:
            self.tell(f"output of {name}", ran.stdout)
        else:
            assert ran.exit_code == 0, ran.stderr
        return ran.stdout

    async def process(self, *words: str) -> None:
        """Run one as a process, whose arguments can be seen."""
        ran = await relay_command(*words)
        self.tell(f"relay {words[:2]}", ran.output + ran.errors)


def _processes() -> set[str]:
    return {name for name in os.listdir("/proc") if name.isdecimal()}


async def echoing(exchange: Exchange) -> None:
    """Refuses, and tells everything that it was sent."""
    asked = orjson.loads(exchange.body or b"{}")
    status = int(asked.get("model", "e401").removeprefix("e"))
    sent = dict(exchange.headers)
    keys = [value.removeprefix("Bearer ") for value in sent.values()]
    encoded = base64.b64encode(" ".join(keys).encode()).decode()
    message = f"Incorrect API key provided: {keys}, {encoded}, {sent}"
    body = orjson.dumps({"error": {"message": message, "type": str(keys), "code": keys[-1]}})
    told = [(f"x-echo-{name}", value) for name, value in exchange.headers]
    await exchange.head(status, *told, ("content-length", str(len(body))))
    await exchange.write(body)


async def echoing_in_a_stream(exchange: Exchange) -> None:
    """Begins to answer, and then fails with everything that it was sent."""
    body = orjson.dumps({"error": {"message": f"no: {exchange.headers}", "code": 500}})
    text = b'data: {"choices":[{"index":0,"delta":{"content":"Hel"}}]}\n\n'
    kind = ("content-type", "text/event-stream")
    await exchange.head(200, kind, ("transfer-encoding", "chunked"))
    await exchange.chunk(text)
    await exchange.chunk(b"data: " + body + b"\n\n")
    await exchange.chunk(b"")


async def refusing(connection: ServerConnection, request: Request) -> Response | None:
    """A handshake at `/refused`, telling everything that was sent."""
    if "refused" not in request.path:
        return None
    sent = list(request.headers.raw_items())
    body = f'{{"error": "{request.path} {sent}"}}'.encode()
    told = [(f"x-echo-{name}", value) for name, value in sent]
    headers = Headers([*told, ("content-length", str(len(body)))])
    return Response(401, "Unauthorized", headers, body)


async def echoing_in_messages(connection: ServerConnection) -> None:
    """An error with everything that it was sent; then the same as the reason to end."""
    assert connection.request is not None
    sent = dict(connection.request.headers.raw_items())
    await connection.send(orjson.dumps({"type": "error", "error": {"message": sent}}).decode())
    await connection.close(1008, sent["Authorization"][:120])


@contextlib.asynccontextmanager
async def played(
    folder: Path,
    url: str,
    redis: str | None,
    monkeypatch: pytest.MonkeyPatch,
    outage: Callable[[], contextlib.AbstractContextManager[None]] | None = None,
    *,
    workers: int = 0,
) -> AsyncIterator[Scene]:
    """Everything that may happen to a relay; it is over when the block begins.

    Args:
        workers: of a supervisor; 0 for the only one, which has bugs.
    """
    scene = Scene(folder, url, redis)
    secret = partial(scene.secret, monkeypatch)
    watching = asyncio.create_task(scene.watch())
    spans = OtlpCollector()
    spans.__enter__()
    try:
        async with H1Server() as server, H1Server() as echo, WebSocketProvider() as sockets:
            sockets.refuse, sockets.script = refusing, echoing_in_messages
            lab = MeteredLab(server)
            echo.default = echoing
            echo.routes["/s" + CHAT] = echoing_in_a_stream
            server.routes["/hook"] = echoing
            store = {"url": _with_reference(monkeypatch, "DB_PASSWORD", url, POSTGRES_PASSWORD)}
            if redis is not None:
                store["redis"] = _with_reference(
                    monkeypatch, "REDIS_PASSWORD", redis, REDIS_PASSWORD
                )
                scene.canaries.add("Redis password", REDIS_PASSWORD, in_pieces=False)
                scene.canaries.add("database password", POSTGRES_PASSWORD, in_pieces=False)
            pepper = secret("PEPPER")
            monkeypatch.setenv("SHORT_PEPPER", scene.canaries.make("short pepper")[:20])
            row = {"headers": {"x-extra": secret("HEADER")}, "auth": "bearer", "prices": PRICES}
            alerts = {"url": f"{server.url}/hook?{secret('HOOK')}", "secret": secret("HOOK_SECRET")}
            document: dict[str, Any] = {
                "server": {"grpc": {"tls": scene.tls.settings(), "reflection": True}},
                "observability": {
                    "tracing": {
                        "endpoint": spans.endpoint,
                        "headers": {"x-collector": secret("COLLECTOR_KEY")},
                        "interval_ms": 20,
                    }
                },
                "store": store,
                "auth": {"pepper": pepper, "old_peppers": [secret("OLD_PEPPER")], "sync_ms": 50},
                "budgets": {"default_max_tokens": 100, "alerts": alerts},
                "audit": {"key": secret("AUDIT_KEY"), "checkpoint_s": 1},
                "limits": {"key": {"rpm": 1000}},
                "providers": {
                    "lab": {**lab.row(), "auth": "bearer", "api_key": secret("LAB_KEY")},
                    "echo": {
                        **provider(echo.url, passthrough=True),
                        **row,
                        "api_key": secret("ECHO_KEY"),
                        "api_keys": [secret("ECHO_KEY_2")],
                    },
                    "stream": {
                        **provider(f"{echo.url}/s"),
                        **row,
                        "api_key": secret("STREAM_KEY"),
                    },
                    "sockets": {
                        **provider(sockets.url, passthrough=True, warm_connections=0),
                        **row,
                        "api_key": secret("SOCKET_KEY"),
                    },
                    "proxied": {
                        **provider("https://provider.test", warm_connections=0),
                        **row,
                        "api_key": secret("PROXIED_KEY"),
                        "egress_proxy": f"http://user:{secret('PROXY')}@127.0.0.1:9",
                    },
                    "signed": {
                        **provider(echo.url, region="us-east-1", passthrough=True),
                        "prices": PRICES,
                        "credential": {
                            "kind": "aws_sigv4",
                            "access_key_id": secret("AWS_ID"),
                            "secret_access_key": secret("AWS_SECRET"),
                            "session_token": secret("AWS_TOKEN"),
                        },
                    },
                },
                "models": {
                    name: {"candidates": [{"provider": of, "model": model}]}
                    for name, of, model in (
                        ("fast", "lab", "m"),
                        ("crash", "lab", "crash"),
                        ("e400", "echo", "e400"),
                        ("e401", "echo", "e401"),
                        ("e429", "echo", "e429"),
                        ("e500", "echo", "e500"),
                        ("stream", "stream", "m"),
                        ("proxied", "proxied", "m"),
                        ("signed", "signed", "e403"),
                    )
                },
            }
            document["providers"]["lab"]["prices"] = PRICES
            if workers:
                with shared(document) as ported:
                    await _play(scene, ported, outage, "--workers", str(workers))
            else:
                await _play(scene, document, outage)
            for batch in spans.batches:
                scene.tell("spans", batch.request.SerializeToString())
                scene.tell("spans, as they are read", str(batch.request))
            yield scene
    finally:
        spans.__exit__(None, None, None)
        watching.cancel()
        await asyncio.wait([watching])
        scene.books.close()


PRICES: Final = {
    name: {"input": 1.0, "output": 10.0}
    for name in ("m", "crash", "e400", "e401", "e403", "e429", "e500")
}


def _with_reference(monkeypatch: pytest.MonkeyPatch, name: str, url: str, password: str) -> str:
    monkeypatch.setenv(name, password)
    return url.replace(password, f"${{{name}}}")


async def _play(
    scene: Scene,
    document: dict[str, Any],
    outage: Callable[[], contextlib.AbstractContextManager[None]] | None,
    *arguments: str,
) -> None:
    folder = scene.folder
    program = ("-m", "relay.cli") if arguments else ("-c", _CRASHING)
    relay = RelayProcess(folder, document, *arguments, program=program)
    config = ("-c", str(relay.path))
    canaries = scene.canaries
    await scene.process("check", *config)
    made = await scene.command(
        "keys",
        "create",
        *config,
        "--team",
        "t",
        "--create",
        "--passthrough",
        "--name",
        "caller",
        "--quiet",
        tells=False,
    )
    key = made.strip()
    canaries.add("virtual key", key.partition(".")[2])
    words = ("--team", "u", "--create", "--passthrough", "--name", "free", "--quiet")
    free = (await scene.command("keys", "create", *config, *words, tells=False)).strip()
    canaries.add("key without a budget", free.partition(".")[2])
    made = await scene.command(
        "admins", "create", *config, "root", "--role", "owner", "--quiet", tells=False
    )
    root = made.strip()
    canaries.add("administrator's token", root.partition(".")[2])
    rows = Rows(scene.books.engine)
    (team,) = scene.books.rows("SELECT id FROM teams WHERE name = 't'")
    rows.budget("team", team["id"], 1000, is_hard=0, alert_percents=[1, 50])
    broke_id, _ = rows.key(team["id"])
    rows.budget("key", broke_id, 0)
    unknown = token_text.mint("virtual key").text
    canaries.add("a key that somebody tried", unknown.partition(".")[2])
    async with relay:
        async with _clients(scene, relay) as clients:
            await clients.everything(key)
            await clients.hand_through(free)  # which no key with a budget may
            await clients.everything(unknown)
            await clients.everything(f"{key}x")
            await clients.everything("")
            await clients.administer(root)
            for token in (root, unknown, ""):
                await clients.state(token)
            if outage is not None:
                with outage():
                    for _ in range(3):
                        await clients.everything(key)
                        await clients.everything(unknown)
                        await clients.state(root)
                    await scene.command("store", "check", *config)
                    await scene.command("keys", "list", *config)
                    await scene.command("audit", "verify", *config)
                await asyncio.sleep(2)  # it finds back by itself
            await _reload(scene, relay, document)
            await clients.everything(key)
            await clients.state(root)
        await _commands(scene, config, key)
    scene.tell("log", "\n".join(relay.raw))
    if not arguments:
        assert any("what was sent" in line for line in relay.raw), "no handler has crashed"
        assert any("what was asked" in line for line in relay.raw)
    assert sum("reload_refused" in line for line in relay.raw) >= len(_faults(document, canaries))


def _faults(document: dict[str, Any], canaries: Canaries) -> list[str]:
    """Files that are wrong, each with a secret where none belongs, or beside the fault."""
    plain = canaries.make("in plain")

    def changed(*path: str, value: Any) -> str:
        copy = orjson.loads(orjson.dumps(document))
        place = copy
        for name in path[:-1]:
            place = place.setdefault(name, {})
        place[path[-1]] = value
        return yaml.safe_dump(copy)

    return [
        changed("providers", "lab", "api_key", value=plain),
        changed("providers", "lab", "api_keys", value=[plain]),
        changed("providers", "lab", "api_keyy", value=plain),
        changed("providers", "lab", "headers", value={f"x:{plain}": "y"}),
        changed("providers", "lab", "headers", value=plain),
        changed("providers", "lab", "base_url", value=f"http://user:{plain}@127.0.0.1:9"),
        changed("providers", "lab", "egress_proxy", value=f"nothing://user:{plain}@x"),
        changed("providers", "lab", "egress_proxy", value=f"http://user:{plain}@x:port"),
        changed("auth", "pepper", value=plain),
        changed("auth", "pepper", value="${SHORT_PEPPER}"),
        changed("auth", "old_peppers", value=plain),
        changed("audit", "key", value=plain),
        changed("audit", "syslog", value=f"tcp://{plain}"),
        changed("store", "url", value=f"mysql://user:{plain}@127.0.0.1/db"),
        changed("store", "url", value=f"postgresql://user:{plain}@[127.0.0.1/db"),
        changed("store", "url", value=[f"postgresql://user:{plain}@127.0.0.1/db"]),
        changed("store", "redis", value=f"http://:{plain}@127.0.0.1"),
        changed("store", "rediss", value=f"redis://:{plain}@127.0.0.1"),
        changed("budgets", "alerts", "secret", value=plain),
        changed("budgets", "alerts", "url", value=f"http://user:{plain}@example.test/"),
        changed("budgets", "alerts", "url", value=f"ftp://127.0.0.1/{plain}"),
        f"providers: {{lab: {{api_key: {plain}, base_url: [}}\n",
        f"providers:\n  lab:\n    api_key: {plain}\n   wire: openai_chat\n",
        f"auth:\n  pepper: {plain}\n  pepper: {plain}\n",
        f"- {plain}\n",
    ]


async def _reload(scene: Scene, relay: RelayProcess, document: dict[str, Any]) -> None:
    """With every fault, by the relay, and by those commands that read the file."""
    good = relay.path.read_text(encoding="utf-8")
    wrong = relay.path.with_name("wrong.yaml")
    for text in _faults(document, scene.canaries):
        relay.path.write_text(text, encoding="utf-8")
        relay.signal(signal.SIGHUP)
        await relay.logged("reload_refused")
        wrong.write_text(text, encoding="utf-8")
        for words in (("check",), ("keys", "list"), ("store", "check"), ("audit", "verify")):
            await scene.command(*words, "-c", str(wrong))
    wrong.unlink()
    relay.path.write_text(good, encoding="utf-8")
    relay.signal(signal.SIGHUP)
    await relay.logged("reloaded")


async def _commands(scene: Scene, config: tuple[str, str], key: str) -> None:
    folder = scene.folder
    await scene.command("audit", "list", *config, "--json", "--limit", "10000")
    await scene.command("audit", "verify", *config)
    await scene.command("audit", "export", *config, "--output", str(folder / "audit.jsonl"))
    await scene.command("keys", "list", *config, "--json")
    (row,) = scene.books.rows("SELECT id FROM keys WHERE name = 'caller'")
    made = await scene.command("keys", "rotate", *config, row["id"], "--quiet", tells=False)
    scene.canaries.add("rotated key", made.strip().partition(".")[2])
    await scene.command("keys", "show", *config, row["id"])
    await scene.command("keys", "show", *config, key)  # by mistake
    await scene.command("keys", "revoke", *config, key)
    await scene.command("admins", "list", *config, "--json")
    await scene.command("budgets", "list", *config, "--json")
    await scene.command("store", "check", *config)
    await scene.process("store", "backup", *config, str(folder / "copy.db"))


class Clients:
    """Ask for everything, and note everything that comes back."""

    def __init__(
        self,
        scene: Scene,
        http: httpx2.AsyncClient,
        admin: httpx2.AsyncClient,
        channel: Any,
        socket_url: str,
    ) -> None:
        self._scene = scene
        self._http = http
        self._admin = admin
        self._channel = channel
        self._socket_url = socket_url

    async def everything(self, key: str) -> None:
        models = (
            "fast",
            "crash",
            "e400",
            "e401",
            "e429",
            "e500",
            "stream",
            "proxied",
            "signed",
            "none",
        )
        asking = [self._chat(key, model, stream) for model in models for stream in (True, False)]
        asking += [self._generate(key, model) for model in models]
        asking += [self._get(key, path) for path in ("/v1/crash", "/v1/models")]
        asking.append(self._messages(key))
        asking.append(self._reflection(key))
        asking.append(self._converse(key, models))
        await asyncio.gather(*asking, self.hand_through(key))

    async def hand_through(self, key: str) -> None:
        asking = [self._socket(key, path, by) for path in ("x", "refused") for by in (0, 1)]
        await asyncio.gather(
            *asking, self._get(key, "/pass/echo/files"), self._get(key, "/pass/signed/files")
        )

    async def state(self, token: str) -> None:
        paths = ("/admin/state", "/readyz", "/healthz", "/metrics", "/admin/v1/openapi.json")
        lists = ("keys", "teams", "budgets", "administrators", "audit", "usage", "generations")
        for path in (*paths, *(f"/admin/v1/{name}" for name in lists)):
            self._note(path, await self._admin.get(path, headers=_bearer(token)))

    async def administer(self, token: str) -> None:
        """Make a key, whose answer alone has its secret; with a body that is wrong, too."""
        (team,) = self._scene.books.rows("SELECT id FROM teams WHERE name = 't'")
        path, canaries = "/admin/v1/keys", self._scene.canaries
        made = await self._admin.post(
            path, json={"team_id": team["id"], "name": "http"}, headers=_bearer(token)
        )
        assert made.status_code == 201, made.text
        canaries.add("key made over HTTP", made.json()["secret"].partition(".")[2])
        wrong = {"team_id": team["id"], "secret": made.json()["secret"]}
        self._note(path, await self._admin.post(path, json=wrong, headers=_bearer(token)))

    def _note(self, where: str, answer: httpx2.Response) -> None:
        self._scene.tell(f"headers of {where}", str(answer.headers.raw))
        self._scene.tell(f"answer of {where}", answer.content)

    async def _chat(self, key: str, model: str, stream: bool) -> None:
        body = chat_body(model, text=ask(1, prompt=10, output=10), stream=stream)
        # A prompt is nobody's to see either, as nothing in the file lets it out.
        said = self._scene.canaries.make("prompt")
        body["messages"].insert(0, {"role": "system", "content": said})
        with contextlib.suppress(httpx2.RemoteProtocolError):
            answer = await self._http.post(CHAT, json=body, headers=_bearer(key))
            self._note(f"chat {model}", answer)

    async def _reflection(self, key: str) -> None:
        """Everything that tools may ask of what is served."""

        async def asked() -> AsyncIterator[Any]:
            for name in ("rtrelay.v1.RelayService", f"{key}x"):
                yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
            yield reflection_pb2.ServerReflectionRequest(list_services="")

        stub = reflection_pb2_grpc.ServerReflectionStub(self._channel)
        try:
            async for told in stub.ServerReflectionInfo(
                asked(), metadata=tuple(_bearer(key).items())
            ):
                told.ClearField("original_request")  # what the client itself has said
                self._scene.tell("reflection", told.SerializeToString())
        except grpc.aio.AioRpcError as error:
            self._scene.tell("error of reflection", str(error))

    async def _messages(self, key: str) -> None:
        body = {
            "model": "e401",
            "max_tokens": 5,
            "messages": [{"role": "user", "content": "Hello"}],
        }
        self._note(
            "messages", await self._http.post("/v1/messages", json=body, headers=_bearer(key))
        )

    async def _converse(self, key: str, models: Sequence[str]) -> None:
        """Every model in one session, whose prompts are sent ahead too."""
        asked = {"model": "e401", "prewarm_prompt": prompt("You are brief.")}
        try:
            async with Conversation(self._channel, metadata=_bearer(key), **asked) as talk:
                for model in models:
                    await talk.start(model, model=model, text=ask(3, prompt=10, output=10))
                    for frame in (await talk.ended(model)).frames:
                        self._scene.tell("frame of a session", frame.SerializeToString())
        except (AssertionError, grpc.aio.AioRpcError) as error:  # there is no session
            self._scene.tell("error of a session", str(error))

    async def _socket(self, key: str, path: str, by: int) -> None:
        """One that is handed through; the key in a header, or as browsers give theirs."""
        options: dict[str, Any] = {"additional_headers": _bearer(key)}
        if by and key:
            name = f"openai-insecure-api-key.{key}"
            options = {"subprotocols": [name, "realtime"]}
        url = f"{self._socket_url}/pass/sockets/{path}?model=m"
        try:
            async with connect(url, proxy=None, **options) as socket:
                self._scene.tell("head of a WebSocket", str(socket.response))
                with contextlib.suppress(ConnectionClosed):
                    while True:
                        self._scene.tell("message of a WebSocket", await socket.recv())
                self._scene.tell("end of a WebSocket", str(socket.close_reason))
        except InvalidStatus as error:
            told = error.response
            self._scene.tell("refusal of a WebSocket", f"{told.headers} {told.body!r}")

    async def _get(self, key: str, path: str) -> None:
        self._note(path, await self._http.get(path, headers=_bearer(key)))

    async def _generate(self, key: str, model: str) -> None:
        rpc = self._channel.unary_stream(
            GENERATE,
            request_serializer=GenerateRequest.SerializeToString,
            response_deserializer=GenerateResponse.FromString,
        )
        asked = GenerateRequest(start=start("g", model, ask(2, prompt=10, output=10)))
        call = rpc(asked, metadata=tuple(_bearer(key).items()))
        try:
            async for frame in call:
                self._scene.tell(f"frame of {model}", frame.SerializeToString())
        except grpc.aio.AioRpcError as error:
            self._scene.tell(f"error of {model}", f"{error.details()} {error.debug_error_string()}")
        for words in (await call.initial_metadata(), await call.trailing_metadata()):
            for name, value in words or ():
                self._scene.tell(f"trailers of {model}", str(name))
                self._scene.tell(f"trailers of {model}", value)


def _bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"} if key else {}


@contextlib.asynccontextmanager
async def _clients(scene: Scene, relay: RelayProcess) -> AsyncIterator[Clients]:
    trusted = grpc.ssl_channel_credentials(Path(scene.tls.ca_file).read_bytes())
    target = f"127.0.0.1:{relay.ports['grpc']}"
    async with (
        relay.http() as http,
        relay.http("admin") as admin,
        grpc.aio.secure_channel(target, trusted) as channel,
    ):
        socket_url = f"ws://127.0.0.1:{relay.ports['http']}"
        yield Clients(scene, http, admin, channel, socket_url)


def _report(scene: Scene) -> None:
    """Nothing was found, and there was something to be found."""
    scene.search()
    canaries = scene.canaries
    told = "".join(f"{where} {what!r}" for where, what in scene.seen)
    for words in (
        "Incorrect API key",
        "***",
        "end of a WebSocket",
        "frame of a session",
        "alert_not_delivered",
        "key.created",
        "reload_refused",
        "RelayService",
        "gen_ai.",
    ):
        assert words in told, words
    print(f"{len(scene.seen)} places, {canaries.searched_bytes / 1e6:.1f} MB, searched")
    assert not canaries.found, "\n".join(canaries.found[:40])


async def test_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/relay.db"
    async with played(tmp_path, url, None, monkeypatch) as scene:
        (tmp_path / "server.key").unlink()
        names = {path.name for path in tmp_path.iterdir()}
        assert {"relay.db", "audit.anchor", "audit.jsonl", "copy.db"} <= names
        for name in names - {"relay.yaml"}:
            if (tmp_path / name).is_file():
                scene.tell(name, (tmp_path / name).read_bytes())
        _report(scene)


async def test_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/relay.db"
    async with played(tmp_path, url, None, monkeypatch, workers=2) as scene:
        (tmp_path / "server.key").unlink()
        for path in tmp_path.iterdir():
            if path.is_file() and path.name != "relay.yaml":
                scene.tell(path.name, path.read_bytes())
        _report(scene)


async def test_postgresql_and_redis(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_postgres: PostgresServer,
    own_postgres_url: str,
    own_redis: RedisServer,
) -> None:
    @contextlib.contextmanager
    def outage() -> Any:
        own_postgres.stop()
        own_redis.stop()
        yield
        own_redis.start()
        own_postgres.start()

    async with played(tmp_path, own_postgres_url, own_redis.url(), monkeypatch, outage) as scene:
        (tmp_path / "server.key").unlink()
        with psycopg.connect(own_postgres_url) as connection:
            for (name,) in connection.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
            ).fetchall():
                with connection.cursor().copy(f'COPY "{name}" TO STDOUT') as copy:
                    scene.tell(f"table {name}", b"".join(bytes(part) for part in copy))
        scene.tell("server's log", (own_postgres.folder / "log").read_bytes())
        for name in ("audit.anchor", "audit.jsonl", "copy.db"):
            scene.tell(name, (tmp_path / name).read_bytes())
        scene.canaries.search_folder("server's files", own_postgres.folder / "data")
        _report(scene)
