"""What the shim says of itself in `/openapi.json` is true of whatever a client may send.

schemathesis makes requests of the document, good ones and bad ones, and holds every answer to it.
What reached the provider meanwhile is held to OpenAI's own types.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import orjson
import pydantic
import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

from tests.fakes.relay_process import RelayProcess
from tests.schema.provider import CHAT, EMBEDDINGS, KeepingProvider

SCHEMATHESIS: Final = os.environ.get("RELAY_SCHEMATHESIS", "")
EXAMPLES: Final = 400 if os.environ.get("RELAY_FULL") == "1" else 40
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
PHASES: Final = "examples,coverage,fuzzing"
SEED: Final = "1"
TIMEOUT_S: Final = 600
LIMITS: Final = ("first-token-ms", "first-segment-ms", "inter-token-ms", "total-ms")
HURRY_MS: Final = 1000
"""A request with less may be late."""

USER_PARTS: Final = ("text", "image_url", "file")
GENERATIONS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/responses",
)

pytestmark = [
    pytest.mark.sockets,
    pytest.mark.timeout(TIMEOUT_S),
    pytest.mark.skipif(not SCHEMATHESIS, reason="`make test-schema` runs it: no schemathesis here"),
]


class EmbeddingBody(pydantic.BaseModel):
    """OpenAI's own type has two `Iterable` in one union, which pydantic cannot tell apart."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None


