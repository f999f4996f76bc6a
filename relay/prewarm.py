"""Puts the beginning of a session's prompts into a provider's cache before they are needed.

One small generation, sent when the session opens, while the phone rings: its prompt is the prefix,
its answer a few tokens that nobody sees. It is a generation like any other to ledger, limits, drain
and log (`frontend: prewarm`), but none of the client's: nothing of it is written, and whatever goes
wrong with it is only logged.

It asks the one target that a generation of this model would ask first now, and only one whose row
says that it caches prompts: elsewhere it would be money for nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from relay.content import GenerateRequest
from relay.dispatch import Services, look
from relay.errors import CancelReason, ClientCancelled, RelayError
from relay.generation import Generation
from relay.routing.catalog import Target

_log = structlog.get_logger("relay.prewarm")

TOTAL_S = 20.0
"""After this the first turn has come without it."""

OUTPUT_TOKENS = 16
"""The least that OpenAI's Responses API takes."""


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
        self.task: asyncio.Task[None] | None = None
        """None where there is nothing to warm."""
        try:
            target = self._target(request)
        except RelayError as error:
            _log.info("prewarm_refused", id=request_id, reason=error.reason.name)
            return
        if not target.endpoint.caches_prompts:
            _log.info("prewarm_useless", id=request_id, provider=target.endpoint.provider)
            return
        services.prewarms += 1
        self._generation = Generation(
            services,
            replace(
                request,
                model=target.name,  # no other one, and none after it
                asked_as=request.model,
                sampling=replace(request.sampling, max_output_tokens=OUTPUT_TOKENS, choices=None),
            ),
            generation_id=request_id,
            frontend="prewarm",
            total_s=TOTAL_S,
        )
        self.task = asyncio.get_running_loop().create_task(
            self._run(self._generation), name=f"prewarm {request_id}"
        )

    def _target(self, request: GenerateRequest) -> Target:
        """
        Raises:
            UnknownModel: nothing has the request's name of a model.
            PermissionDenied, Unauthenticated, StoreDown: the key does not go so far.
        """
        services = self._services
        return services.planner.first(look(services, request, self._request_id, "prewarm").route)

    async def _run(self, generation: Generation) -> None:
        async with generation:
            if await generation.commit():
                async for _ in generation:
                    generation.released()

    def stop(self) -> None:
        """The session is over: nobody needs it any more. Idempotent."""
        if self._generation is not None:
            self._generation.cancel(
                ClientCancelled("the session is over", CancelReason.SESSION_END)
            )
