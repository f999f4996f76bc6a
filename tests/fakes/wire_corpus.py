"""The wire corpus, read in place, and what the bodies of the OpenAI family say in plain JSON.

`RELAY_WIRE_CORPUS` names the fixtures' directory; by default they lie beside the repository.
Nothing of them is copied. What a body says is found here with `json` and `re` alone, without any
of the relay's own parsers, so that a mistake of theirs cannot cancel out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from relay.emulator.shared_data import wire_corpus

CORPUS = wire_corpus()
ABSENT = "the wire corpus is not here; set RELAY_WIRE_CORPUS"

PROVIDERS = frozenset(
    {
        "azure-openai",
        "cerebras",
        "deepseek",
        "groq",
        "hf",
        "llamacpp",
        "mistral",
        "ollama",
        "openai-chat",
        "openrouter",
        "perplexity",
        "qwen",
        "sse-framing",
        "together",
        "tokenmix",
        "vllm",
        "xai-chat",
        "zai",
    }
)

_BORDER = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_BROKEN_OFF = frozenset({"error", "insufficient_system_resource"})
"""Finish reasons by which a provider says that it gave up."""


@dataclass(frozen=True)
class Case:
    """One recorded or composed exchange."""

    name: str
    """`provider/case`."""
    provider: str
    is_stream: bool
    status: int
    expected: dict[str, Any]
    kind: str
    """`stream-text`, `nonstream-tool`, `error`, ..."""
    _body_file: str
    _meta_file: str

    @property
    def is_ndjson(self) -> bool:
        """Whether the body is one JSON document a line."""
        return self._body_file.endswith(".ndjson")

    @cached_property
    def meta(self) -> dict[str, Any]:
        """The whole description: request, response, where it came from."""
        meta: dict[str, Any] = json.loads((CORPUS / self._meta_file).read_bytes())
        return meta

    @property
    def body_path(self) -> Path:
        """Where the provider's bytes lie."""
        return CORPUS / self._body_file

    @cached_property
    def body(self) -> bytes:
        """The provider's bytes."""
        return self.body_path.read_bytes()

    @cached_property
    def headers_as_sent(self) -> list[tuple[str, str]]:
        """The provider's headers as far as they were kept."""
        return [(name.lower(), value) for name, value in self.meta["response"]["headers"]]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Those headers that are fit to be sent again over HTTP/2."""
        return [
            (name, value)
            for name, value in self.headers_as_sent
            if name
            not in ("content-length", "content-encoding", "transfer-encoding", "connection", "te")
            and value.isprintable()
            and value.isascii()
        ]

    @property
    def choices(self) -> dict[int, dict[str, Any]]:
        """The expected choices by index."""
        return {choice["index"]: choice for choice in self.expected.get("choices", ())}

    @property
    def asked_choices(self) -> int:
        """The `n` of the request."""
        return len(self.choices) or 1

    @property
    def tells_usage(self) -> bool:
        """Whether the provider gives its token counts."""
        return bool(re.search(rb'"usage":\s*\{', self.body))

    def raw_choices(self) -> list[dict[str, Any]]:
        """Every choice of every document of the body, as the provider wrote it; those of an error
        and of what is not JSON are left out."""
        if self.status >= 400:
            return []
        documents = _events(self.body) if self.is_stream else [self.body.decode()]
        found: list[dict[str, Any]] = []
        for text in documents:
            try:
                document = json.loads(text)
            except ValueError:
                continue
            found += (document.get("choices") or ()) if isinstance(document, dict) else ()
        return found

    @property
    def error(self) -> dict[str, Any] | None:
        """The expected error."""
        error: dict[str, Any] | None = self.expected.get("error")
        return error

    @property
    def is_broken_off(self) -> bool:
        """Whether the provider gave up by its finish reason."""
        return any(c["finish_reason"] in _BROKEN_OFF for c in self.choices.values())


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case of the corpus, whatever its wire; none where the corpus is absent."""
    index = CORPUS / "index.json"
    if not index.is_file():
        return ()
    return tuple(
        Case(
            name=f"{entry['provider']}/{entry['case']}",
            provider=entry["provider"],
            is_stream=entry["body_file"].endswith(".sse"),
            status=entry["status"],
            expected=entry["expected"],
            kind=entry["kind"],
            _body_file=entry["body_file"],
            _meta_file=entry["meta_file"],
        )
        for entry in json.loads(index.read_bytes())["cases"]
    )


@cache
def cases() -> tuple[Case, ...]:
    """Every chat case of the OpenAI family; none where the corpus is absent."""
    return tuple(case for case in all_cases() if is_chat_case(case))


def is_chat_case(case: Case) -> bool:
    """Whether a case is one of the OpenAI family."""
    return (
        case.provider in PROVIDERS
        # Ollama's own surface is another wire: NDJSON, or documents without choices.
        and not case.is_ndjson
        and ("choices" in case.expected or "error" in case.expected)
    )


def by_name(name: str) -> Case:
    """The case of that name."""
    return next(case for case in cases() if case.name == name)


def borders(body: bytes, limit: int | None = None) -> list[int]:
    """Where a stream may be cut between two events, the very beginning included.

    Args:
        limit: at most about so many, evenly spread, the last ten among them; None for all.
    """
    found = [0, *(match.end() for match in _BORDER.finditer(body))]
    if found[-1] == len(body):
        found.pop()
    if limit is None or len(found) <= limit:
        return found
    spread = found[: -10 : -(-(len(found) - 10) // (limit - 10))]
    return [*spread, *found[-10:]]


@dataclass(frozen=True)
class Said:
    """What a stream says up to a cut."""

    has_content: bool
    """Text, a refusal, reasoning or the name of a tool has come."""
    is_whole: bool
    """Every choice has finished, or `[DONE]` came, and nothing failed."""
    has_failed: bool = False
    """The provider has reported a failure, or given up."""


def said(prefix: bytes, asked_choices: int) -> Said:
    """Read a stream's beginning."""
    seen: set[int] = set()
    finished: set[int] = set()
    has_content = is_done = False
    for data in _events(prefix):
        if data.endswith("[DONE]"):
            is_done = True
            break
        chunk = json.loads(data) if data else {}
        if chunk.get("error"):
            return Said(has_content, is_whole=False, has_failed=True)
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            seen.add(index)
            has_content = has_content or _has_content(choice)
            if choice.get("finish_reason") in _BROKEN_OFF:
                return Said(has_content, is_whole=False, has_failed=True)
            if choice.get("finish_reason"):
                finished.add(index)
    is_whole = finished >= seen and (len(finished) >= asked_choices or (is_done and bool(seen)))
    return Said(has_content, is_whole)


def _events(body: bytes) -> list[str]:
    """The data of each event, empty where it has none."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    return [
        "\n".join(
            line[5:] for line in re.split(r"\r\n|\n|\r", event) if line.startswith("data:")
        ).strip()
        for event in re.split(r"\r\n\r\n|\n\n|\r\r", text)
    ]


def _has_content(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or choice.get("message") or {}
    words = ("content", "refusal", "reasoning_content", "reasoning", "audio")
    if any(delta.get(word) for word in words):
        return True
    calls = delta.get("tool_calls") or ()
    return any((call.get("function") or {}).get("name") for call in calls)
