"""The neutral model of a conversation: what is asked, and what comes back as a stream.

Requests are frozen dataclasses; nobody mutates them, since several attempts encode the same
one. Stream events are frozen msgspec structs: they are made once per token, so their cost of
construction and their having no garbage-collector header count.

JSON that only passes through (tool schemas, arguments, provider extras) stays JSON: text where
wires carry text, else parsed values that we never look into.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import msgspec

from relay.errors import RelayError

# --- what is asked --------------------------------------------------------------------------


class Role(enum.Enum):
    """Who speaks. `DEVELOPER` becomes `system` on wires that do not know it."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


CacheMark = Mapping[str, Any] | None
"""A client's own `cache_control` on a part or a tool: a hint that the prompt be cached up to there,
for wires that know such marks; others leave it out."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """Plain text."""

    text: str
    cache_control: CacheMark = None


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image by reference or inline; exactly one of `url` and `data_base64` is set."""

    url: str = ""
    data_base64: str = ""
    media_type: str = ""
    """`image/png` and the like; required with `data_base64`."""
    detail: str = ""
    cache_control: CacheMark = None


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Recorded sound, inline."""

    data_base64: str
    format: str
    """`wav`, `mp3`, ... as OpenAI names them."""
    cache_control: CacheMark = None


@dataclass(frozen=True, slots=True)
class FilePart:
    """A document, by the provider's file id or inline."""

    file_id: str = ""
    filename: str = ""
    data_base64: str = ""
    media_type: str = ""
    cache_control: CacheMark = None


@dataclass(frozen=True, slots=True)
class RefusalPart:
    """An assistant's earlier refusal, as structured output reports it."""

    text: str
    cache_control: CacheMark = None


@dataclass(frozen=True, slots=True)
class OpaquePart:
    """A part that we do not read, for the wire named; other wires refuse it by name."""

    wire: str
    value: Mapping[str, Any]


Part = TextPart | ImagePart | AudioPart | FilePart | RefusalPart | OpaquePart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call an assistant made in an earlier turn."""

    call_id: str
    name: str
    arguments: str
    """JSON text as the model wrote it; may be empty or invalid."""
    kind: Literal["function", "custom"] = "function"
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Provider state that must go back unchanged (thought signatures, `extra_content`)."""


@dataclass(frozen=True, slots=True)
class NativeBlocks:
    """The content of a message as the client's own wire has it, for that wire alone: it may hold
    more than the fields beside it, or the same in an order that they cannot tell."""

    wire: str
    blocks: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of the conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    """With role TOOL: which call this is the result of."""
    reasoning: str = ""
    """Reasoning text of an earlier turn, for wires that want it back."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Opaque fields of this message (`reasoning_details`, `extra_content`, ...)."""
    native: NativeBlocks | None = None
    """What its wire is sent instead of the fields above; None where they say all."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call."""

    name: str
    description: str = ""
    parameters_json: bytes = b""
    """JSON Schema of the arguments; empty when the tool takes none."""
    strict: bool | None = None
    opaque: Mapping[str, Any] | None = None
    """The whole definition, for kinds of tool that we do not read (`custom`, built-ins)."""
    opaque_wire: str = ""
    """The wire that `opaque` is written for, where it is known: others read the fields above if
    there is a schema among them, and refuse the tool by its type if there is none."""
    cache_control: CacheMark = None


class ToolChoiceMode(enum.Enum):
    """Whether the model may, must or must not call a tool."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"
    OPAQUE = "opaque"


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`name` is set with NAMED, `opaque` with OPAQUE (`allowed_tools`, custom tools)."""

    mode: ToolChoiceMode
    name: str = ""
    opaque: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What shape the text must have."""

    kind: Literal["text", "json_object", "json_schema"]
    name: str = ""
    description: str = ""
    schema_json: bytes = b""
    strict: bool | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn; None means "the provider's default", which differs from 0."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int | None = None
    """How many alternatives (`n`)."""
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


NO_SAMPLING = Sampling()
"""Of a request that says nothing of it: the same object for all of them."""


@dataclass(frozen=True, slots=True)
class EmbeddingOptions:
    """Texts whose vectors are wanted, and how; with it a request has no messages."""

    texts: tuple[str, ...] = ()
    """Each gives one vector, in order."""
    tokens: tuple[tuple[int, ...], ...] = ()
    """Texts as tokens of the model, for providers that take them; instead of `texts`."""
    dimensions: int | None = None
    as_base64: bool = False
    """Vectors as little-endian float32 in base64, a third of the bytes; else as numbers."""

    @property
    def count(self) -> int:
        """How many vectors are wanted."""
        return len(self.texts) or len(self.tokens)


@dataclass(frozen=True, slots=True)
class ReasoningOptions:
    """How much the model may think before it answers."""

    effort: str = ""
    """none, minimal, low, medium, high, ...; empty for the provider's default."""
    budget_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Budgets:
    """Time limits of one generation in seconds; None is no limit.

    The clock starts when the request was received, so admission and every attempt are part of
    them; a provider's own limits (`Timeouts`) hold beside them, attempt by attempt.
    """

    first_token_s: float | None = None
    """From receipt to the first content."""
    inter_token_s: float | None = None
    """The longest silence of the provider after the first content."""
    total_s: float | None = None
    """From receipt to the end."""
    first_segment_s: float | None = None
    """From receipt to the first text that can be spoken whole."""


