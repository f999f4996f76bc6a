"""Vectors of texts, the same for the same text: unit length, drawn from its hash.

    POST [/DIALECT]/v1/embeddings, /embeddings   OpenAI
    POST /v1beta/models/M:batchEmbedContents     Gemini
    POST /api/embed                              Ollama

The script holds as for a whole answer of one token: its time to the first token, and its faults.
Of the OpenAI wire's models those that begin with `emu-words` are near where texts share words: each
word is drawn from its hash, and a text is their sum.
"""

from __future__ import annotations

import base64
import hashlib
import math
import random
import re
import struct
from collections.abc import Iterator, Mapping

import orjson

from relay.emulator.answer import Answer, Asked
from relay.emulator.wires.base import (
    BadRequest,
    Event,
    Failure,
    Headers,
    Wire,
    as_list,
    as_object,
    estimate_tokens,
)

DIMENSIONS = 256
"""Unless asked for another number."""
_MAX_DIMENSIONS = 4096


def is_vectors_path(path: str) -> bool:
    """Whether a request there asks for vectors."""
    return path.endswith(("/embeddings", "/api/embed", ":batchEmbedContents"))


class Vectors:
    """One request for vectors: a `Wire` that answers with what it was asked, once."""

    def __init__(self, like: Wire) -> None:
        """
        Args:
            like: the provider's wire, for its errors and heads.
        """
        self.name = like.name
        self._like = like
        self._body = b""

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        path = path.partition("?")[0]
        self._body = _answer(path, body)
        return Asked(_model(path, body), max_tokens=1)

    def body(self, answer: Answer) -> bytes:
        return self._body

    def events(self, answer: Answer) -> Iterator[Event]:
        raise NotImplementedError("vectors are not streamed")

    def stream_head(self, answer: Answer) -> Headers:
        return self._like.json_head(answer)

    def json_head(self, answer: Answer | None) -> Headers:
        return self._like.json_head(answer)

    def keepalive(self) -> bytes:
        return self._like.keepalive()

    def error_status(self, failure: Failure) -> int:
        return self._like.error_status(failure)

    def error_body(self, failure: Failure) -> bytes:
        return self._like.error_body(failure)

    def error_event(self, failure: Failure) -> bytes:
        return self._like.error_event(failure)


def _model(path: str, body: Mapping[str, object]) -> str:
    if path.endswith(":batchEmbedContents"):
        return path.rsplit("/", 1)[1].removesuffix(":batchEmbedContents")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("you must provide a model parameter")
    return model


def _answer(path: str, body: Mapping[str, object]) -> bytes:
    if path.endswith(":batchEmbedContents"):
        return _gemini(body)
    given = body.get("input")
    texts: list[object] = [given] if isinstance(given, str) else as_list(given, "input")
    if texts and isinstance(texts[0], int):
        texts = [texts]
    is_by_words = str(body.get("model", "")).startswith("emu-words")
    found = [
        _sum_of_words(text, body.get("dimensions"))
        if is_by_words and isinstance(text, str)
        else _vector(orjson.dumps(text), body.get("dimensions"))
        for text in texts
    ]
    tokens = sum(estimate_tokens(len(orjson.dumps(text))) for text in texts)
    if path.endswith("/api/embed"):
        return orjson.dumps(
            {"model": body["model"], "embeddings": found, "prompt_eval_count": tokens}
        )
    as_base64 = body.get("encoding_format") == "base64"
    return orjson.dumps(
        {
            "object": "list",
            "data": [
                {
                    "object": "embedding",
                    "index": index,
                    "embedding": _packed(vector) if as_base64 else vector,
                }
                for index, vector in enumerate(found)
            ],
            "model": body["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _gemini(body: Mapping[str, object]) -> bytes:
    found: list[dict[str, list[float]]] = []
    for entry in as_list(body.get("requests"), "requests"):
        one = as_object(entry, "requests")
        parts = as_list(as_object(one.get("content"), "content").get("parts"), "parts")
        found.append({"values": _vector(orjson.dumps(parts), one.get("outputDimensionality"))})
    return orjson.dumps({"embeddings": found})


def _vector(seed: bytes, dimensions: object) -> list[float]:
    count = dimensions if isinstance(dimensions, int) else DIMENSIONS
    if not 1 <= count <= _MAX_DIMENSIONS:
        raise BadRequest(f"dimensions must be 1 to {_MAX_DIMENSIONS}")
    rng = random.Random(hashlib.blake2b(seed).digest())  # noqa: S311
    numbers = [rng.gauss(0.0, 1.0) for _ in range(count)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 7) for number in numbers]


def _sum_of_words(text: str, dimensions: object) -> list[float]:
    words = re.findall(r"\w+", text.casefold()) or [text]
    drawn = [_vector(word.encode(), dimensions) for word in words]
    numbers = [sum(column) for column in zip(*drawn, strict=True)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [round(number / length, 7) for number in numbers]


def _packed(vector: list[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
