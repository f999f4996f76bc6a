"""How many tokens a request can take at most, told before anything of it is sent.

Reservations are made of it, so it must not be exceeded; that it is several times what comes is paid
in room near a budget's limit, for as long as the request runs. **The stated bound:**

- Text is a token a byte of UTF-8: no tokenizer makes more (English has four bytes a token, and
  names that were made up to be dear one and a half). The average that was learnt of a model is no
  bound, and not used.
- Each message is 8 tokens more, each tool 32, the request 1024, and as many again if it has tools
  or a schema: what chat templates write around them, and providers before them (Grok's own
  instructions are some 650 tokens).
- Each image is 10,000 tokens, or 50,000 on models of the `4o-mini` kind, which count so.
- Sound is a token every 16 bytes and 256 more; a document one a byte and 10,000 more, one that is
  named by id or address 200,000.
- What the provider has and we do not see (an earlier response, a conversation, cached content) is
  200,000 tokens; each tool that the provider runs itself 50,000, for what it brings in.
- The answer is `max_output_tokens`, but 16 where that is less, and the budget of its reasoning
  beside it where the client set one, for each of its choices; a limit or a number of choices that
  stands in the body by another host's name counts where it is more, in whatever case, as a text,
  and among its settings too; four times that where the
  provider runs tools itself, since each of its steps may be as long. Vectors have none.

What exceeds it all the same (a provider's searches, its hidden prompts) is booked in full, and the
part that no reservation covered is written down as overrun.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple

from relay.content import (
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    RefusalPart,
    TextPart,
    Tool,
)
from relay.tokens import count_bytes

MESSAGE_TOKENS: Final = 8
TOOL_TOKENS: Final = 32
REQUEST_TOKENS: Final = 1024
TOOLS_TOKENS: Final = 1024
IMAGE_TOKENS: Final = 10_000
DEAR_IMAGE_TOKENS: Final = 50_000
DEAR_IMAGE_MODELS: Final = "4o-mini"
BYTES_PER_AUDIO_TOKEN: Final = 16
AUDIO_TOKENS: Final = 256
FILE_TOKENS: Final = 10_000
UNSEEN_TOKENS: Final = 200_000
PROVIDER_TOOL_TOKENS: Final = 50_000
PROVIDER_STEPS: Final = 4
LEAST_OUTPUT_TOKENS: Final = 16
"""OpenAI writes so many whatever it is told."""

_UNSEEN_FIELDS: Final = frozenset({"previousresponseid", "conversation", "prompt", "cachedcontent"})
"""Of a body, as `_plain` spells them: they name what the provider keeps."""
_SEARCH_FIELDS: Final = frozenset(
    {"websearchoptions", "searchparameters", "plugins", "mcpservers", "container", "tools"}
)
"""Likewise: the provider looks things up by itself. `tools` here are those of one wire alone."""
_IMAGE_TYPES: Final = frozenset({"image", "image_url", "input_image"})
_FILE_TYPES: Final = frozenset({"document", "file", "input_file"})
_AUDIO_TYPES: Final = frozenset({"audio", "input_audio"})
_LIMIT_FIELDS: Final = frozenset(
    {
        "maxtokens",
        "maxcompletiontokens",
        "maxoutputtokens",
        "maxnewtokens",
        "maxgenlen",
        "maxtokenstosample",
        "mintokens",
        "npredict",
        "numpredict",
    }
)
_CHOICE_FIELDS: Final = frozenset({"n", "bestof", "numreturnsequences", "candidatecount"})
"""Of a body, as `_plain` spells them: what some host or other goes by, beside the limit that we set
or before it."""
_SETTINGS: Final = frozenset(
    {
        "additionalmodelrequestfields",
        "extrabody",
        "generationconfig",
        "inferenceconfig",
        "options",
        "parameters",
    }
)
"""Objects of a body in which they may stand as well."""
_TYPED_AT_GEMINI: Final = ("generationConfig", ("maxOutputTokens", "candidateCount"))
"""What the request's own words are written over, where it has some."""
_MOST_TOKENS: Final = 10**12
_MAX_DIGITS: Final = 32
_NUMBER_TOKENS: Final = 24
_KEY_TOKENS: Final = 6
"""Quotes, colon and comma."""


