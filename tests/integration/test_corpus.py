"""The wire corpus through the relay: real provider bytes in, the official client out.

A fake provider serves every recorded exchange of the OpenAI family over TLS and HTTP/2; the relay
answers over its HTTP shim and over gRPC; the official client and a gRPC client read. Which
exchange is wanted stands in the prompt, so one relay and one provider serve them all.

`make test` cuts long streams at 14 borders each, the last ten among them; `RELAY_FULL=1` cuts
all at every one.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import openai
import orjson
import pytest
import pytest_asyncio
from openai.lib.streaming.chat import ChatCompletionStreamState
from rtrelay.v1 import Outcome, OutputOptions

from tests.fakes.converse_client import details_of, reason_of, start, status_of
from tests.fakes.h2_server import H2Server, ServerStream
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    provider,
    relay_under_test,
)
from tests.fakes.tls import CertAuthority
from tests.fakes.wire_corpus import ABSENT, Case, borders, by_name, cases, said

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.sockets,
    pytest.mark.asyncio(loop_scope="module"),
]

CHAT = "/v1/chat/completions"
IS_FULL = os.environ.get("RELAY_FULL") == "1"
BORDERS_EACH = None if IS_FULL else 14
PROVIDER_KEY = "canary-0123456789-of-our-own-account"
SPARE_WORDS = "from the spare provider"

# --- where the shim's answer differs from the provider's, and why ---------------------------------
#
# The shim speaks one dialect, the strictest that clients of OpenAI need (`check_chunks`). These
# rules change nearly every stream: the role comes with the first content and not in a chunk of its
# own; id and model are the same in all chunks; each chunk has one choice; usage comes alone in the
# last chunk, by the relay's own count where the provider gave none (`is_estimated` over gRPC).
# What else is changed is listed here, rule by rule and case by case: a case that differs in any
# other way fails, and so does one that is listed and is not touched.

FINISH_WORDS = {
    # Only the reasons that OpenAI documents for today's clients; `raw_reason` of gRPC keeps them.
    "openai-chat/nonstream-text--gpt-4--02": ("function_call", "tool_calls"),
    "together/nonstream-text--mixtral-8x7b-instruct-v0.1--01": ("eos", "stop"),
}
REASONING_RENAMED = {
    # `reasoning` is sent as `reasoning_content`, the name that most clients know.
    "cerebras/nonstream-reasoning--gpt-oss-120b--01",
    "groq/nonstream-reasoning--gpt-oss-120b--01",
    "groq/nonstream-tool--gpt-oss-120b--01",
    "groq/stream-error--gpt-oss-120b--01",
    "groq/stream-reasoning--gpt-oss-120b--01",
    "groq/stream-reasoning--gpt-oss-20b--01",
    "groq/stream-tool--gpt-oss-120b--01",
    "ollama/nonstream-parallel-tools--qwen3--01",
    "ollama/nonstream-reasoning--gpt-oss-120b--01",
    "ollama/nonstream-tool--gpt-oss-120b--02",
    "ollama/stream-reasoning--gpt-oss-120b--02",
    "ollama/stream-reasoning--gpt-oss-120b--03",
    "ollama/stream-reasoning--qwen3--03",
    "ollama/stream-tool--gpt-oss-120b--03",
    "ollama/stream-tool--qwen3--01",
    "openrouter/nonstream-parallel-tools--claude-haiku-4.5--03",
    "openrouter/nonstream-reasoning--claude-haiku-4.5--01",
    "openrouter/nonstream-reasoning--gpt-oss-120b--01",
    "openrouter/stream-error--minimax-m2-free--01",
    "openrouter/stream-reasoning--claude-sonnet-4.5--01",
    "openrouter/stream-tool--claude-haiku-4.5--02",
}
CONTENT_LIST_JOINED = {
    # Text is a string and thinking is `reasoning_content`, not parts of a list.
    "mistral/nonstream-text--mistral-small-latest--02",
    "mistral/nonstream-text--mistral-small-latest--03",
    "mistral/stream-reasoning--magistral-medium-latest--01",
    "mistral/stream-reasoning--magistral-medium-latest--02",
}
CALLS_PARTED = {
    # One tool call a chunk.
    "mistral/stream-parallel-tools--mistral-small-latest--01",
}
CALLS_NUMBERED = {
    # Every tool call has an index.
    "mistral/stream-tool--mistral-small-latest--01",
}
CALL_ID_ONCE = {
    # A call's id comes with its first piece and not again.
    "qwen/stream-tool--qwen-turbo--01",
}
LOGPROBS_WAIT = {
    # No chunk before the first content: empty `logprobs` wait for it.
    "openai-chat/stream-text--gpt-5.4--02",
    "openai-chat/stream-truncated--gpt-4.1-mini--01",
}
MESSAGE_LEFT_OUT = {
    # A growing `message` beside the deltas is not sent again.
    "perplexity/stream-text--sonar--02",
}
REASONING_COUNTED = {
    # Completion tokens include reasoning, as OpenAI counts them.
    "xai-chat/stream-tool--grok-3-mini--p01",
}


def rules_touching(case: Case) -> set[str]:
    """Names of the rules above that change a case, found in the provider's own JSON."""
    touched = set()
    for choice in case.choices.values():
        if choice["finish_reason"] in ("eos", "function_call", "model_length"):
            touched.add("FINISH_WORDS")
    usage = case.expected.get("openai_usage")
    if usage and counts_reasoning_apart(usage):
        touched.add("REASONING_COUNTED")
    for choice in case.raw_choices():
        delta = choice.get("delta") or choice.get("message") or {}
        calls = delta.get("tool_calls") or []
        if delta.get("reasoning"):
            touched.add("REASONING_RENAMED")
        if isinstance(delta.get("content"), list):
            touched.add("CONTENT_LIST_JOINED")
        if not case.is_stream:
            continue
        if len(calls) > 1:
            touched.add("CALLS_PARTED")
        if any("index" not in call for call in calls):
            touched.add("CALLS_NUMBERED")
        if any(call.get("id") and not call["function"].get("name") for call in calls):
            touched.add("CALL_ID_ONCE")
        has_text = delta.get("content") or delta.get("reasoning_content")
        if choice.get("logprobs") and not has_text:
            touched.add("LOGPROBS_WAIT")
        if choice.get("delta") and choice.get("message"):
            touched.add("MESSAGE_LEFT_OUT")
    return touched


