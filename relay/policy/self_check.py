"""How probable it is that an answer is right, by a second short question to a model.

The conversation goes with it as it was, so that a provider's prompt cache holds for it; in place of
the user's last message stands that message, the answer to it and the question. What a model says of
itself is a signal and no proof: figures in docs/cascades.md.

Source: Kadavath et al., "Language Models (Mostly) Know What They Know" (2022), P(True).
"""

from __future__ import annotations

from relay.config.cascades import SelfCheckConfig
from relay.content import GenerateRequest, Message, Role
from relay.policy.base import Whole
from relay.policy.confidence import probability_of
from relay.policy.questions import last_user_text, said, side_question

_YES = frozenset({"yes", "true", "correct"})
_NO = frozenset({"no", "false", "incorrect", "not"})
_TOP_LOGPROBS = 5


class SelfCheck:
    """One configuration of it; no state."""

    def __init__(self, config: SelfCheckConfig) -> None:
        self.config = config
        self.timeout_s = config.timeout_ms / 1e3

    def question(
        self, request: GenerateRequest, answer: str, *, logprobs: bool = True
    ) -> GenerateRequest | None:
        """What the model is asked; None for an answer that is too long to be checked.

        Args:
            logprobs: whether those of the reply are wanted.
        """
        config = self.config
        if len(answer) > config.max_chars:
            return None
        asked = last_user_text(request, config.max_chars)
        text = f"Question:\n{asked}\n\nProposed answer:\n{answer}\n\n{config.instruction}"
        return side_question(
            request,
            (*_before_last_question(request.messages), said(Role.USER, text)),
            max_output_tokens=config.max_output_tokens,
            top_logprobs=_TOP_LOGPROBS if logprobs else None,
        )

    def probability(self, reply: Whole) -> float | None:
        """That the answer is right; None where the reply says neither yes nor no."""
        found = probability_of(reply.logprobs_json, _YES, _NO)
        if found is not None:
            return found
        words = reply.text.split()
        word = words[0].strip("\"'`*_.,:;!()[]").casefold() if words else ""
        return 1.0 if word in _YES else 0.0 if word in _NO else None


def _before_last_question(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """All but the user's last message, where the conversation ends with it."""
    if messages and messages[-1].role is Role.USER:
        return messages[:-1]
    return messages