class Bound(NamedTuple):
    """The most that a request can take."""

    prompt_tokens: int
    output_tokens: int
    special: frozenset[str]
    """Which tokens beyond text it can have (`relay.governance.sheet_price.SPECIAL`)."""


def bound(
    request: GenerateRequest,
    default_output_tokens: int,
    *,
    models: Iterable[str] = (),
) -> Bound:
    """See the module.

    Args:
        default_output_tokens: of one answer, where the client has set no limit.
        models: whom it may be sent to, by the providers' names; some count images dearer.
    """
    special: set[str] = set()
    is_dear = any(DEAR_IMAGE_MODELS in model for model in models)
    counter = _Counter(special, DEAR_IMAGE_TOKENS if is_dear else IMAGE_TOKENS)
    prompt = counter.request(request)
    return Bound(prompt, output_bound(request, default_output_tokens), frozenset(special))


def prompt_bound(request: GenerateRequest) -> int:
    """Tokens that a prompt can have at most, by the bound that the module states."""
    return _Counter(set(), IMAGE_TOKENS).request(request)


def output_bound(request: GenerateRequest, default: int) -> int:
    """Tokens that all answers to a request can have at most, reasoning included.

    Args:
        default: of one answer, where the client has set no limit.
    """
    if request.embedding is not None:
        return 0
    bodies = _bodies(request)
    if not bodies and not request.tools:  # nearly all of them
        asked, most = request.sampling, request.sampling.max_output_tokens
        answer = max(default if most is None else most, LEAST_OUTPUT_TOKENS)
        return (answer + max(0, request.reasoning.budget_tokens or 0)) * max(1, asked.choices or 1)
    fields = [field for body in bodies for field in _fields(body)]
    place, (limit_name, choices_name) = _TYPED_AT_GEMINI
    typed = [
        field
        for body in bodies
        if isinstance(config := body.get(place), Mapping)
        for field in config.items()
    ]
    limit = request.sampling.max_output_tokens
    if limit is None:
        limit = _largest(typed, {limit_name})
    choices = request.sampling.choices or _largest(typed, {choices_name}) or 1
    answer = max(default if limit is None else limit, LEAST_OUTPUT_TOKENS)
    answer = max(answer, _largest(fields, _LIMIT_FIELDS) or 0)
    choices = max(choices, _largest(fields, _CHOICE_FIELDS) or 0)
    answer += _reasoning_budget(request, fields)
    if _runs_tools(request, bodies):
        answer *= PROVIDER_STEPS
    return answer * max(1, choices) + sum(
        # Of a text that the client foretells, what does not come is paid as if it had.
        _Counter(set(), 0).json(body["prediction"])
        for body in bodies
        if "prediction" in body
    )


def _bodies(request: GenerateRequest) -> list[Mapping[str, Any]]:
    """The further fields of the body, and those for single wires."""
    return [body for body in (request.extra, *request.native.values()) if body]


def _plain(name: str) -> str:
    """A field's name as all hosts read it that take it: Go's JSON knows no case, Protobuf's knows
    `candidateCount` as `candidate_count` too."""
    return name.casefold().replace("_", "")


