"""The LLM that an agent session is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from livekit.agents import llm
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)

from rtrelay.livekit._plugin import version
from rtrelay.livekit.options import RelayOptions, check_options

if TYPE_CHECKING:
    from rtrelay.client import Client
    from rtrelay.livekit._transport import Transport
    from rtrelay.livekit.stream import LLMStream
    from rtrelay.v1 import End, Prompt


@dataclass(frozen=True, slots=True)
class GenerationEnded:
    """What the event `generation_ended` brings, for completed, cancelled and failed ones."""

    end: End
    """The relay's word on it: provider and model, usage, all attempts, timeline."""
    was_cancelled: bool
    """By this side: a barge-in, a speculation that was discarded."""
    was_speculative: bool


class LLM(llm.LLM[Literal["generation_ended", "text_retracted"]]):
    """Answers come from a relay, over one gRPC session that is opened when it is first needed.

    Time limits, failover and races are the relay's: LiveKit's own retries stay out of it, since
    failures are told as not retryable. A timeout that the caller sets (`APIConnectOptions.timeout`
    other than its default, as FallbackAdapter does) limits the time to the first token.

    Inside of an agent session requests carry LiveKit's id of the speech as turn, and answers that
    LiveKit starts before the caller has finished are speculative until it decides to use them; no
    code in the agent is needed for either. `metrics_collected` brings usage also of cancelled
    answers; the event `generation_ended` brings `GenerationEnded`, and `text_retracted` the
    `rtrelay.Retract` of a guardrail.

    Belongs to one event loop. `aclose` it, or use `async with`: the agent session that it is given
    to does not close it.
    """

    def __init__(
        self,
        addresses: str | Sequence[str] = "127.0.0.1:50051",
        *,
        model: str,
        client: Client | None = None,
        temperature: float | None = None,
        max_completion_tokens: int | None = None,
        reasoning_effort: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        relay: RelayOptions | None = None,
        strict_tool_schema: bool = True,
        prewarm_prompt: Prompt | None = None,
        _transport: Transport | None = None,
        **client_options: Any,
    ) -> None:
        """
        Args:
            addresses: of relays, in the order in which they are tried.
            model: an alias of the relay's, `provider/model`, or a model's own name.
            client: used instead of one of its own, and not closed; `addresses` and client options
                are not looked at then.
            extra_body: further fields of a chat completion, sent with each request.
            relay: what each request asks of the relay.
            strict_tool_schema: have tool schemas that the model must keep to.
            prewarm_prompt: what all prompts begin with, to be put into the provider's cache when
                the session opens.
            client_options: of `rtrelay.Client`: `key`, `credentials`, `reconnect`, ...

        Raises:
            ValueError: an option is not known or wrong.
        """
        super().__init__()
        self._model = model
        self._fields = {
            name: value
            for name, value in (
                ("temperature", temperature),
                ("max_completion_tokens", max_completion_tokens),
                ("reasoning_effort", reasoning_effort),
            )
            if value is not None
        }
        self._fields.update(extra_body or {})
        self._options = check_options(relay or {})
        self._strict_tool_schema = strict_tool_schema
        self._addresses = addresses
        self._client = client
        self._client_options = client_options
        self._prewarm_prompt = prewarm_prompt
        self._transport = _transport

    @property
    def model(self) -> str:
        """As asked of the relay; who answered is in `generation_ended`."""
        return self._model

    @property
    def provider(self) -> str:
        return "rtrelay"

    def chat(
        self,
        *,
        chat_ctx: llm.ChatContext,
        tools: list[llm.Tool] | None = None,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
        parallel_tool_calls: NotGivenOr[bool] = NOT_GIVEN,
        tool_choice: NotGivenOr[llm.ToolChoice] = NOT_GIVEN,
        extra_kwargs: NotGivenOr[dict[str, Any]] = NOT_GIVEN,
    ) -> LLMStream:
        """
        Args:
            extra_kwargs: fields of a chat completion, and `RelayOptions`.

        Raises:
            ValueError: a relay option is not known or wrong.
            RuntimeError: the LLM is closed, or belongs to another event loop.
        """
        from rtrelay.livekit._request import split_arguments, tool_fields
        from rtrelay.livekit.stream import LLMStream

        fields, options = split_arguments(extra_kwargs)
        chosen = tool_fields(
            tools or [], tool_choice, parallel_tool_calls, strict=self._strict_tool_schema
        )
        return LLMStream(
            self,
            chat_ctx=chat_ctx,
            tools=tools or [],
            conn_options=conn_options,
            transport=self._way(),
            fields={**self._fields, **fields, **chosen},
            options={**self._options, **options},
        )

    async def __aenter__(self) -> Self:
        return self

    async def _prewarm_impl(self) -> None:
        await self._way().open()

    async def aclose(self) -> None:
        """End the session with the relay and what still runs on it. Idempotent."""
        await super().aclose()
        if self._transport is not None:
            await self._transport.aclose()

    def _way(self) -> Transport:
        """Made here and not before: plugins are imported, and agents made, where processes fork."""
        if self._transport is None:
            from rtrelay.livekit._transport import SessionTransport

            session: dict[str, Any] = {"model": self._model}
            if self._prewarm_prompt is not None:
                session["prewarm_prompt"] = self._prewarm_prompt
            self._transport = SessionTransport(
                self._make_client, owns_client=self._client is None, session=session
            )
        return self._transport

    def _make_client(self) -> Client:
        if self._client is not None:
            return self._client
        from rtrelay.client import Client

        options = {
            "client_name": "rtrelay-livekit",
            "client_version": version(),
            **self._client_options,
        }
        return Client(self._addresses, **options)
