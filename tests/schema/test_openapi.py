"""What the shim says of itself in `/openapi.json` is true of whatever a client may send.

schemathesis makes requests of the document, good ones and bad ones, and holds every answer to it.
What reached the provider meanwhile is held to OpenAI's own types.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import orjson
import pydantic
import pytest
from openai.types import EmbeddingCreateParams
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


async def test_answers_are_as_described_and_providers_are_spared(tmp_path: Path) -> None:
    async with KeepingProvider() as provider:
        document = {
            "providers": {
                "lab": {"wire": "openai_chat", "base_url": f"{provider.url}/v1", "auth": "none"}
            },
            "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
        }
        async with RelayProcess(tmp_path, document) as relay:
            code, output = await schemathesis(relay.ports["http"], tmp_path)
        print(output)
        assert code == 0, output
        calls = interactions(tmp_path / "calls.har")
        assert_all_is_accounted_for(calls, provider)
        assert_well_formed(provider.bodies(CHAT), CompletionCreateParamsStreaming)
        assert_well_formed(provider.bodies(EMBEDDINGS), EmbeddingCreateParams)


async def schemathesis(port: int, directory: Path) -> tuple[int, str]:
    """One run; its exit status and what it printed."""
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
    attempts, answered = 0, Counter[str]()
    for call in calls:
        headers = {pair["name"].lower(): pair["value"] for pair in call["response"]["headers"]}
        started, status = int(headers.get("x-relay-attempts", "0")), call["response"]["status"]
        assert bool(started) <= (status == 200), f"refused, but sent: {json.dumps(call)[:2000]}"
        attempts += started
        path = next((p for p in GENERATIONS if call["request"]["url"].split("?")[0].endswith(p)), "")
        answered[path] += status == 200
    asked = len(provider.requests(CHAT)) + len(provider.requests(EMBEDDINGS))
    assert asked == attempts, "the provider was asked more, or less, than the answers say"
    print(f"answered: {dict(answered)}; {asked} requests at the provider")
    silent = [path for path in GENERATIONS if not answered[path]]
    assert not silent, f"nothing was accepted there: the document asks for what is refused: {silent}"


def assert_well_formed(bodies: list[dict[str, Any]], kind: Any) -> None:
    """Every body is what OpenAI's own client would let its users send."""
    adapter = pydantic.TypeAdapter[Any](kind)
    for body in bodies:
        adapter.validate_python(body)
