"""Short side questions that a policy puts to a model about a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from relay.content import GenerateRequest, Message, Policy, Role, Sampling, TextPart


def last_user_text(request: GenerateRequest, max_chars: int | None = None) -> str:
    """The text of the user's last message; of a longer one its beginning and its end."""
    for message in reversed(request.messages):
        if message.role is Role.USER:
            text = "".join(part.text for part in message.parts if isinstance(part, TextPart))
            return text if max_chars is None else shortened(text, max_chars)
    return ""


def shortened(text: str, max_chars: int) -> str:
    """Its beginning and its end, where most of what matters stands."""
    if len(text) <= max_chars:
        return text
    head = max_chars // 2
    return f"{text[:head]}\n[...]\n{text[-(max_chars - head) :]}"


def said(role: Role, text: str) -> Message:
    """A message of plain text."""
    return Message(role, (TextPart(text),))


def side_question(
    request: GenerateRequest,
    messages: Sequence[Message],
    *,
    max_output_tokens: int,
    top_logprobs: int | None = None,
) -> GenerateRequest:
    """A question on behalf of a request: as sure as a model can be, short, without its tools, its
    format and what its client wanted of the relay; who pays, where it may go and what traces it
    stays."""
    policy = request.policy
    return replace(
        request,
        messages=tuple(messages),
        tools=(),
        tool_choice=None,
        parallel_tool_calls=None,
        prefers_one_call=False,
        response_format=None,
        sampling=Sampling(
            temperature=0.0,
            max_output_tokens=max_output_tokens,
            logprobs=True if top_logprobs else None,
            top_logprobs=top_logprobs,
        ),
        want_reasoning=False,
        extra={},
        native={},
        policy=replace(
            policy,
            budgets=Policy().budgets,
            hedge=Policy().hedge,
            commit_on="first_content",
            speculative=False,
            hold_until_commit=False,
            idempotency_key="",
            timeline=False,
        ),
    )
