"""Reads a small model's answer and says whether it will do, as early as that can be said.

Nothing is released here: a verdict of "good" lets the cascade do so. It comes before the answer's
end where only its opening is judged: no refusal so far, and sure enough over its first tokens. What
needs the whole answer (JSON, tool calls, a cut-off, a self-check) waits for its end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import orjson

from relay.config.cascades import CascadeConfig
from relay.content import (
    AudioDelta,
    Events,
    FinishReason,
    GenerateRequest,
    OpaqueDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDone,
    ToolCallStart,
)
from relay.policy.base import Leg, Whole
from relay.policy.confidence import Confidence
from relay.policy.refusals import OPENING_CHARS, Refusals, refusals_of
from relay.policy.schema_check import is_broken
from relay.tokens import BYTES_PER_TOKEN, count_bytes

MIN_UNSURE_TOKENS: Final = 4
"""Before an answer's mean can look unsure."""
LOOK_CHARS: Final = 24
"""An opening is looked at again when it has grown by so many, and before it is released."""
MAX_HELD_CHARS: Final = 1 << 20
"""Of an answer without a verdict; a longer one is for the large model."""


class Verdict(NamedTuple):
    """On an answer, or as much as has come of it."""

    is_good: bool
    reason: str
    """`accepted`, or why not."""
    whole: Whole | None = None
    """The answer, where it was read to its end."""


