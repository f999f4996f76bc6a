"""Puts the beginning of a session's prompts into a provider's cache before they are needed.

One small generation, sent when the session opens, while the phone rings: its prompt is the prefix,
its answer a few tokens that nobody sees. It is a generation like any other to ledger, limits, drain
and log (`frontend: prewarm`), but none of the client's: nothing of it is written, and whatever goes
wrong with it is only logged.

It asks the one target that a generation of this model would ask first now, and only one whose row
says that it caches prompts: elsewhere it would be money for nothing. With `hedge.keep_second_warm`
the prefix goes to the one that would be hedged to as well, where that is the cheaper, and again
every four minutes while the session lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import structlog

from relay.content import GenerateRequest
from relay.dispatch import Services, look
from relay.errors import CancelReason, ClientCancelled, RelayError
from relay.generation import Generation
from relay.routing.keep_warm import EVERY_S, MOST_READS, OUTPUT_TOKENS
from relay.routing.route import Route
from relay.routing.target import Target
from relay.tokens import estimate_prompt_tokens

_log = structlog.get_logger("relay.prewarm")

TOTAL_S = 20.0
"""After this the first turn has come without it."""


class Prewarm:
    """One prefix on its way; begins when it is made, in a task of its own."""

    def __init__(self, services: Services, request: GenerateRequest, request_id: str) -> None:
        """
        Args:
            request: with the prefix as its prompt.
            request_id: the relay's own, for logs.
        """
        self._services = services
        self._request_id = request_id
        self._generation: Generation | None = None
        self._is_over = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """None where there is nothing to warm."""
        try:
            route = self._route(request)
        except RelayError as error:
            _log.info("prewarm_refused", id=request_id, reason=error.reason.name)
            return
        target = services.planner.first(route)
        if not target.endpoint.caches_prompts:
            _log.info("prewarm_useless", id=request_id, provider=target.endpoint.provider)
            return
        first = self._made(request, target, request_id)
        self.task = asyncio.get_running_loop().create_task(
            self._run(first, route, request, target), name=f"prewarm {request_id}"
        )

    def _made(self, request: GenerateRequest, target: Target, request_id: str) -> Generation:
        """One small generation there."""
        self._services.prewarms += 1
        self._generation = Generation(
            self._services,
            replace(
                request,
                model=target.name,  # no other one, and none after it
                asked_as=request.asked_as or request.model,
                is_prefix=True,
                sampling=replace(request.sampling, max_output_tokens=OUTPUT_TOKENS, choices=None),
            ),
            generation_id=request_id,
            frontend="prewarm",
            total_s=TOTAL_S,
        )
        return self._generation

    def _route(self, request: GenerateRequest) -> Route:
        """
        Raises:
            UnknownModel: nothing has the request's name of a model.
            PermissionDenied, Unauthenticated, StoreDown: the key does not go so far.
        """
        return look(self._services, request, self._request_id, "prewarm").route

    async def _run(
        self, first: Generation, route: Route, request: GenerateRequest, target: Target
    ) -> None:
        if await self._warmed(first) and request.policy.session_id:
            second = self._services.planner.second_to_warm(
                route, target, estimate_prompt_tokens(request)
            )
            if second is not None:
                await self._keep_warm(request, second)

    async def _warmed(self, generation: Generation) -> bool:
        """Whether the prefix is there."""
        is_there = False
        async with generation:
            if await generation.commit():
                async for _ in generation:
                    generation.released()
                is_there = True
        return is_there and generation.end is not None and generation.end.error is None

    async def _keep_warm(self, request: GenerateRequest, second: Target) -> None:
        """At the second, until the session is over or it does not answer."""
        _log.info("keeping_second_warm", id=self._request_id, target=second.name)
        for number in range(1 + MOST_READS):
            if self._is_over.is_set() or self._services.is_draining:
                return
            if not await self._warmed(self._made(request, second, f"{self._request_id}-{number}")):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._is_over.wait()

    def stop(self) -> None:
        """The session is over: nobody needs it any more. Idempotent."""
        self._is_over.set()
        if self._generation is not None:
            self._generation.cancel(
                ClientCancelled("the session is over", CancelReason.SESSION_END)
            )
