"""A fresh agent process that asks once: what its first turn takes, as one line of JSON.

    python -m bench.first_turn_agent relay HOST:PORT MODEL
    python -m bench.first_turn_agent session HOST:PORT MODEL
    python -m bench.first_turn_agent direct URL CA_FILE MODEL
    python -m bench.first_turn_agent openai URL CA_FILE MODEL

Over the relay it is the Python SDK; straight to the provider a wreq client over HTTP/2, the least
that such a call can cost, or OpenAI's package, which is what agents have. Nothing is connected
before the question, but with `session` the session with the relay, as it is when a call has begun
and nobody has spoken yet. `import_ms` is what loading the client took, `first_ms` goes from the
question, with the client loaded and not yet made, to the first text.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

_BEGAN_S = time.monotonic()
_QUESTION = "Can you book the table by the window for seven tomorrow evening, please?"


async def _over_the_relay(address: str, model: str) -> None:
    import rtrelay
    import rtrelay.client

    asked_s = time.monotonic()
    first_s = 0.0
    async with rtrelay.Client(address) as client:
        # Not entered: the question goes out with the setup and waits for nothing.
        async for event in client.session().start(_QUESTION, model=model):
            if not first_s and isinstance(event, rtrelay.TextDelta):
                first_s = time.monotonic()
    _tell(asked_s, first_s)


async def _over_a_session(address: str, model: str) -> None:
    import rtrelay

    async with rtrelay.Client(address) as client, client.session() as session:
        asked_s = time.monotonic()
        first_s = 0.0
        async for event in session.start(_QUESTION, model=model):
            if not first_s and isinstance(event, rtrelay.TextDelta):
                first_s = time.monotonic()
    _tell(asked_s, first_s)


async def _direct(url: str, ca_file: str, model: str) -> None:
    from bench.paths import HttpPath

    asked_s = time.monotonic()
    first_s = 0.0
    async for chunk in HttpPath(url, ca_file=ca_file, is_http2=True).chunks(model):
        if not first_s and b'"content":"' in bytes(chunk):
            first_s = time.monotonic()
    _tell(asked_s, first_s)


async def _openai(url: str, ca_file: str, model: str) -> None:
    os.environ["SSL_CERT_FILE"] = ca_file
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletionUserMessageParam

    question = ChatCompletionUserMessageParam(role="user", content=_QUESTION)
    asked_s = time.monotonic()
    first_s = 0.0
    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        chunks = await client.chat.completions.create(model=model, messages=[question], stream=True)
        async for chunk in chunks:
            if not first_s and chunk.choices and chunk.choices[0].delta.content:
                first_s = time.monotonic()
    _tell(asked_s, first_s)


def _tell(asked_s: float, first_s: float) -> None:
    told = {"import_ms": (asked_s - _BEGAN_S) * 1e3, "first_ms": (first_s - asked_s) * 1e3}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case "relay", at, asked:
            asyncio.run(_over_the_relay(at, asked))
        case "session", at, asked:
            asyncio.run(_over_a_session(at, asked))
        case "direct", at, ca, asked:
            asyncio.run(_direct(at, ca, asked))
        case "openai", at, ca, asked:
            asyncio.run(_openai(at, ca, asked))
        case _:
            sys.exit(__doc__)