class Watch:
    """Of one answer.

    Args:
        config: of the cascade.
        request: as the client asked it.
        asks_logprobs: whether the provider was asked for log probabilities.
        check: the self-check of a whole answer: a reason against it, or "" for none.
        on_unsure: called once, when the first tokens look unsure.
    """

    def __init__(
        self,
        config: CascadeConfig,
        request: GenerateRequest,
        *,
        asks_logprobs: bool,
        check: Callable[[Whole], Awaitable[str]] | None,
        on_unsure: Callable[[], None] | None = None,
    ) -> None:
        escalate = config.escalate
        self._escalate = escalate
        self._request = request
        self._check = check
        self._on_unsure = on_unsure
        speculate = config.speculate
        self._unsure_below = speculate.unsure_below if speculate is not None else None
        self._refusals: Refusals | None = None
        if escalate.refusal:
            self._refusals = refusals_of(escalate.phrases)
        logprobs = escalate.logprobs
        self._asks_logprobs = asks_logprobs and logprobs is not None
        limit = logprobs.tokens if logprobs is not None else 1
        self._confidence = Confidence(None if limit == "all" else limit)
        self._format = request.response_format
        self._holds_schema = (
            escalate.schema_ and self._format is not None and self._format.kind != "text"
        )
        after = config.commit_after_tokens
        self._after_tokens = 0 if after == "all" else after
        self._holds_all = (
            after == "all"
            or self._holds_schema
            or check is not None
            or escalate.length
            or (logprobs is not None and limit == "all")
            or (request.sampling.choices or 1) > 1
        )
        self._opening = ""
        self._looked_chars = 0
        self._held_chars = 0
        self._bytes = 0
        self._sounds = 0
        self._is_call = False

    async def verdict(self, leg: Leg) -> Verdict:
        """Read until there is one.

        Raises:
            RelayError: the answer broke before.

        Cancelled: the leg runs on.
        """
        while True:
            events = await leg.read()
            if not events:
                break
            reason = self._against(events)
            if reason:
                return Verdict(False, reason)
            if not self._holds_all and self._may_commit():
                is_refused = self._refuses()
                return Verdict(not is_refused, "refusal" if is_refused else "accepted")
        whole = await leg.whole()
        reason = await self._against_whole(whole)
        return Verdict(not reason, reason or "accepted", whole)

    # --- as it comes ------------------------------------------------------------------------

    def _against(self, events: Events) -> str:
        """What speaks against the answer so far; "" for nothing."""
        has_news = False
        for event in events:
            kind = type(event)
            if isinstance(event, TextDelta):
                self._held_chars += len(event.text)
                self._bytes += count_bytes(event.text)
                if event.choice == 0 and len(self._opening) < OPENING_CHARS:
                    self._opening += event.text
                    if len(self._opening) - self._looked_chars >= LOOK_CHARS and self._refuses():
                        return "refusal"
            elif isinstance(event, OpaqueDelta):
                is_looked_at = self._asks_logprobs and not self._confidence.is_full
                if is_looked_at and event.key == "logprobs":
                    self._confidence.take(event.value_json)
                    has_news = True
            elif kind is RefusalDelta:
                if self._refusals is not None:
                    return "refusal"
            elif isinstance(event, ToolCallStart):
                self._holds_all |= self._escalate.tool_arguments
                self._is_call = True
            elif isinstance(event, ToolCallDone):
                self._held_chars += len(event.arguments)
            elif kind is AudioDelta:
                self._sounds += 1
        if self._held_chars > MAX_HELD_CHARS:
            return "held"
        return self._against_confidence() if has_news else ""

    def _refuses(self) -> bool:
        """Whether the opening is a refusal, as far as it has come."""
        self._looked_chars = len(self._opening)
        return self._refusals is not None and self._refusals.is_one(self._opening)

    def _against_confidence(self) -> str:
        logprobs, confidence = self._escalate.logprobs, self._confidence
        if logprobs is None or confidence.mean is None:
            return ""
        if (
            self._on_unsure is not None
            and self._unsure_below is not None
            and confidence.tokens >= MIN_UNSURE_TOKENS
            and confidence.mean < self._unsure_below
        ):
            self._on_unsure()
            self._on_unsure = None
        # One token that is below the limit stays so; a mean counts when all of its tokens are here.
        is_full = confidence.is_full
        low = confidence.is_low(logprobs.mean_below if is_full else None, logprobs.min_below)
        return "logprobs" if low else ""

    def _may_commit(self) -> bool:
        """Whether what has come is enough to release it."""
        if self._is_call:
            return True  # one that is not checked, and that has no log probabilities
        tokens = max(self._confidence.tokens, self._bytes // BYTES_PER_TOKEN, self._sounds)
        if tokens < max(1, self._after_tokens):
            return False
        if self._refusals is not None and self._refusals.may_become_one(self._opening):
            return False
        return not self._asks_logprobs or self._confidence.is_full or self._has_no_logprobs

    @property
    def _has_no_logprobs(self) -> bool:
        """Whether so much text has come without any that none will; it is then said at the end who
        answers, unless that is the small model anyhow."""
        logprobs = self._escalate.logprobs
        return (
            logprobs is not None
            and logprobs.on_missing == "small"
            and self._confidence.tokens == 0
            and self._bytes // BYTES_PER_TOKEN >= self._after_tokens
        )

    # --- at the end -------------------------------------------------------------------------

    async def _against_whole(self, whole: Whole) -> str:
        escalate = self._escalate
        if escalate.refusal and is_refused(whole, self._refusals):
            return "refusal"
        if escalate.empty and is_empty(whole) and not self._sounds:
            return "empty"
        if escalate.length and FinishReason.LENGTH in whole.finish.values():
            return "length"
        return (
            self._against_logprobs()
            or await self._against_tool_calls(whole)
            or await self._against_schema(whole)
            or (await self._check(whole) if self._check is not None else "")
        )

    def _against_logprobs(self) -> str:
        logprobs, confidence = self._escalate.logprobs, self._confidence
        if logprobs is None:
            return ""
        if confidence.tokens == 0:
            if not self._bytes:  # a tool call, which has none
                return ""
            return "logprobs_missing" if logprobs.on_missing == "large" else ""
        return "logprobs" if confidence.is_low(logprobs.mean_below, logprobs.min_below) else ""

    async def _against_tool_calls(self, whole: Whole) -> str:
        if not self._escalate.tool_arguments:
            return ""
        offered = {tool.name: tool for tool in self._request.tools}
        for call in whole.tool_calls:
            if call.kind != "function":
                continue
            tool = offered.get(call.name)
            if tool is None or call.is_partial or not _is_object(call.arguments):
                return "tool_arguments"
            schema_json = tool.parameters_json
            if schema_json and await is_broken(call.arguments or "{}", schema_json):
                return "tool_arguments"
        return ""

    async def _against_schema(self, whole: Whole) -> str:
        """Of text; a tool call in its place is no answer yet."""
        if not self._holds_schema or self._format is None or (whole.tool_calls and not whole.text):
            return ""
        for text in whole.texts.values() or ("",):
            if await is_broken(text, self._format.schema_json):
                return "schema"
        return ""


def is_refused(whole: Whole, refusals: Refusals | None) -> bool:
    """Whether the provider or the model refused."""
    if any(whole.refusals.values()) or FinishReason.CONTENT_FILTER in whole.finish.values():
        return True
    return refusals is not None and any(refusals.is_one(text) for text in whole.texts.values())


def is_empty(whole: Whole) -> bool:
    """Whether there is neither text nor a call."""
    has_text = any(text.strip() for text in whole.texts.values())
    return not has_text and not whole.tool_calls and not any(whole.refusals.values())


def is_usable(whole: Whole, refusals: Refusals | None) -> bool:
    """Whether it may stand in where the large model has failed: complete, and no refusal."""
    is_complete = bool(whole.finish) and all(
        reason in (FinishReason.STOP, FinishReason.TOOL_CALLS) for reason in whole.finish.values()
    )
    return is_complete and not is_empty(whole) and not is_refused(whole, refusals)


def _is_object(arguments: str) -> bool:
    """Whether they are a JSON object; none at all is the call of a tool without any."""
    if not arguments:
        return True
    try:
        return isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        return False
