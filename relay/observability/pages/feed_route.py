"""One viewer's stream: from the feed to his browser, until he goes, is too slow, or may no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from relay.errors import ClientCancelled
from relay.frontends.admin.problems import Problem
from relay.frontends.asgi import ABORT, Receive, Send
from relay.observability.live.feed import Feed, TooManyViewers, Viewer, event
from relay.observability.pages import answers
from relay.store.base import StoreUnavailable

RECHECK_S: Final = 15.0
"""Between looks whether his token still holds."""


async def serve_feed(
    feed: Feed,
    receive: Receive,
    send: Send,
    still: Callable[[], Awaitable[object]],
) -> None:
    """
    Args:
        still: raises Problem when he may look no more.

    Raises:
        Problem: there are too many; nothing was sent.
    """
    try:
        viewer = await feed.join()
    except TooManyViewers as error:
        raise Problem("busy", str(error), retry_s=5.0) from None
    tasks = [
        asyncio.create_task(_write(viewer, send)),
        asyncio.create_task(_until_gone(receive)),
        asyncio.create_task(viewer.dropped.wait()),
        asyncio.create_task(_until_refused(still)),
    ]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        is_refused = tasks[3].done()
    finally:
        feed.leave(viewer)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    if is_refused:
        last = event("refused", {})
        await send({"type": "http.response.body", "body": last})
    else:  # nobody is there, or takes nothing
        await send({"type": ABORT})


async def _write(viewer: Viewer, send: Send) -> None:
    try:
        await answers.stream(send)
        while data := await viewer.next():
            await send({"type": "http.response.body", "body": data, "more_body": True})
    except ClientCancelled:
        pass


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_refused(still: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            await still()
        except Problem as problem:
            if problem.code in ("unauthenticated", "permission_denied"):
                return
        except StoreUnavailable:
            pass  # it cannot be told now, and what he sees is no secret of the store's