def _fields(body: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names, as `_plain` spells them, and values: the body's, and those of its settings. One may be
    there several times, as nobody knows which of two spellings a host goes by."""
    found: list[tuple[str, Any]] = []
    for name, value in body.items():
        plain = _plain(name)
        found.append((plain, value))
        if plain in _SETTINGS and isinstance(value, Mapping):
            typed = _TYPED_AT_GEMINI[1] if name == _TYPED_AT_GEMINI[0] else ()
            found += [(_plain(key), inner) for key, inner in value.items() if key not in typed]
    return found


def _runs_tools(request: GenerateRequest, bodies: list[Mapping[str, Any]]) -> bool:
    """Whether the provider does: then it goes on by itself with what they bring."""
    return any(tool.opaque is not None and not tool.parameters_json for tool in request.tools) or (
        any(not _SEARCH_FIELDS.isdisjoint(map(_plain, body)) for body in bodies)
    )


_BUDGET_FIELDS: Final = {
    "thinking": frozenset({"budgettokens"}),
    "reasoning": frozenset({"maxtokens"}),
    "reasoningconfig": frozenset({"budgettokens"}),
    "thinkingconfig": frozenset({"thinkingbudget"}),
}


def _reasoning_budget(request: GenerateRequest, fields: Sequence[tuple[str, Any]]) -> int:
    """Most wires count it inside of the answer's limit; some do not, so it is added."""
    found = [request.reasoning.budget_tokens, _largest(fields, {"thinkingbudget"})]
    for name, value in fields:
        if name in _BUDGET_FIELDS and isinstance(value, Mapping):
            inner = [(_plain(key), tokens) for key, tokens in value.items()]
            found.append(_largest(inner, _BUDGET_FIELDS[name]))
    return max(0, *(tokens or 0 for tokens in found))


def _largest(fields: Iterable[tuple[str, Any]], names: Set[str]) -> int | None:
    found = [
        tokens for name, value in fields if name in names and (tokens := _number(value)) is not None
    ]
    return max(found) if found else None


def _number(value: object) -> int | None:
    """Of a number, or of a text that hosts take for one; None of all else."""
    if isinstance(value, str) and len(value) <= _MAX_DIGITS:
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        return None
    return math.ceil(min(value, _MOST_TOKENS)) if value > -_MOST_TOKENS else -_MOST_TOKENS


class _Counter:
    """Counts one request.

    Args:
        special: filled with the kinds of tokens that were met.
        image_tokens: of one image.
    """

    __slots__ = ("_image_tokens", "_special")

    def __init__(self, special: set[str], image_tokens: int) -> None:
        self._special = special
        self._image_tokens = image_tokens

    def request(self, request: GenerateRequest) -> int:
        vectors = request.embedding
        if vectors is not None:
            texts = sum(map(count_bytes, vectors.texts)) + sum(map(len, vectors.tokens))
            return texts + MESSAGE_TOKENS * vectors.count
        tokens = REQUEST_TOKENS
        for message in request.messages:
            tokens += self._message(message)
        if request.tools:
            tokens += TOOLS_TOKENS + sum(map(self._tool, request.tools))
        shape = request.response_format
        if shape is not None and shape.schema_json:
            tokens += TOOLS_TOKENS + len(shape.schema_json) + count_bytes(shape.description)
        for body in _bodies(request):
            tokens += self._body(body)
        return tokens

    def _message(self, message: Message) -> int:
        tokens = MESSAGE_TOKENS + count_bytes(message.name) + count_bytes(message.reasoning)
        for part in message.parts:
            if type(part) is TextPart and part.cache_control is None:  # nearly all
                tokens += count_bytes(part.text)
            else:
                tokens += self._part(part)
        for call in message.tool_calls:
            tokens += TOOL_TOKENS + count_bytes(call.name) + count_bytes(call.arguments)
            tokens += count_bytes(call.call_id)
            if call.extra:
                tokens += self.json(call.extra)
        if message.extra:
            tokens += self.json(message.extra)
        if message.native is not None:
            # Its wire is sent this instead, others the parts.
            tokens = max(tokens, MESSAGE_TOKENS + self.json(message.native.blocks))
        return tokens

    def _part(self, part: Part) -> int:
        if not isinstance(part, OpaquePart) and part.cache_control:
            self._mark(part.cache_control)
        match part:
            case TextPart() | RefusalPart():
                return count_bytes(part.text)
            case ImagePart():
                return self._image()
            case AudioPart():
                return self._audio(_decoded_bytes(part.data_base64))
            case FilePart():
                if part.media_type.startswith("video/"):
                    self._special.add("video_input")
                if not part.data_base64:
                    return UNSEEN_TOKENS
                return FILE_TOKENS + _decoded_bytes(part.data_base64)
            case OpaquePart():
                return self.json(part.value)

    def _tool(self, tool: Tool) -> int:
        if tool.cache_control:
            self._mark(tool.cache_control)
        tokens = TOOL_TOKENS + count_bytes(tool.name) + count_bytes(tool.description)
        tokens += len(tool.parameters_json)
        if tool.opaque is not None:
            tokens += self.json(tool.opaque)
            if not tool.parameters_json:
                tokens += PROVIDER_TOOL_TOKENS
        return tokens

    def _body(self, body: Mapping[str, Any]) -> int:
        tokens = self.json(body)
        for name, several in body.items():
            name = _plain(name)
            if name in _UNSEEN_FIELDS:
                tokens += UNSEEN_TOKENS
            elif name in _SEARCH_FIELDS:
                count = len(several) if isinstance(several, list) else 1
                tokens += PROVIDER_TOOL_TOKENS * max(1, count)
        config = body.get("generationConfig")
        asked = [body.get("modalities")]
        if isinstance(config, Mapping):
            asked.append(config.get("responseModalities"))
        for words in asked:
            for word in words if isinstance(words, list) else ():
                if isinstance(word, str) and word.lower() in ("audio", "image", "video"):
                    self._special.add(f"{word.lower()}_output")
        return tokens

    def json(self, value: object) -> int:
        """Of a value that we do not read: its texts and names, and the media among it as they
        count."""
        tokens = 0
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str):
                tokens += count_bytes(one) + 2
            elif isinstance(one, Mapping):
                media = self._media(one)
                if media is not None:
                    tokens += media
                    continue
                for name, inner in one.items():
                    tokens += count_bytes(name) + _KEY_TOKENS
                    left.append(inner)
                if "ttl" in one:
                    self._mark(one)
            elif isinstance(one, list | tuple):
                tokens += 2 * len(one)
                left += one
            else:
                tokens += _NUMBER_TOKENS
        return tokens

    def _media(self, value: Mapping[str, Any]) -> int | None:
        """Tokens of an image, a sound or a file as providers' bodies have them; None of others."""
        kind = str(value.get("type"))
        if kind in _IMAGE_TYPES:
            self._marks_of(value)
            return self._image()
        if kind in _AUDIO_TYPES:
            return self._audio(_longest_bytes(value))
        if kind in _FILE_TYPES:
            self._marks_of(value)
            # Of a document given as text its text is the longest.
            size = _longest_bytes(value)
            return UNSEEN_TOKENS if size < FILE_TOKENS else FILE_TOKENS + size
        data = value.get("inlineData") or value.get("inline_data")
        if isinstance(data, Mapping):
            media = str(data.get("mimeType") or data.get("mime_type") or "")
            if media.startswith("image/"):
                return self._image()
            if media.startswith("audio/"):
                return self._audio(_longest_bytes(data))
            if media.startswith("video/"):
                self._special.add("video_input")
            return FILE_TOKENS + _longest_bytes(data)
        if "fileData" in value or "file_data" in value:
            self._special.update(("audio_input", "cached_audio", "video_input"))
            return UNSEEN_TOKENS
        return None

    def _image(self) -> int:
        self._special.update(("image_input", "cached_image"))
        return self._image_tokens

    def _audio(self, size_bytes: int) -> int:
        self._special.update(("audio_input", "cached_audio"))
        return AUDIO_TOKENS + size_bytes // BYTES_PER_AUDIO_TOKEN

    def _marks_of(self, value: Mapping[str, Any]) -> None:
        mark = value.get("cache_control")
        if isinstance(mark, Mapping):
            self._mark(mark)

    def _mark(self, mark: Mapping[str, Any]) -> None:
        if mark.get("ttl") not in (None, "5m"):
            self._special.add("long_cache_write")


def _decoded_bytes(base64_text: str) -> int:
    return len(base64_text) * 3 // 4


def _longest_bytes(value: object) -> int:
    """Of the longest text inside."""
    longest = 0
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            longest = max(longest, count_bytes(one))
        elif isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, list | tuple):
            left += one
    return longest
