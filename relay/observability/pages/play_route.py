"""The playground's routes: what may be asked, and one answer as it comes.

The generation runs in a worker, as any other does (`relay.observability.live.play`): the page holds
no key, and needs no CORS, since it speaks to its own listener. Where keys are needed the
administrator names one that pays; its scopes, limits and budgets hold, and the audit log says who
did that. He could not name a key that he may not make or change himself: the permission is of
owners and admins of the whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.administration.desk import Desk
from relay.administration.faults import Fault
from relay.administration.keys import keys, show_key
from relay.administration.roles import Actor
from relay.errors import InvalidRequest, RequestTooLarge
from relay.frontends.admin.problems import Problem
from relay.frontends.asgi import Receive, Scope, Send, header, read_body
from relay.governance import audit_actions as actions
from relay.governance.audit_trail import Trail
from relay.observability.live.feed import event
from relay.observability.live.play import BEGIN, MODELS, MORE, STOP, new_id
from relay.observability.live.workers import Workers
from relay.observability.pages import answers

LOOK_S: Final = 0.04
"""Between looks at what has come: nobody sees less. Moments are the worker's own."""
BEGIN_S: Final = 1.5
"""After so long a worker that was stuck begins nothing: by then another was asked."""
MAX_BODY_BYTES: Final = 128 * 1024
MAX_TOKENS: Final = 32_768
_HEDGES: Final = ("auto", "off", "race")
_FIELDS: Final = ("model", "prompt", "system", "hedge", "max_tokens", "key_id")
_MOST_CHARS: Final = {"model": 512, "prompt": 100_000, "system": 20_000, "key_id": 64}


