"""What outlives a relay that is a process of its own: its providers, its store, a key.

async with place(stage) as here, here.relay() as relay, here.client(relay) as client:
    reply = await ASKERS["sse"](client, "alone")
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from relay.store.engine import make_ready
from tests.fakes.askers import ASKERS, Reply
from tests.fakes.askers import _of_answer as reply_of
from tests.fakes.books import Books
from tests.fakes.command import Ran, relay_command
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h2_server import H2Server, Script, ServerStream, stream_chunks
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import DONE, Document, RelayUnderTest, chunk, eventually
from tests.matrix.row import Stage
from tests.matrix.weakened import program
from tests.matrix.world import (
    CHAT,
    LIMIT_MICRO,
    PROVIDER_KEY,
    USAGE,
    Booked,
    KeyedClient,
    document,
    merged,
    whole_answer,
    word,
)

STREAMING = ("sse", "generate", "converse")
"""Doors that show text before the end."""


class Gated:
    """A provider's answer that waits after its first word: "One", then " two"."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = 0
        """Answers whose first word is out."""

    async def script(self, stream: ServerStream) -> None:
        await stream.send_headers()
        await stream.send(word("One"))
        self.begun += 1
        await self.gate.wait()
        rest = [word(" two"), chunk(finish="stop"), chunk(usage=USAGE, choices=[]), DONE]
        await stream.send(b"".join(rest), end=True)


class SilentServer:
    """Takes connections and never says a word; leaving the block closes them."""

    def __init__(self) -> None:
        self.port = 0
        self.called = asyncio.Event()
        """Somebody has connected."""
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._listens, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open.values():
            writer.transport.abort()
        if self._open:
            await asyncio.wait(list(self._open))

    async def _listens(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[task] = writer
        self.called.set()
        try:
            await reader.read(-1)
        except OSError:
            pass  # it was broken off
        finally:
            del self._open[task]
            writer.close()


@dataclass
class Place:
    """See the module."""

    stage: Stage
    lab: H2Server
    spare: H2Server
    books: Books
    rows: Rows
    key: str
    key_id: str
    budget_id: str
    document: Document

    def relay(self, *arguments: str, host: str = "127.0.0.1") -> RelayProcess:
        """Not started yet; with the weakness of the stage, if it has one."""
        home = self.stage.tmp_path
        run = program(self.stage.weakness)
        return RelayProcess(home, self.document, *arguments, host=host, program=run)

    @asynccontextmanager
    async def client(self, relay: RelayProcess) -> AsyncIterator[KeyedClient]:
        """The key's owner, over connections of his own."""
        async with relay.channel() as channel, relay.http() as http:
            yield KeyedClient(RelayUnderTest(cast(Any, None), channel, http), self.key)

    def booked(self) -> list[Booked]:
        """Generations as they stand now, in order of admission."""
        attempts = self.books.rows("SELECT * FROM attempts ORDER BY generation_id, ordinal")
        return [
            Booked(row, [one for one in attempts if one["generation_id"] == row["id"]])
            for row in self.books.rows("SELECT * FROM generations ORDER BY admitted_at_us, id")
        ]

    async def command(self, *arguments: str) -> Ran:
        """`relay ARGUMENTS -c FILE` to its end."""
        return await relay_command(*arguments, "-c", str(self.path))

    @property
    def path(self) -> Path:
        """Of the configuration."""
        return self.stage.tmp_path / "relay.yaml"


@asynccontextmanager
async def place(
    stage: Stage,
    more: Document | None = None,
    *,
    script: Script | None = None,
    limit_micro: int = LIMIT_MICRO,
    store_url: str | None = None,
    **timeouts: int,
) -> AsyncIterator[Place]:
    """Providers and a store with a key whose team has a hard budget; no relay yet.

    Args:
        script: of `lab`; else it answers "lab words".
        store_url: of a database; else a file.
    """
    stage.patch.setenv("MATRIX_KEY", PROVIDER_KEY)
    stage.patch.setenv("MATRIX_PEPPER", PEPPER)
    lab = H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    spare = H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    lab.routes[CHAT] = script or stream_chunks(whole_answer("lab", " words"))
    spare.routes[CHAT] = stream_chunks(whole_answer("spare", " words"))
    async with lab, spare:
        settings = merged(document(stage, lab, spare, **timeouts), more or {})
        if store_url is not None:
            settings["store"] = {**settings["store"], "url": store_url}
        url = settings["store"]["url"]
        make_ready(url)
        books = Books(url)
        try:
            rows = Rows(books.engine)
            team_id = rows.team(rows.organisation())
            budget_id = rows.budget("team", team_id, limit_micro)
            key_id, key = rows.key(team_id)
            yield Place(stage, lab, spare, books, rows, key, key_id, budget_id, settings)
        finally:
            books.close()


async def ask(client: KeyedClient, face: str, model: str = "alone") -> Reply:
    """One question; what the transport breaks is told as the reason `TRANSPORT`. A session may end
    with its generation."""
    try:
        if face == "converse":
            async with client.talk() as talk:
                await talk.start("g", model=model)
                return reply_of(await talk.ended("g"))
        return await ASKERS[face](client, model)
    except Exception as error:  # noqa: BLE001 - whatever a client's library makes of it
        return Reply(text="", reason="TRANSPORT", message=repr(error))


def asking(client: KeyedClient, faces: Sequence[str], model: str = "alone") -> list[Asked]:
    """Questions that run."""
    return [asyncio.create_task(ask(client, face, model), name=face) for face in faces]


Asked = asyncio.Task[Reply]


async def ended(tasks: Sequence[Asked], within_s: float) -> list[Reply]:
    """What came of them.

    Raises:
        AssertionError: of some nothing did in time; they are cancelled.
    """
    _, late = await asyncio.wait(tasks, timeout=within_s)
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    assert not late, f"no end within {within_s:g} s: {[task.get_name() for task in late]}"
    return [task.result() for task in tasks]


async def soon(condition: Callable[[], object]) -> None:
    """Wait for it, with the patience that a busy machine needs; raises TimeoutError."""
    await eventually(condition, 15)


async def holds(condition: Callable[[], object], what: str, within_s: float = 15.0) -> None:
    """Wait until it does.

    Raises:
        AssertionError: it does not, in time.
    """
    try:
        await eventually(condition, within_s)
    except TimeoutError:
        raise AssertionError(what) from None
