"""The client and the session of a service, made when they are first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any, Protocol

from rtrelay.client import Client
from rtrelay.session import Generation
from rtrelay.v1 import Budgets, HedgePolicy, OutputOptions, PromptCache


class Answers(Protocol):
    """What a service starts its answers on: `rtrelay.Session`, or whatever does the same."""

    def prepare(self) -> None:
        """Get ready; waits for nothing."""

    def start(
        self,
        prompt: Mapping[str, Any],
        *,
        model: str = "",
        budgets: Budgets | None = None,
        output: OutputOptions | None = None,
        speculative: bool = False,
        turn_id: str = "",
        tags: Iterable[str] = (),
        labels: Mapping[str, str] | None = None,
        hedge: HedgePolicy | None = None,
        prompt_cache: PromptCache.ValueType = PromptCache.PROMPT_CACHE_UNSPECIFIED,
    ) -> Generation:
        """Start an answer to the body of an OpenAI chat completion; waits for nothing."""

    async def aclose(self) -> None:
        """End what runs. Idempotent."""


class Connection:
    """Makes them once, in the loop and the process that use them, and closes what it made."""

    def __init__(
        self,
        addresses: str | Sequence[str],
        client: Client | None,
        client_options: Mapping[str, Any],
        session_options: Mapping[str, Any],
        answers: Callable[[], Answers] | None = None,
    ) -> None:
        """
        Args:
            client: one that others use too; it is not closed here.
            answers: makes something to be used instead of a session.
        """
        self._addresses = addresses
        self._client = client
        self._owns_client = client is None
        self._client_options = client_options
        self._session_options = session_options
        self._make = answers or self._session
        self._answers: Answers | None = None
        self._is_closed = False

    def answers(self) -> Answers:
        """
        Raises:
            RuntimeError: it is closed.
        """
        if self._is_closed:
            raise RuntimeError("the LLM service is closed")
        if self._answers is None:
            self._answers = self._make()
        return self._answers

    async def aclose(self) -> None:
        """Close the session, and the client if it was made here. Idempotent; at most a second or
        so, and if it is cancelled here, all is closed nevertheless."""
        self._is_closed = True
        answers, self._answers = self._answers, None
        try:
            if answers is not None:
                await answers.aclose()
        finally:
            if self._owns_client and self._client is not None:
                client, self._client = self._client, None
                await client.aclose()

    def _session(self) -> Answers:
        if self._client is None:
            names = {"client_name": "pipecat", "client_version": metadata.version("pipecat-ai")}
            self._client = Client(self._addresses, **{**names, **self._client_options})
        return self._client.session(**self._session_options)