class PlayRoutes:
    """Of one admin listener.

    Args:
        desk: where keys are looked up; None where there are none.
        trail: is told who spent.
    """

    def __init__(self, workers: Workers, desk: Desk | None, trail: Trail | None) -> None:
        self._workers = workers
        self._desk = desk
        self._trail = trail

    async def models(self, actor: Actor | None) -> dict[str, Any]:
        """What may be asked for, and who may pay (`keys`, None where there are none).

        Raises:
            Problem: no worker can be asked.
            StoreUnavailable
        """
        found = await self._workers.ask(MODELS)
        told = next((one for one in found.values() if isinstance(one, Mapping)), None)
        if told is None:
            raise Problem("unavailable", "no worker answers now", retry_s=1.0)
        payers = None
        if self._desk is not None and actor is not None:
            rows = await asyncio.to_thread(keys, self._desk, actor)
            payers = [
                {"id": str(row["id"]), "name": str(row["name"])}
                for row in rows
                if row["revoked_at_us"] is None
            ][:500]
        return {**told, "keys": payers}

    async def serve(self, scope: Scope, receive: Receive, send: Send, actor: Actor | None) -> None:
        """One generation, as events: `begin`, `more` and at last `end`. Who goes away cancels it.

        Raises:
            Problem: it did not begin; nothing was sent.
            ClientCancelled: he went before.
            StoreUnavailable
        """
        order = await self._order(scope, receive, actor)
        play_id = new_id()
        number = await self._begin(play_id, order)
        if self._trail is not None and actor is not None:
            self._trail.note(
                actions.PLAYGROUND_USED,
                at_us=time.time_ns() // 1000,
                actor=actor.name,
                subject=order["model"],
                detail={"key": order["key_id"], "generation": play_id},
            )
        gone = asyncio.create_task(_until_gone(receive))
        telling = asyncio.create_task(self._tell(send, number, play_id, order["model"]))
        try:
            await asyncio.wait({gone, telling}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            for task in (gone, telling):
                task.cancel()
            await asyncio.wait({gone, telling})
            await self._workers.ask(STOP, play_id, of=number.__eq__)

    async def _begin(self, play_id: str, order: dict[str, Any]) -> int:
        """At a worker that serves; its number. A worker that did not answer may have begun it all
        the same, and is told to stop before anybody hears of the one that did.

        Raises:
            Problem: none takes it.
        """
        why = "no worker answers now"
        doubtful: set[int] = set()
        try:
            for number, place in self._workers.places().items():
                if place["status"] != "ready":
                    continue
                given = {**order, "id": play_id, "by_s": time.time() + BEGIN_S}
                told = (await self._workers.ask(BEGIN, given, of=number.__eq__)).get(number)
                if isinstance(told, Mapping) and "id" in told:
                    return number
                if isinstance(told, Mapping):
                    why = told["refused"]
                else:
                    doubtful.add(number)
            raise Problem("unavailable", why, retry_s=1.0)
        finally:
            if doubtful:
                await self._workers.ask(STOP, play_id, of=doubtful.__contains__)

    async def _tell(self, send: Send, number: int, play_id: str, model: str) -> None:
        await answers.stream(send)
        begun = event("begin", {"id": play_id, "model": model, "worker": number})
        await send({"type": "http.response.body", "body": begun, "more_body": True})
        before: Any = None
        failures = 0
        while True:
            told = (await self._workers.ask(MORE, play_id, of=number.__eq__)).get(number)
            if not isinstance(told, Mapping):
                failures += 1
                if told is None or failures > 2:
                    lost = event("lost", {"why": "the worker that ran it is gone"})
                    await send({"type": "http.response.body", "body": lost})
                    return
                await asyncio.sleep(LOOK_S)
                continue
            failures = 0
            is_over = told["end"] is not None
            data = event("end" if is_over else "more", told)
            now = (told["attempts"], told["hedge"], told["committed"])
            if is_over or told["pieces"] or now != before:
                more = not is_over
                await send({"type": "http.response.body", "body": data, "more_body": more})
            if is_over:
                return
            before = now
            await asyncio.sleep(LOOK_S)

    async def _order(self, scope: Scope, receive: Receive, actor: Actor | None) -> dict[str, Any]:
        """
        Raises:
            Problem: a field is wrong, which it names.
        """
        if header(scope, b"content-type").partition(";")[0].strip() != "application/json":
            raise Problem("invalid", "content-type must be application/json", field="content-type")
        try:
            body = orjson.loads(await read_body(scope, receive, MAX_BODY_BYTES))
        except RequestTooLarge:
            raise Problem("too_large") from None
        except InvalidRequest as error:
            raise Problem("invalid", error.public_message) from None
        except orjson.JSONDecodeError:
            raise Problem("invalid", "the body is no JSON") from None
        order = checked(body)
        order["tenant"] = ""
        if self._desk is None or actor is None:
            if order["key_id"]:
                raise Problem("invalid", "there are no keys here", field="key_id")
        elif not order["key_id"]:
            raise Problem("invalid", "key_id must name the key that pays", field="key_id")
        else:
            try:
                row = await asyncio.to_thread(show_key, self._desk, actor, order["key_id"])
            except Fault as fault:
                raise Problem.of(fault) from None
            order["key_id"], order["tenant"] = str(row["id"]), str(row["team_id"])
        return order


def checked(body: object) -> dict[str, Any]:
    """The order of a body, every field in it.

    Raises:
        Problem: a field is missing or wrong, which it names.
    """
    if not isinstance(body, dict):
        raise Problem("invalid", "the body must be an object")
    for name in body:
        if name not in _FIELDS:
            raise Problem("invalid", f"{str(name)[:64]} is not known", field=str(name)[:64])
    order: dict[str, Any] = {}
    for name, most in _MOST_CHARS.items():
        value = body.get(name) or ""
        if not isinstance(value, str) or len(value) > most:
            raise Problem(
                "invalid", f"{name} must be a text of up to {most} characters", field=name
            )
        order[name] = value
    for name in ("model", "prompt"):
        if not order[name].strip():
            raise Problem("invalid", f"{name} is missing", field=name)
    order["hedge"] = body.get("hedge") or "auto"
    if order["hedge"] not in _HEDGES:
        raise Problem("invalid", f"hedge must be one of {', '.join(_HEDGES)}", field="hedge")
    tokens = body.get("max_tokens")
    if tokens is not None and (type(tokens) is not int or not 1 <= tokens <= MAX_TOKENS):
        words = f"max_tokens must be a whole number from 1 to {MAX_TOKENS}"
        raise Problem("invalid", words, field="max_tokens")
    order["max_tokens"] = tokens
    return order


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
