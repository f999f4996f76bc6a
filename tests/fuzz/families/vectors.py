"""Answers that hold vectors, by wire; and a vector that a cache asks for.

Held to: nothing is raised, a body cut anywhere says the same as whole, as many vectors come out as
were asked for and are JSON, and of a cache's vector that it has length one.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import orjson

from relay.cache.embed_base import EmbeddingFailed
from relay.cache.embed_provider import vector_of
from relay.codecs.registry import EMBEDDERS
from relay.content import EmbeddingOptions, Embeddings, GenerateRequest, ProviderFailed, StreamEvent
from tests.fuzz.draws import cut, draw_of
from tests.fuzz.registry import Target

STATUSES = (200, 200, 200, 400, 429, 500)
VECTORS = [[0.5, -0.25], [1.0, 0.0]]
DATA = [{"object": "embedding", "embedding": one, "index": at} for at, one in enumerate(VECTORS)]
BODIES = (
    {"object": "list", "data": DATA, "model": "m", "usage": {"prompt_tokens": 5}},
    {"data": [{"embedding": "AAAAPwAAgL4=", "index": 0}, {"embedding": "AAAAPwAAgL4="}]},
    {"embeddings": [{"values": vector} for vector in VECTORS]},
    {"model": "m-1", "embeddings": VECTORS, "prompt_eval_count": 5},
    {"error": {"message": "no", "code": 429}},
)


def read(wire: str, pieces: list[bytes], status: int, as_base64: bool) -> list[StreamEvent]:
    codec = EMBEDDERS[wire]({}, "p")()
    options = EmbeddingOptions(texts=("Hi", "there"), as_base64=as_base64)
    codec.encode_request(GenerateRequest("fast", (), embedding=options), "m")
    codec.decode_headers(status, [("content-type", "application/json")])
    events: list[StreamEvent] = []
    for piece in pieces:
        events += codec.feed(piece)
    return [*events, *codec.end()]


def told(events: list[StreamEvent]) -> list[object]:
    """Comparable: a failure by its class and text."""
    return [
        (type(one.error), one.error.public_message) if isinstance(one, ProviderFailed) else one
        for one in events
    ]


def check(wire: str, given: bytes) -> bool:
    draw = draw_of(given)
    status, as_base64 = draw.choice(STATUSES), draw.random() < 0.3
    whole = read(wire, [given], status, as_base64)
    assert told(read(wire, cut(given, draw), status, as_base64)) == told(whole)
    ends = [isinstance(event, ProviderFailed) for event in whole]
    assert ends.count(True) <= 1
    assert True not in ends[:-1]
    found = [event for event in whole if isinstance(event, Embeddings)]
    assert len(found) == (0 if ends[-1] else 1)
    for event in found:
        rows = orjson.loads(event.data_json)
        assert [row["index"] for row in rows] == [0, 1]
        assert all(isinstance(row["embedding"], str | list) for row in rows)
    return bool(found)


def _seeds() -> list[bytes]:
    """A seed's checksum draws what is asked for; blanks say nothing."""
    return [orjson.dumps(body) + b" " * at for body in BODIES for at in range(6)]


def check_one(given: bytes) -> bool:
    try:
        vector = vector_of(given)
    except EmbeddingFailed as error:
        assert len(str(error)) < 200
        return False
    assert vector.dtype == np.float32
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-3
    return True


ONE = (b'[{"embedding":[0.5,1]}]', b'[{"embedding":"AAAAPwAAgL4="}]', b'[{"embedding":[]}]')

TARGETS = {
    **{wire: Target(partial(check, wire), _seeds) for wire in EMBEDDERS},
    "of_a_cache": Target(check_one, lambda: ONE),
}