def counts_reasoning_apart(usage: dict[str, Any]) -> bool:
    parts = usage["prompt_tokens"] + usage["completion_tokens"]
    reasoning = usage.get("reasoning_tokens") or 0
    return bool(reasoning) and usage["total_tokens"] == parts + reasoning


@dataclass
class Choice:
    """One alternative as a client has it; what the provider said is brought into this shape."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, name, arguments."""
    finish: str | None = None


def expected_choices(case: Case) -> dict[int, Choice]:
    """What a client of the shim must get of a case."""
    return {
        index: Choice(
            text=choice["text"],
            reasoning=choice.get("reasoning") or "",
            refusal=choice.get("refusal") or "",
            tool_calls=[(c["id"], c["name"], c["arguments"]) for c in choice["tool_calls"]],
            finish=FINISH_WORDS.get(case.name, (None, choice["finish_reason"]))[1],
        )
        for index, choice in case.choices.items()
    }


# --- the world --------------------------------------------------------------------------------


class World:
    """One relay, one provider that has the corpus, one spare provider."""

    def __init__(self, relay: RelayUnderTest, client: openai.AsyncOpenAI, lab: H2Server) -> None:
        self.relay = relay
        self.client = client
        self.lab = lab


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def world(
    authority: CertAuthority, ca_file: str, monkeymodule: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    if not cases():
        pytest.skip(ABSENT)
    monkeymodule.setenv("CORPUS_KEY", PROVIDER_KEY)
    context = authority.server_context(alpn=("h2",))
    async with H2Server(tls=context) as lab, H2Server(tls=context) as spare:
        lab.routes[CHAT] = serve_case
        spare.routes[CHAT] = serve_spare
        rows = {"auth": "bearer", "api_key": "${CORPUS_KEY}", "ca_file": ca_file}
        document = {
            "providers": {
                "lab": provider(lab.url, **rows),
                "spare": provider(spare.url, **rows),
            },
            "models": {
                "alone": {"candidates": [{"provider": "lab", "model": "m"}]},
                "with-spare": {
                    "candidates": [{"provider": "lab", "model": "m"}],
                    "fallbacks": [{"provider": "spare", "model": "m"}],
                },
            },
        }
        async with relay_under_test(document) as relay, relay.openai() as client:
            yield World(relay, client, lab)


@pytest.fixture(scope="module")
def monkeymodule() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def _nothing_left_behind() -> None:
    """The world outlives each test; that nothing of a test is left is asked at its end."""


async def serve_case(stream: ServerStream) -> None:
    """The body of the case that the prompt names, cut where it says."""
    name, _, border = orjson.loads(stream.body)["messages"][0]["content"].partition("#")
    case = by_name(name)
    body = case.body[: int(border)] if border else case.body
    await stream.send_headers(case.status, case.headers)
    await stream.send(body, end=True)


async def serve_spare(stream: ServerStream) -> None:
    await stream.send_headers()
    await stream.send(b"".join(answer_chunks(SPARE_WORDS)), end=True)


def body_of(case: Case, border: int | None = None, model: str = "alone") -> dict[str, Any]:
    """The request that has the provider serve this case."""
    content = case.name if border is None else f"{case.name}#{border}"
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}]}
    if case.asked_choices > 1:
        body["n"] = case.asked_choices
    return body


