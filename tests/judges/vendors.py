"""The vendors' own clients, reading a recorded body: what they make of it is the measure.

Each is given the bytes through a transport of its own kind and adds the answer up by itself; only
`google-genai` has no accumulator, so its chunks are joined here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import anthropic
import httpx2
import openai
from google import genai
from google.genai import types
from openai.lib.streaming.chat import ChatCompletionStreamState

from tests.fakes.wire_corpus import Case
from tests.judges.verdict import Choice, Verdict, arguments

PROMPT: Final[list[Any]] = [{"role": "user", "content": "x"}]

_BY_STOP_REASON: Final[Mapping[str, str]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}

_BY_GEMINI_REASON: Final[Mapping[str, str]] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "content_filter",
    "RECITATION": "content_filter",
    "PROHIBITED_CONTENT": "content_filter",
    "MODEL_ARMOR": "content_filter",
}
"""A case with a reason that is not here fails."""


class Recording:
    """An HTTP client that is answered with what is put here, whatever it asks."""

    def __init__(self) -> None:
        self.status = 200
        self.content_type = ""
        self.body = b""
        self.asked: list[httpx2.Request] = []
        """The last request, where there was one."""
        self.client = httpx2.Client(transport=httpx2.MockTransport(self._answer))

    def put(self, body: bytes, content_type: str, status: int = 200) -> None:
        """Answer with this from now on."""
        self.body, self.content_type, self.status = body, content_type, status

    def put_case(self, case: Case) -> None:
        """Answer with the body of a case. Other headers speak of an encoding that the recorder has
        undone."""
        self.put(case.body, dict(case.headers_as_sent).get("content-type", ""), case.status)

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.asked = [request]
        headers = {"content-type": self.content_type} if self.content_type else {}
        return httpx2.Response(self.status, headers=headers, content=self.body)


# Clients are made once: making one loads the machine's trusted roots.


@cache
def openai_client() -> tuple[Recording, openai.OpenAI]:
    """OpenAI's client, and what answers it."""
    recording = Recording()
    client = openai.OpenAI(
        api_key="k", base_url="http://p/v1", http_client=recording.client, max_retries=0
    )
    return recording, client


@cache
def anthropic_client() -> tuple[Recording, anthropic.Anthropic]:
    """Anthropic's client, and what answers it."""
    recording = Recording()
    client = anthropic.Anthropic(
        api_key="k", base_url="http://p", http_client=recording.client, max_retries=0
    )
    return recording, client


@cache
def google_client() -> tuple[Recording, genai.Client]:
    """Google's client, and what answers it."""
    recording = Recording()
    options = types.HttpOptions(base_url="http://p", httpx_client=recording.client)
    return recording, genai.Client(api_key="k", http_options=options)


# --- OpenAI: chat completions -----------------------------------------------------------------


def read_chat(case: Case) -> Verdict:
    """By `openai`: `ChatCompletionStreamState`, or the completion."""
    recording, client = openai_client()
    recording.put_case(case)
    if not case.is_stream:
        return from_completion(client.chat.completions.create(model="m", messages=PROMPT))
    return add_up(client.chat.completions.create(model="m", messages=PROMPT, stream=True))


def add_up(chunks: Any) -> Verdict:
    """The answer that OpenAI's accumulator makes of chunks."""
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    usage = None
    for chunk in chunks:
        state.handle_chunk(chunk)
        usage = chunk.usage or usage
    verdict = from_completion(state.current_completion_snapshot)
    verdict.usage = _usage(usage)
    return verdict


def from_completion(completion: Any) -> Verdict:
    """The answer in a completion."""
    return Verdict(
        {
            choice.index: Choice(
                choice.message.content or "",
                choice.message.refusal or "",
                [
                    (call.id, call.function.name, arguments(call.function.arguments))
                    for call in choice.message.tool_calls or ()
                ],
                choice.finish_reason,
                choice.finish_reason,
            )
            for choice in completion.choices
        },
        _usage(completion.usage),
    )