PromptCache = Literal["", "auto", "off"]
CacheWish = Literal["", "off", "refresh", "only"]


@dataclass(frozen=True, slots=True)
class HedgeWish:
    """What a request asks of the race, within what the operator allows."""

    mode: Literal["auto", "off", "race"] = "auto"
    """auto: as the alias says; off: one attempt at a time; race: all that are allowed at once."""
    delay_s: float | None = None
    """Instead of a learned delay."""
    max_attempts: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What the client asks of the relay itself, not of the model."""

    budgets: Budgets = Budgets()  # frozen, so one is enough for all who ask for nothing
    turn_id: str = ""
    tags: tuple[str, ...] = ()
    tags_of_rules: frozenset[str] = frozenset()
    """Of `tags`, those that the operator's rules have added: no key needs leave for them."""
    timeline: bool = False
    """Whether the whole timeline is wanted in the final usage (`x_relay`)."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The client's own words for logs and usage records (call id, room, ...)."""
    client: str = ""
    """Name and version of the client software, as it calls itself."""
    hedge: HedgeWish = HedgeWish()
    commit_on: Literal["first_content", "first_segment"] = "first_content"
    """What decides a race: the first content, or the first that can be spoken whole."""
    speculative: bool = False
    """The client may yet discard the answer: until it commits there is no hedge, and no tool call
    leaves the relay."""
    hold_until_commit: bool = False
    """With `speculative`: nothing of the answer leaves it either."""
    tenant: str = ""
    """Who pays: a team's id; where there are no keys a name of the bearer, or empty."""
    key_id: str = ""
    """Of the key that asks; empty where there are no keys."""
    zones: frozenset[str] | None = None
    """Data zones that it may be sent to, by the caller's key and the alias; None for anywhere."""
    traceparent: str = ""
    """W3C trace context that the generation belongs to: valid, or empty."""
    tracestate: str = ""
    """What other tracers have to say of it: valid, or empty."""
    prompt_cache: PromptCache = ""
    """Where the provider caches nothing unless told what: `auto` places its cache breakpoints for
    clients that know nothing of them, `off` places none, empty does what the provider's row says.
    Breakpoints that a client set itself are honoured in any case, and `auto` adds none to them."""
    idempotency_key: str = ""
    """The client's name for this very request, so that a repeat of it is not answered twice."""
    cache: CacheWish = ""
    """Where the operator keeps answers: `off` wants none and leaves none, `refresh` wants a new one
    that is kept in the old one's place, `only` wants a kept one or an error; empty: as it comes."""
    cache_ttl_s: float | None = None
    """How old a kept answer may be, and how long a new one is kept, within what the operator
    allows; None: as the operator says."""
    is_batch: bool = False
    """It can wait: a worker that has too much to do refuses it first."""
    session_id: str = ""
    """Of the session that the generation is a turn of, if it is: its turns stay at one provider
    while that is well, where their prompt cache is warm, and with `prompt_cache: auto` a key of
    that cache is made of it."""


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One generation asked for."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    prefers_one_call: bool = False
    """The client reads one tool call of an answer: `parallel_tool_calls: false` where the wire can
    say so and the client has not said anything, and nothing elsewhere."""
    response_format: ResponseFormat | None = None
    sampling: Sampling = NO_SAMPLING
    reasoning: ReasoningOptions = ReasoningOptions()
    service_tier: str = ""
    user: str = ""
    prompt_cache_key: str = ""
    want_reasoning: bool = True
    """Reasoning deltas count as content and are delivered."""
    embedding: EmbeddingOptions | None = None
    """Vectors are wanted, and no answer."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of the client's body: passed on to the wire whose body it was, and to no
    other. Wires read them by `extra_on`."""
    extra_wire: str = "openai_chat"
    """Whose body it was."""
    native: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By wire: fields beside `extra` that are for that wire alone."""
    policy: Policy = Policy()
    asked_as: str = ""
    """The client's name of the model where the relay itself has put another in its place, else
    empty: permissions and limits go by it."""
    is_prefix: bool = False
    """No turn of its session, but the prefix that its turns have in common, sent ahead."""

    def extra_on(self, wire: str) -> Mapping[str, Any]:
        """The further fields as far as a wire may look into them: a chat body may hold fields of
        any wire under its own names for them, other bodies' are nobody else's."""
        extra = self.extra if self.extra_wire in ("openai_chat", wire) else {}
        native = self.native.get(wire)
        return {**extra, **native} if native else extra


# --- what comes back ------------------------------------------------------------------------


class FinishReason(enum.IntEnum):
    """Why a choice ended; the numbers of `rtrelay.v1.FinishReason`."""

    STOP = 1
    LENGTH = 2
    TOOL_CALLS = 3
    CONTENT_FILTER = 4
    OTHER = 5


class StreamEvent(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    """Base of the events an attempt yields, in the order of the wire. Where one is written down, it
    is an array of its name and its fields: new ones belong behind the old."""

    is_content: ClassVar[bool] = False
    """Whether this event commits a race: something the client asked for has come."""


class ResponseInfo(StreamEvent, frozen=True, gc=False):
    """What the provider says of the response as a whole; once, before everything else."""

    response_id: str
    model: str
    created_s: int
    service_tier: str = ""
    system_fingerprint: str = ""


class TextDelta(StreamEvent, frozen=True, gc=False):
    """Text of the answer; never empty."""

    is_content: ClassVar[bool] = True
    text: str
    choice: int = 0


class ReasoningDelta(StreamEvent, frozen=True, gc=False):
    """Text of the model's reasoning; never empty. Content only if the client wants it."""

    text: str
    choice: int = 0