# --- reading as clients do --------------------------------------------------------------------


@dataclass
class Reading:
    """One streamed answer, added up by the official client's own accumulator."""

    choices: dict[int, Choice] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: openai.APIError | None = None
    chunks: list[Any] = field(default_factory=list)


async def read_stream(world: World, body: dict[str, Any]) -> Reading:
    reading = Reading()
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    try:
        stream = await world.client.chat.completions.create(
            **body, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            reading.chunks.append(chunk)
            state.handle_chunk(chunk)
    except openai.APIError as error:
        reading.error = error
    if reading.chunks:
        whole = state.current_completion_snapshot
        reading.choices = {choice.index: from_client(choice) for choice in whole.choices}
        reading.usage = whole.usage.model_dump() if whole.usage else None
    return reading


def from_client(choice: Any) -> Choice:
    message = choice.message
    return Choice(
        text=message.content or "",
        reasoning=(message.model_extra or {}).get("reasoning_content") or "",
        refusal=message.refusal or "",
        tool_calls=[
            (call.id, call.function.name, call.function.arguments)
            for call in message.tool_calls or ()
        ],
        finish=choice.finish_reason,
    )


def parameters(*kinds: str) -> list[Any]:
    found = [
        case
        for case in cases()
        if ("stream" in kinds and case.is_stream)
        or ("whole" in kinds and case.error is None)
        or ("error" in kinds and case.error is not None)
    ]
    if not found:
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-corpus")]
    return [pytest.param(case, id=case.name) for case in found]


@pytest.mark.skipif(not cases(), reason=ABSENT)
async def test_rules_touch_the_cases_listed_and_no_others() -> None:
    touched: dict[str, set[str]] = {}
    for case in cases():
        for rule in rules_touching(case):
            touched.setdefault(rule, set()).add(case.name)
    assert touched == {
        "FINISH_WORDS": set(FINISH_WORDS),
        "REASONING_RENAMED": REASONING_RENAMED,
        "CONTENT_LIST_JOINED": CONTENT_LIST_JOINED,
        "CALLS_PARTED": CALLS_PARTED,
        "CALLS_NUMBERED": CALLS_NUMBERED,
        "CALL_ID_ONCE": CALL_ID_ONCE,
        "LOGPROBS_WAIT": LOGPROBS_WAIT,
        "MESSAGE_LEFT_OUT": MESSAGE_LEFT_OUT,
        "REASONING_COUNTED": REASONING_COUNTED,
    }


@pytest.mark.parametrize("case", parameters("whole"))
async def test_streamed_case_is_what_the_provider_said(world: World, case: Case) -> None:
    reading = await read_stream(world, body_of(case))
    if case.is_broken_off:
        assert reading.error is not None
        return
    assert reading.error is None
    assert reading.choices == expected_choices(case)
    check_chunks(reading.chunks)
    check_usage(reading.usage, case)


@pytest.mark.parametrize("case", parameters("whole"))
async def test_whole_case_is_what_the_provider_said(world: World, case: Case) -> None:
    if case.is_broken_off:
        with pytest.raises(openai.InternalServerError):
            await world.client.chat.completions.create(**body_of(case))
        return
    completion = await world.client.chat.completions.create(**body_of(case))
    assert {c.index: from_client(c) for c in completion.choices} == expected_choices(case)
    assert completion.usage is not None
    check_usage(completion.usage.model_dump(), case)


@pytest.mark.parametrize("case", parameters("whole"))
async def test_grpc_says_the_same(world: World, case: Case) -> None:
    result = await world.relay.generate(grpc_start(case))
    answer = result.answer
    assert answer.end is not None
    wanted = expected_choices(case)
    if case.is_broken_off:
        assert answer.end.outcome == Outcome.OUTCOME_FAILED
        assert status_of(result.error).code == 14
    else:
        assert result.error is None
        assert answer.end.outcome == Outcome.OUTCOME_COMPLETED
        finishes = {index: (choice.finish or "").upper() for index, choice in wanted.items()}
        assert answer.finish_reasons == finishes
        raw = {index: choice["finish_reason"] for index, choice in case.choices.items()}
        assert {one.choice: one.raw_reason for one in answer.end.choices} == raw
        assert answer.end.usage_final == case.tells_usage
        assert answer.end.usage.is_estimated != answer.end.usage_final
    for index, choice in wanted.items():
        assert answer.texts.get(index, "") == choice.text
        assert answer.reasonings.get(index, "") == choice.reasoning
        assert answer.refusals.get(index, "") == choice.refusal
        calls = answer.tool_calls.get(index, [])
        assert [
            (call.call.call_id, call.call.name, call.call.arguments) for call in calls
        ] == choice.tool_calls
        # What comes piece by piece adds up to what comes whole.
        pieces = {at: text for (of, at), text in answer.argument_pieces.items() if of == index}
        assert list(pieces.values()) == [arguments for _, _, arguments in choice.tool_calls]


@pytest.mark.parametrize("case", parameters("stream"))
async def test_stream_cut_at_an_event_border_is_never_a_clean_end(world: World, case: Case) -> None:
    wanted = expected_choices(case)
    body = case.body
    for border in borders(body, BORDERS_EACH):
        prefix = said(body[:border], case.asked_choices)
        got = await read_quickly(world, body_of(case, border))
        where = f"cut at {border} of {len(body)}"
        assert (got.error is None) == prefix.is_whole, where
        # Before the first content there is no stream, and the error is the answer itself.
        is_refused = isinstance(got.error, openai.APIStatusError)
        assert is_refused == (got.error is not None and not prefix.has_content), where
        for index, choice in got.choices.items():
            assert wanted[index].text.startswith(choice.text), where
            assert wanted[index].reasoning.startswith(choice.reasoning), where


# --- errors -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A class of error, as clients of either frontend see it."""

    status: int
    grpc_code: int
    reasons: tuple[str, ...]
    moves_on: bool = True
    """Whether another provider is asked."""


BAD_REQUEST = Kind(400, 3, ("UPSTREAM_REJECTED",), moves_on=False)
OUR_KEY = Kind(503, 14, ("UPSTREAM_MISCONFIGURED",))
FORBIDDEN = Kind(403, 7, ("UPSTREAM_PERMISSION_DENIED",))
NO_MODEL = Kind(404, 5, ("UPSTREAM_MODEL_NOT_FOUND",))
BILLING = Kind(429, 9, ("UPSTREAM_QUOTA_EXHAUSTED",))
RATE_LIMIT = Kind(429, 8, ("UPSTREAM_RATE_LIMITED",))
FAULT = Kind(503, 14, ("UPSTREAM_OVERLOADED", "UPSTREAM_FAILED"))
TIMEOUT = Kind(504, 4, ("FIRST_TOKEN_TIMEOUT",))
BLOCKED = Kind(400, 3, ("UPSTREAM_CONTENT_BLOCKED",), moves_on=False)
NO_ANSWER = Kind(502, 14, ("UPSTREAM_TRUNCATED",))

KIND_OF_STATUS = {
    **dict.fromkeys((400, 413, 422), BAD_REQUEST),
    401: OUR_KEY,
    402: BILLING,
    403: FORBIDDEN,
    404: NO_MODEL,
    **dict.fromkeys((408, 504), TIMEOUT),
    **dict.fromkeys((429, 498), RATE_LIMIT),
    **dict.fromkeys((500, 502, 503, 529), FAULT),
}

KIND_BY_WORDS = {
    # What the provider says goes before its status.
    "mistral/error--definitely-not-a-model--01": NO_MODEL,
    "openai-chat/error-429-request-too-large--composed": BAD_REQUEST,
    "openai-chat/error-429-insufficient-quota--composed": BILLING,
    "qwen/error-429-allocated-quota--composed": BILLING,
    "qwen/error-400-arrearage--composed": BILLING,
    "openai-chat/error-400-content-filter-azure--composed": BLOCKED,
    "qwen/error-400-data-inspection--composed": BLOCKED,
    "openrouter/error-403-moderation--composed": BLOCKED,
    # The model called a tool wrongly: not the client's fault, and another try can succeed.
    "groq/error--gpt-oss-120b--01": FAULT,
    # Errors inside a 200, before any content.
    "azure-openai/nonstream-error--openllmetry-testing--01": BLOCKED,
    "openai-chat/stream-200-json-error-body--composed": FAULT,
    "openrouter/nonstream-200-error-body--composed": FAULT,
    "openai-chat/stream-empty-body--composed": NO_ANSWER,
    "vllm/stream-error-mid--composed": FAULT,
}

AFTER_CONTENT = {
    # Inside a 200 and after content (reasoning is content over HTTP): told in the stream, and no
    # other provider is asked.
    "groq/stream-error--gpt-oss-120b--01": FAULT,
    "openrouter/stream-error--minimax-m2-free--01": BAD_REQUEST,
    "openai-chat/stream-error-midstream--composed": FAULT,
    "openrouter/stream-error-midstream--composed": FAULT,
    "openai-chat/stream-cut-without-done--composed": NO_ANSWER,
}


def kind_of(case: Case) -> Kind:
    by_name = AFTER_CONTENT.get(case.name) or KIND_BY_WORDS.get(case.name)
    return by_name or KIND_OF_STATUS[case.status]


@pytest.mark.parametrize("case", parameters("error"))
async def test_error_has_its_class_and_the_providers_words(world: World, case: Case) -> None:
    kind = kind_of(case)
    reading = await read_stream(world, body_of(case))
    error = reading.error
    assert error is not None
    if case.name in AFTER_CONTENT:
        assert reading.chunks
        assert type(error) is openai.APIError
    else:
        assert not reading.chunks
        assert isinstance(error, openai.APIStatusError)
        assert error.status_code == kind.status
        assert error.response.headers["x-should-retry"] == "false", "we tried what may be tried"
        assert error.response.headers["x-relay-attempts"] == "1"
    assert isinstance(error.body, dict)
    assert error.body["x_relay"]["reason"] in kind.reasons
    wanted = case.error or {}
    if kind is not NO_ANSWER:
        facts = error.body["x_relay"]
        if wanted.get("type"):
            assert facts["provider_type"] == wanted["type"]
        if wanted.get("code") is not None:
            assert facts["provider_code"] == str(wanted["code"])
        assert facts["upstream_status"] == str(case.status)
    check_message(error.message, wanted)
    check_secrecy(world, repr(error.body))
    # The same over gRPC.
    result = await world.relay.generate(grpc_start(case))
    status = status_of(result.error)
    assert result.answer.end is not None
    assert result.answer.end.error == status
    assert status.code == kind.grpc_code
    assert reason_of(status) == error.body["x_relay"]["reason"]
    assert status.message in error.message
    check_secrecy(world, str(status))
    # The hint when to come back, where the provider gave one.
    if wanted.get("retry_after_s") is not None:
        assert isinstance(error, openai.APIStatusError)
        hint_s = min(60, wanted["retry_after_s"])
        assert int(error.response.headers["retry-after"]) == max(1, math.ceil(hint_s))
        delay = details_of(status)["RetryInfo"].retry_delay
        assert delay.seconds + delay.nanos / 1e9 == pytest.approx(hint_s, abs=0.001)


@pytest.mark.parametrize("case", parameters("error"))
async def test_error_moves_on_to_another_provider_where_that_can_help(
    world: World, case: Case
) -> None:
    kind = kind_of(case)
    moves_on = kind.moves_on and case.name not in AFTER_CONTENT
    if (case.error or {}).get("retryable"):
        assert moves_on, "what the corpus calls retryable is never given up"
    world.relay.forget()
    reading = await read_stream(world, body_of(case, model="with-spare"))
    if moves_on:
        assert reading.error is None
        assert reading.choices[0].text == SPARE_WORDS
    else:
        assert reading.error is not None
        assert SPARE_WORDS not in "".join(choice.text for choice in reading.choices.values())


def check_message(shown: str, wanted: dict[str, Any]) -> None:
    """The provider's own words are passed on, but for what looks like a key."""
    said_words = (wanted.get("message") or "")[:300].split()
    secret = re.compile(r"sk-|key|Bearer|org-", re.IGNORECASE)
    for word in said_words:
        assert secret.search(word) or word in shown, f"{word!r} is not in {shown!r}"


def check_secrecy(world: World, text: str) -> None:
    """No key, no account, no address of the provider, no markup."""
    assert PROVIDER_KEY not in text
    assert not re.search(r"sk-[A-Za-z0-9]{2}", text)
    assert not re.search(r"\borg-[A-Za-z0-9]{8}", text)
    assert f":{world.lab.port}" not in text
    assert "127.0.0.1" not in text
    assert "<html" not in text.lower()


# --- what holds for every answer of the shim ------------------------------------------------------


def check_chunks(chunks: list[Any]) -> None:
    """The rules that the strictest clients need, whatever the provider did."""
    started: set[int] = set()
    finished: set[int] = set()
    named: set[tuple[int, int]] = set()
    assert len({(chunk.id, chunk.model) for chunk in chunks}) == 1, "id and model are stable"
    *output, last = chunks
    assert last.choices == [], "usage comes alone, last"
    assert last.usage is not None
    for chunk in output:
        assert chunk.usage is None
        assert len(chunk.choices) == 1
        choice = chunk.choices[0]
        delta = choice.delta
        assert choice.index not in finished, "nothing after the finishing chunk"
        assert (delta.role is not None) == (choice.index not in started), "the role comes once"
        started.add(choice.index)
        assert len(delta.tool_calls or ()) <= 1, "one tool call a chunk"
        assert not (delta.content and delta.tool_calls), "either text or a tool call"
        for call in delta.tool_calls or ():
            key = (choice.index, call.index)
            is_first = key not in named
            named.add(key)
            assert (call.id is not None) == is_first, "the id comes with the first piece only"
            assert (call.function.name is not None) == is_first, "so does the name"
        if choice.finish_reason:
            finished.add(choice.index)
    assert finished == started
    for index in started:
        indices = sorted(at for of, at in named if of == index)
        assert indices == list(range(len(indices))), "tool calls are counted without a gap"


def check_usage(usage: dict[str, Any] | None, case: Case) -> None:
    """The provider's figures as OpenAI counts them; the relay's own where it gave none."""
    assert usage is not None
    wanted = case.expected.get("openai_usage")
    if not wanted:
        assert usage["total_tokens"] >= 0
        return
    completion = wanted["completion_tokens"]
    if counts_reasoning_apart(wanted):
        completion += wanted["reasoning_tokens"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (
        wanted["prompt_tokens"],
        completion,
        wanted["total_tokens"],
    )


async def read_quickly(world: World, body: dict[str, Any]) -> Reading:
    """As `read_stream`, with nothing added up but texts: for many cuts."""
    reading = Reading()
    try:
        stream = await world.client.chat.completions.create(**body, stream=True)
        async for chunk in stream:
            for choice in chunk.choices:
                held = reading.choices.setdefault(choice.index, Choice())
                held.text += choice.delta.content or ""
                held.reasoning += (choice.delta.model_extra or {}).get("reasoning_content") or ""
    except openai.APIError as error:
        reading.error = error
    return reading


def grpc_start(case: Case, model: str = "alone") -> Any:
    """The same request as a gRPC start."""
    return start(
        "g",
        model,
        openai_chat_body=orjson.dumps(body_of(case)),
        output=OutputOptions(reasoning=True, tool_arguments=True),
    )
