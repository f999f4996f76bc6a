"""The side questions of one request in a cascade: bounded in time, an answer for each failure."""

from __future__ import annotations

import asyncio

from relay.content import GenerateRequest
from relay.errors import AllAttemptsFailed, RelayError, UnsupportedFeature
from relay.policy.base import Legs, Whole
from relay.policy.cascade_parts import CascadeParts
from relay.policy.classifier import Tier


class Asides:
    """See the module; bound to the request."""

    def __init__(self, parts: CascadeParts, request: GenerateRequest, legs: Legs) -> None:
        self._parts = parts
        self._request = request
        self._legs = legs

    async def classified(self) -> Tier:
        """Which tier the classifier chooses, or its failure."""
        classifier = self._parts.classifier
        if classifier is None:
            return "small"
        config = classifier.config
        question = classifier.question(self._request)
        try:
            reply = await self._reply("classifier", config.model, question, classifier.timeout_s)
        except RelayError:
            return config.on_failure
        return (classifier.tier(reply) if reply is not None else None) or config.on_failure

    async def self_checked(self, whole: Whole) -> str:
        """What the check says against an answer; "" for nothing."""
        check = self._parts.self_check
        if check is None or not whole.text.strip():
            return ""  # a tool call is not checked
        config = check.config
        failed = "self_check_failed" if config.on_failure == "large" else ""
        model = config.model or self._parts.config.small
        for logprobs in (True, False):
            question = check.question(self._request, whole.text, logprobs=logprobs)
            if question is None:
                return failed
            try:
                reply = await self._reply("self_check", model, question, check.timeout_s)
            except RelayError as error:
                if logprobs and is_about_logprobs(error):
                    continue
                return failed
            found = check.probability(reply) if reply is not None else None
            if found is None:
                return failed
            return "self_check" if found < config.below else ""
        return failed

    async def _reply(
        self, label: str, model: str, question: GenerateRequest, timeout_s: float
    ) -> Whole | None:
        """A whole one, or None where it did not come in time.

        Raises:
            RelayError: it failed.

        Cancelled: its leg is too.
        """
        leg = self._legs.start(label, model, question, is_hedged=False)
        try:
            async with asyncio.timeout(timeout_s):
                return await leg.whole()
        except TimeoutError:
            leg.cancel("late")
            return None
        except asyncio.CancelledError:
            leg.cancel("not_needed")
            raise


def is_about_logprobs(error: RelayError) -> bool:
    """Whether no target of a leg can give log probabilities."""
    leading = error.leading if isinstance(error, AllAttemptsFailed) else error
    return isinstance(leading, UnsupportedFeature) and "logprobs" in leading.feature
