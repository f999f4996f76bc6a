"""Token counts from bytes, where a provider has not told them.

Four bytes of UTF-8 a token is the usual figure for English; scripts of three bytes a character
come out near one token a character, which is what current tokenizers give. Calibration per model
by the usage that providers report comes with budgets; every number from here is marked estimated.
"""

from __future__ import annotations

import msgspec

from relay.content import FilePart, GenerateRequest, RefusalPart, TextPart, Usage

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4
"""Role and separators around each message, as chat templates add them."""


MOST_TIMES = 8
"""What bytes say, at most, is a prompt: of scripts and tokenizers unlike the usual."""
UNSEEN_TOKENS = 50_000
"""Of a prompt's images, sound and provider-side additions, which bytes do not tell."""
MOST_PROMPT_TOKENS = 100_000_000
"""No model reads more in one prompt."""
MOST_OUTPUT_TOKENS = 1_000_000
"""No model writes more in one answer."""


def count_bytes(text: str) -> int:
    """UTF-8 length; the common ASCII case does not encode."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate_prompt_tokens(request: GenerateRequest) -> int:
    """Prompt tokens of a request; images and sound are not counted."""
    total_bytes = 0
    for message in request.messages:
        total_bytes += TOKENS_PER_MESSAGE * BYTES_PER_TOKEN + count_bytes(message.reasoning)
        for part in message.parts:
            if isinstance(part, TextPart | RefusalPart):
                total_bytes += count_bytes(part.text)
            elif isinstance(part, FilePart):
                total_bytes += len(part.data_base64) * 3 // 4
        for call in message.tool_calls:
            total_bytes += count_bytes(call.name) + count_bytes(call.arguments)
    for tool in request.tools:
        total_bytes += len(tool.parameters_json) + count_bytes(tool.description)
    tokens = -(-total_bytes // BYTES_PER_TOKEN)
    if request.embedding is not None:
        tokens += sum(-(-count_bytes(text) // BYTES_PER_TOKEN) for text in request.embedding.texts)
        tokens += sum(map(len, request.embedding.tokens))
    return tokens


def is_plausible(usage: Usage, estimated_prompt_tokens: int) -> bool:
    """Whether a provider's count is one to learn from. Counts that were off by a factor of a
    million have been seen, and one would outweigh all that was learnt; images and sound, which
    are not estimated, are some ten thousand tokens."""
    return (
        usage.prompt_tokens <= MOST_TIMES * estimated_prompt_tokens + UNSEEN_TOKENS
        and usage.completion_tokens <= MOST_OUTPUT_TOKENS
    )


def estimate_usage(request: GenerateRequest, output_bytes: int) -> Usage:
    """Usage of a generation whose provider reported none."""
    prompt = estimate_prompt_tokens(request)
    completion = -(-output_bytes // BYTES_PER_TOKEN)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        is_estimated=True,
    )


def mended(usage: Usage, request: GenerateRequest, output_bytes: int) -> Usage:
    """The account of an answer that was told before its end, or not as it should be.

    A wire that counts the prompt first and the answer last has said no more than a token of it when
    it breaks off; counts that cannot be are told as nothing, or as a billion.
    """
    guess = estimate_usage(request, output_bytes)
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    if not 0 < prompt <= MOST_PROMPT_TOKENS:
        prompt = guess.prompt_tokens
    if not guess.completion_tokens <= completion <= MOST_OUTPUT_TOKENS:
        completion = guess.completion_tokens
    if (prompt, completion) == (usage.prompt_tokens, usage.completion_tokens):
        return usage
    return msgspec.structs.replace(
        usage,
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        is_estimated=True,
    )
