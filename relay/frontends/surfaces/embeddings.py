"""`POST /v1/embeddings`: OpenAI's vectors, from every wire that has some.

A request for vectors runs as a generation does: by an alias' candidates, hedged and failed over,
with the same limits, log line and headers. Its answer comes at once, so there is no stream.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from relay.content import (
    EmbeddingOptions,
    Embeddings,
    Events,
    GenerateRequest,
    Policy,
    ResponseInfo,
    Sampling,
)
from relay.errors import InvalidRequest, RelayError
from relay.frontends.body_fields import further, integer, needed, text
from relay.frontends.http_errors import error_body
from relay.frontends.limits import MAX_VECTOR_NODES
from relay.frontends.surface import Asked
from relay.frontends.surfaces.account import relay_object
from relay.outcome import GenerationEnd

MAX_INPUTS: Final = 2048
"""OpenAI's own limit."""
MAX_DIMENSIONS: Final = 65_536
_MAX_TOKEN: Final = 1 << 31
_READ_HERE: Final = frozenset(
    {"model", "input", "dimensions", "encoding_format", "user", "stream", "stream_options"}
)


class EmbeddingsApi:
    """See `relay.frontends.surface.Surface`."""

    max_nodes: Final = MAX_VECTOR_NODES

    @property
    def name(self) -> str:
        return "embeddings"

    def wants_stream(self, body: dict[str, Any]) -> bool:
        if body.get("stream"):
            raise InvalidRequest("stream must be false: vectors come at once", field="stream")
        return False

    def read(self, body: dict[str, Any], policy: Policy) -> Asked:
        self.wants_stream(body)
        model = needed(body, "model")
        encoding = body.get("encoding_format")
        if encoding not in (None, "float", "base64"):
            raise InvalidRequest("encoding_format must be float or base64", field="encoding_format")
        texts, tokens = _input(body.get("input"))
        request = GenerateRequest(
            model=model,
            messages=(),
            embedding=EmbeddingOptions(
                texts=texts,
                tokens=tokens,
                dimensions=integer(body, "dimensions", 1, MAX_DIMENSIONS),
                as_base64=encoding == "base64",
            ),
            sampling=Sampling(max_output_tokens=0),  # vectors are paid by what goes in
            user=text(body, "user"),
            extra=further(body, _READ_HERE),
            policy=policy,
        )
        return Asked(request, None, _Document(model, with_relay=policy.timeline))

    def error_body(self, error: RelayError, request_id: str) -> bytes:
        return error_body(error, request_id)


class _Document:
    """The list of vectors; they go through as they came."""

    def __init__(self, model: str, *, with_relay: bool) -> None:
        self._model = model
        self._with_relay = with_relay
        self._data = b"[]"

    def add(self, events: Events) -> None:
        for event in events:
            if isinstance(event, Embeddings):
                self._data = event.data_json
            elif isinstance(event, ResponseInfo) and event.model:
                self._model = event.model

    def to_json(self, end: GenerationEnd) -> bytes:
        prompt = end.usage.prompt_tokens if end.usage is not None else 0
        usage: dict[str, Any] = {"prompt_tokens": prompt, "total_tokens": prompt}
        if self._with_relay:
            usage["x_relay"] = relay_object(end)
        return b'{"object":"list","data":%s,"model":%s,"usage":%s}' % (
            self._data,
            orjson.dumps(self._model),
            orjson.dumps(usage),
        )


def _input(value: object) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """Texts, or texts as tokens: one, or a list of them."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value:
        raise InvalidRequest("input must be a text, tokens, or a list of them", field="input")
    if isinstance(value[0], int):
        value = [value]
    if len(value) > MAX_INPUTS:
        raise InvalidRequest(f"input holds more than {MAX_INPUTS} texts", field="input")
    if isinstance(value[0], str):
        for at, one in enumerate(value):
            if not isinstance(one, str) or not one:
                raise InvalidRequest(f"input[{at}] must be text that is not empty", field="input")
        return tuple(value), ()
    return (), tuple(_tokens(tokens, at) for at, tokens in enumerate(value))


def _tokens(value: object, at: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise InvalidRequest(f"input[{at}] must be a list of tokens", field="input")
    # Without a loop of our own: there may be hundreds of thousands.
    if set(map(type, value)) != {int} or min(value) < 0 or max(value) >= _MAX_TOKEN:
        raise InvalidRequest(f"input[{at}] must hold whole numbers from 0 on", field="input")
    return tuple(value)
