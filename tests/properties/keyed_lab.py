"""A relay with keys of several teams, before a provider that does as the text of a request says:
for properties of whole requests. One relay for all examples, on a loop that runs while one does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from relay.store.engine import make_ready
from tests.fakes.books import Books
from tests.fakes.directory_rows import PEPPER, Rows
from tests.fakes.h1_server import Exchange, H1Server
from tests.fakes.relay_under_test import (
    Document,
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)

CHAT: Final = "/v1/chat/completions"
PRICES: Final = {"m": {"input": 1.0, "output": 10.0}}
"""Dollars a million tokens, so micro-dollars a token."""


class KeyedLab:
    """`keys` by the name of their team; `books` are the relay's own."""

    def __init__(self, relay: RelayUnderTest, books: Books, keys: dict[str, str]) -> None:
        self.relay = relay
        self.books = books
        self.keys = keys

    def headers(self, team: str, **more: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.keys[team]}", **more}

    async def post(self, team: str, path: str, body: Any, **more: str) -> Any:
        """The answer to one request."""
        headers = self.headers(team, **{name.replace("_", "-"): one for name, one in more.items()})
        return await self.relay.http.post(path, json=body, headers=headers)


async def _do_as_it_says(exchange: Exchange) -> None:
    """A text that is JSON is the usage to be told, or an error's status; others are said again."""
    text = orjson.loads(exchange.body)["messages"][-1]["content"]
    usage: Any = {"prompt_tokens": len(text), "completion_tokens": 3, "total_tokens": len(text) + 3}
    if text.startswith("{"):
        wanted = orjson.loads(text)
        if "status" in wanted:
            body = b'{"error":{"message":"no","type":"t"}}'
            length = ("content-length", str(len(body)))
            await exchange.head(wanted["status"], ("content-type", "application/json"), length)
            await exchange.write(body)
            return
        usage, text = wanted, "so be it"
    events = [*answer_chunks("You said: ", text)[:-1], chunk(usage=usage), b"data: [DONE]\n\n"]
    body = b"".join(events)
    kind = ("content-type", "text/event-stream")
    await exchange.head(200, kind, ("content-length", str(len(body))))
    await exchange.write(body)


async def _open(stack: AsyncExitStack, folder: Path, teams: int, more: Document) -> KeyedLab:
    (folder / "pepper").write_text(PEPPER, encoding="utf-8")
    url = f"sqlite:///{folder / 'relay.db'}"
    make_ready(url)
    books = Books(url)
    stack.callback(books.close)
    rows, keys = Rows(books.engine), {}
    for number in range(teams):
        key_id, secret = rows.key(rows.team(rows.organisation()))
        rows.budget("key", key_id, 10**15)
        keys[f"team {number}"] = secret
    server = await stack.enter_async_context(H1Server())
    server.routes[CHAT] = _do_as_it_says
    document = {
        "store": {"url": url},
        "auth": {"pepper": f"${{file:{folder / 'pepper'}}}", "sync_ms": 50},
        "audit": {"anchor": str(folder / "audit.anchor")},
        "budgets": {"default_max_tokens": 100},
        "providers": {"lab": provider(server.url, prices=PRICES)},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        **more,
    }
    relay = await stack.enter_async_context(relay_under_test(document))
    return KeyedLab(relay, books, keys)


@contextmanager
def keyed_lab(
    folder: Path, teams: int = 1, **more: Any
) -> Iterator[tuple[asyncio.Runner, KeyedLab]]:
    """Leaving the block closes all; `more` are further sections of the configuration."""
    stack = AsyncExitStack()
    with asyncio.Runner() as runner:
        lab = runner.run(_open(stack, folder, teams, more))
        try:
            yield runner, lab
        finally:
            runner.run(stack.aclose())