async def test_answers_are_as_described_and_providers_are_spared(tmp_path: Path) -> None:
    async with KeepingProvider() as provider:
        document = {
            "providers": {
                "lab": {"wire": "openai_chat", "base_url": f"{provider.url}/v1", "auth": "none"}
            },
            "server": {"http": {"responses_store": {}}},
            "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        }
        async with RelayProcess(tmp_path, document) as relay:
            code, output = await schemathesis(relay.ports["http"], tmp_path)
        print(output)
        assert code == 0, output
        calls = interactions(tmp_path / "calls.har")
        assert_all_is_accounted_for(calls, provider)
        assert_well_formed(provider.bodies(CHAT), CompletionCreateParamsStreaming)
        assert_well_formed(provider.bodies(EMBEDDINGS), EmbeddingBody)


CONFIG: Final = """
[parameters]
"header.x-relay-route" = "fast"
"path.id" = "fast"
"header.x-relay-first-token-ms" = "20000"
"header.x-relay-first-segment-ms" = "20000"
"header.x-relay-inter-token-ms" = "20000"
"header.x-relay-total-ms" = "20000"

[checks]
not_a_server_error.expected-statuses = ["2xx", "4xx", "504"]
"""
"""Names that exist and time enough, else most requests would end at a 404 or at the one millisecond
that they may ask for; where a body asks for that, 504 is right."""


async def schemathesis(port: int, directory: Path) -> tuple[int, str]:
    """One run; its exit status and what it printed."""
    (directory / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        SCHEMATHESIS,
        "run",
        f"http://127.0.0.1:{port}/openapi.json",
        *("--max-examples", str(EXAMPLES), "--phases", PHASES, "--seed", SEED),
        *("--checks", ",".join(CHECKS), "--no-color", "--continue-on-failure"),
        *("--report-har-path", str(directory / "calls.har"), "--output-sanitize", "false"),
        *("--generation-database", "none", "--request-timeout", "20"),
        cwd=directory,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


def interactions(har: Path) -> list[dict[str, Any]]:
    """What was asked and answered."""
    entries: list[dict[str, Any]] = orjson.loads(har.read_bytes())["log"]["entries"]
    return entries


def assert_all_is_accounted_for(calls: Iterable[dict[str, Any]], provider: KeepingProvider) -> None:
    """What was refused began nothing at the provider, which saw what was answered and no more."""
    sent, late, answered = 0, 0, Counter[str]()
    for call in calls:
        response, shown = call["response"], orjson.dumps(call).decode()[:2000]
        headers = {pair["name"].lower(): pair["value"] for pair in response["headers"]}
        status, attempts = response["status"], int(headers.get("x-relay-attempts", "0"))
        if status == 200:
            if "idempotent-replayed" not in headers:  # else the attempts are those of its twin
                sent += attempts
            answered[urlsplit(call["request"]["url"]).path] += 1
        elif status == 504 and reason_of(response) == "CACHE_MISS":
            assert wants_only_what_is_kept(call["request"]), f"a miss nobody asked for: {shown}"
            assert not attempts, f"nothing kept, and yet asked: {shown}"
        elif status == 504:
            assert is_hurried(call["request"]), f"late, though it had time: {shown}"
            late += attempts
        elif attempts:
            # What the provider's wire cannot say is found when its attempt is to write it.
            reason = reason_of(response)
            assert (status, reason) == (400, "UNSUPPORTED_FEATURE"), f"refused, but sent: {shown}"
    asked = len(provider.requests(CHAT)) + len(provider.requests(EMBEDDINGS))
    assert sent <= asked <= sent + late, "the provider was asked more, or less, than answers say"
    print(f"answered: {dict(answered)}; {asked} requests at the provider, {late} perhaps late")
    silent = [path for path in GENERATIONS if not answered[path]]
    assert not silent, f"the document asks for what is refused: {silent}"


def reason_of(response: dict[str, Any]) -> str:
    """The relay's own word for an error, "" where there is none."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(orjson.loads(response["content"]["text"])["error"]["x_relay"]["reason"])
    return ""


def policy_of(request: dict[str, Any]) -> dict[str, str]:
    """What a request asks of the relay itself, in headers or body; where both speak, the header."""
    asked: dict[str, Any] = {}
    with contextlib.suppress(ValueError, KeyError, AttributeError):
        asked |= orjson.loads(request["postData"]["text"])["relay"].items()
    found = {name.replace("_", "-"): str(value) for name, value in asked.items()}
    for pair in request["headers"]:
        found[pair["name"].lower().removeprefix("x-relay-")] = pair["value"]
    return found


def wants_only_what_is_kept(request: dict[str, Any]) -> bool:
    """Whether it takes a kept answer or none."""
    return policy_of(request).get("cache") == "only"


def is_hurried(request: dict[str, Any]) -> bool:
    """Whether it asks for an answer sooner than one can be had, in headers or body."""
    found = policy_of(request)
    values = [found.get(name, "") for name in LIMITS]
    return any(value.isdigit() and int(value) < HURRY_MS for value in values)


def assert_well_formed(bodies: list[dict[str, Any]], kind: Any) -> None:
    """Every body is what OpenAI's own client would let its users send."""
    adapter = pydantic.TypeAdapter[Any](kind)
    wrong: dict[str, str] = {}
    for body in bodies:
        try:
            read_all(adapter.validate_python(without_new_kinds(body)))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(part for part in map(str, first["loc"]) if not part.isdigit())
            wrong.setdefault(f"{place}: {first['type']}", orjson.dumps(body).decode())
    assert not wrong, "\n".join(f"{what}\n    {body[:1500]}" for what, body in wrong.items())


def without_new_kinds(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what OpenAI's types do not know and the relay lets through on purpose, since
    other hosts have it: kinds of parts and tools, formats of sound, pictures that are not the
    user's, words for an effort."""
    kept = {key: value for key, value in body.items() if key != "reasoning_effort"}
    for message in kept.get("messages", ()):
        known = USER_PARTS if message["role"] == "user" else ("text", "refusal")
        if isinstance(content := message.get("content"), list):
            message["content"] = [part for part in content if part["type"] in known]
    if "tools" in kept:
        kept["tools"] = [tool for tool in kept["tools"] if tool.get("type") == "function"]
    if isinstance(choice := kept.get("tool_choice"), dict) and choice.get("type") != "function":
        del kept["tool_choice"]
    return kept


def read_all(value: object) -> None:
    """Look at everything inside: pydantic reads what is an `Iterable` there when it is asked for.

    Raises:
        pydantic.ValidationError: something in there is wrong.
    """
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        for item in value:
            read_all(item)
