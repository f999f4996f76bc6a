"""Which tier a request is for, by one word of a model that is asked before."""

from __future__ import annotations

from typing import Literal

from relay.config.cascades import ClassifierConfig
from relay.content import GenerateRequest, Role
from relay.policy.base import Whole
from relay.policy.questions import last_user_text, said, side_question

Tier = Literal["small", "large"]


class Classifier:
    """One configuration of it; no state."""

    def __init__(self, config: ClassifierConfig) -> None:
        self.config = config
        self.timeout_s = config.timeout_ms / 1e3
        self._tiers: dict[str, Tier] = {
            **{word.casefold(): "small" for word in config.stay_on},
            **{word.casefold(): "large" for word in config.escalate_on},
        }

    def question(self, request: GenerateRequest) -> GenerateRequest:
        """What the model is asked: of the conversation it is shown the user's last message."""
        return side_question(
            request,
            (
                said(Role.SYSTEM, self.config.instruction),
                said(Role.USER, last_user_text(request, self.config.max_chars)),
            ),
            max_output_tokens=self.config.max_output_tokens,
        )

    def tier(self, reply: Whole) -> Tier | None:
        """What it said; None for anything else."""
        words = reply.text.split()
        word = words[0].strip("\"'`*_.,:;!()[]").casefold() if words else ""
        return self._tiers.get(word)