class RefusalDelta(StreamEvent, frozen=True, gc=False):
    """Text of a refusal (structured output); never empty."""

    is_content: ClassVar[bool] = True
    text: str
    choice: int = 0


class ToolCallStart(StreamEvent, frozen=True, gc=False):
    """A tool call opens. `index` counts the calls of the choice from 0 without a gap.

    `call_id` and `name` are never empty: the codec waits for both (and makes an id where the
    provider gives none).
    """

    is_content: ClassVar[bool] = True
    index: int
    call_id: str
    name: str
    choice: int = 0
    kind: str = "function"


class ToolArgumentsDelta(StreamEvent, frozen=True, gc=False):
    """A piece of the arguments' JSON text, always after the call's start; never empty."""

    is_content: ClassVar[bool] = True
    index: int
    fragment: str
    choice: int = 0


class ToolCallDone(StreamEvent, frozen=True, gc=False):
    """A tool call is complete: its arguments are whole and nothing more comes for its index.

    `is_partial` when the choice ended by LENGTH inside the arguments.
    """

    index: int
    call_id: str
    name: str
    arguments: str
    choice: int = 0
    kind: str = "function"
    is_partial: bool = False
    extra_json: bytes = b""
    """JSON object of provider state that must go back with this call unchanged, or empty (also
    where it is nested too deeply to be written)."""


class AudioDelta(StreamEvent, frozen=True, gc=False):
    """A piece of spoken answer."""

    is_content: ClassVar[bool] = True
    audio_id: str = ""
    data_base64: str = ""
    transcript: str = ""
    expires_at_s: int = 0
    choice: int = 0


class OpaqueDelta(StreamEvent, frozen=True, gc=False):
    """A provider field we pass on unread: `reasoning_details`, `annotations`, `logprobs`, ..."""

    key: str
    value_json: bytes
    choice: int = 0


class Embeddings(StreamEvent, frozen=True, gc=False):
    """All vectors of a request at once, as many as it has texts, in their order."""

    is_content: ClassVar[bool] = True
    data_json: bytes
    """OpenAI's `data`: objects with `object`, `index` and `embedding`."""


class ChoiceFinished(StreamEvent, frozen=True, gc=False):
    """A choice ended with a reason of the wire; at most once per choice.

    Text and usage may still follow: some providers put the last text into or after their finishing
    chunk.
    """

    reason: FinishReason
    raw_reason: str
    choice: int = 0
    is_withdrawn: bool = False
    """A guardrail takes back text of it: what is not sent yet, such as a sentence without its end,
    is not to be sent any more."""


class Usage(StreamEvent, frozen=True, gc=False):
    """Token counts so far; the last one wins, they are never summed.

    Normalised as OpenAI counts: `prompt_tokens` includes cached ones, `completion_tokens`
    includes reasoning. None where the provider does not say.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    is_estimated: bool = False
    raw_json: bytes = b""
    """The provider's own usage object, or empty."""
    service_tier: str = ""
    """That it was served at, where this is told with the counts and not before."""


class ProviderFailed(StreamEvent, frozen=True, gc=True):
    """The provider reported an error, or its bytes broke the format; nothing follows.

    An event and not an exception, so that content decoded before it in the same chunk is kept.
    Tracked by the garbage collector, unlike the others: an exception may lead back to its event.
    """

    error: RelayError


Events = Sequence[StreamEvent]
"""A batch: all that one read of the upstream yielded, possibly none."""