def _usage(usage: Any) -> tuple[int, int, int] | None:
    return usage and (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


# --- OpenAI: responses ------------------------------------------------------------------------


def read_responses(case: Case) -> Verdict:
    """By `openai`: the response that its stream ends with, which must say what its events said."""
    recording, client = openai_client()
    recording.put_case(case)
    if not case.is_stream:
        return from_response(client.responses.create(model="m", input="x"))
    told, response = "", None
    with client.responses.stream(model="m", input="x") as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                told += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                response = event.response
    assert response is not None
    assert told == response.output_text
    return from_response(response)


def from_response(response: Any) -> Verdict:
    """The answer in a response."""
    calls = [
        (item.call_id, item.name, arguments(item.arguments))
        for item in response.output
        if item.type == "function_call"
    ]
    refusals = [
        part.refusal
        for item in response.output
        if item.type == "message"
        for part in item.content
        if part.type == "refusal"
    ]
    reason = response.incomplete_details and response.incomplete_details.reason
    finish = {"max_output_tokens": "length", "content_filter": "content_filter"}.get(reason or "")
    usage = response.usage
    choice = Choice(
        response.output_text,
        "".join(refusals),
        calls,
        finish or ("tool_calls" if calls else "stop"),
        reason or response.status,
    )
    counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens) if usage else None
    return Verdict({0: choice}, counts)


# --- Anthropic --------------------------------------------------------------------------------


def read_anthropic(case: Case) -> Verdict:
    """By `anthropic`: the message that its `MessageStream` adds up."""
    recording, client = anthropic_client()
    recording.put_case(case)
    # Blocks of beta features are added up by the beta client only.
    ask: Mapping[str, Any] = {"model": "m", "max_tokens": 1, "messages": PROMPT}
    if not case.is_stream:
        return from_message(client.beta.messages.create(**ask))
    with client.beta.messages.stream(**ask) as stream:
        return from_message(stream.get_final_message())


def from_message(message: Any) -> Verdict:
    """The answer in a message."""
    usage = message.usage
    prompt = (
        usage.input_tokens
        + (usage.cache_creation_input_tokens or 0)
        + (usage.cache_read_input_tokens or 0)
    )
    choice = Choice(
        "".join(block.text for block in message.content if block.type == "text"),
        "",
        [(block.id, block.name, block.input) for block in message.content if _is_call(block)],
        _BY_STOP_REASON[message.stop_reason],
        message.stop_reason,
    )
    return Verdict({0: choice}, (prompt, usage.output_tokens, prompt + usage.output_tokens))


def _is_call(block: Any) -> bool:
    return bool(block.type == "tool_use")


# --- Google -----------------------------------------------------------------------------------


def read_gemini(case: Case) -> Verdict:
    """By `google-genai`: its chunks, joined."""
    recording, client = google_client()
    recording.put_case(case)
    if not case.kind.startswith("stream"):
        return _joined([client.models.generate_content(model="m", contents="x")])
    if case.body.lstrip().startswith(b"["):
        # A stream asked for without `alt=sse`, which this client never does: as it asks.
        events = [b"data: %b\n\n" % json.dumps(one).encode() for one in json.loads(case.body)]
        recording.put(b"".join(events), "text/event-stream")
    return _joined(list(client.models.generate_content_stream(model="m", contents="x")))


def _joined(chunks: list[types.GenerateContentResponse]) -> Verdict:
    verdict = Verdict()
    for chunk in chunks:
        if chunk.prompt_feedback and chunk.prompt_feedback.block_reason:
            raw = chunk.prompt_feedback.block_reason.name
            verdict.choices[0] = Choice(finish="content_filter", raw_finish=raw)
        for candidate in chunk.candidates or ():
            choice = verdict.choices.setdefault(candidate.index or 0, Choice())
            _add_candidate(choice, candidate)
        if (counts := chunk.usage_metadata) and counts.total_token_count is not None:
            prompt = (counts.prompt_token_count or 0) + (counts.tool_use_prompt_token_count or 0)
            completion = (counts.candidates_token_count or 0) + (counts.thoughts_token_count or 0)
            verdict.usage = (prompt, completion, counts.total_token_count)
    for choice in verdict.choices.values():
        if choice.calls and choice.finish == "stop":
            choice.finish = "tool_calls"
    return verdict


def _add_candidate(choice: Choice, candidate: types.Candidate) -> None:
    parts = (candidate.content and candidate.content.parts) or ()
    for part in parts:
        if part.text and not part.thought:
            choice.text += part.text
        call = part.function_call
        if call is not None:
            choice.calls.append((call.id or "", call.name or "", call.args or {}))
    if candidate.finish_reason:
        choice.raw_finish = candidate.finish_reason.name
        choice.finish = _BY_GEMINI_REASON[choice.raw_finish]


READERS: Final[Mapping[str, Callable[[Case], Verdict]]] = {
    "openai_chat": read_chat,
    "openai_responses": read_responses,
    "anthropic_messages": read_anthropic,
    "gemini": read_gemini,
}
"""By wire. Ollama's own client is not among the judges."""
