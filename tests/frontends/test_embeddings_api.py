"""`/v1/embeddings`: what a body may say. Answers are read by the official client elsewhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.content import EmbeddingOptions, Embeddings, Policy, ResponseInfo, Usage
from relay.errors import InvalidRequest
from relay.frontends.surfaces.embeddings import EmbeddingsApi
from tests.fakes.ends import end_of

API = EmbeddingsApi()


def embedding_of(**body: Any) -> EmbeddingOptions:
    found = API.read({"model": "m", **body}, Policy()).request.embedding
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("value", "texts", "tokens"),
    [
        ("a", ("a",), ()),
        (["a", "b"], ("a", "b"), ()),
        ([1, 2], (), ((1, 2),)),
        ([[1], [2, 3]], (), ((1,), (2, 3))),
    ],
)
def test_input(value: object, texts: tuple[str, ...], tokens: tuple[tuple[int, ...], ...]) -> None:
    found = embedding_of(input=value)
    assert (found.texts, found.tokens) == (texts, tokens)
    assert found.count == len(texts) + len(tokens)


def test_other_fields() -> None:
    body = {
        "model": "m",
        "input": "a",
        "dimensions": 8,
        "encoding_format": "base64",
        "user": "u",
        "input_type": "query",
        "base_url": "http://elsewhere",
        "stream": False,
    }
    policy = Policy(turn_id="t")
    asked = API.read(body, policy)
    request = asked.request
    assert request.embedding == EmbeddingOptions(("a",), dimensions=8, as_base64=True)
    assert (request.user, request.extra) == ("u", {"input_type": "query"})
    assert (request.policy, request.sampling.max_output_tokens) == (policy, 0)
    assert asked.answer is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "model"),
        ({"model": 1}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": []}, "input"),
        ({"model": "m", "input": ""}, "input"),
        ({"model": "m", "input": ["a", ""]}, "input"),
        ({"model": "m", "input": ["a", 1]}, "input"),
        ({"model": "m", "input": [1, "a"]}, "input"),
        ({"model": "m", "input": [[1], []]}, "input"),
        ({"model": "m", "input": [[1], [True]]}, "input"),
        ({"model": "m", "input": [-1]}, "input"),
        ({"model": "m", "input": [1 << 40]}, "input"),
        ({"model": "m", "input": ["a"] * 2049}, "input"),
        ({"model": "m", "input": {"a": 1}}, "input"),
        ({"model": "m", "input": "a", "dimensions": 0}, "dimensions"),
        ({"model": "m", "input": "a", "dimensions": True}, "dimensions"),
        ({"model": "m", "input": "a", "encoding_format": "f16"}, "encoding_format"),
        ({"model": "m", "input": "a", "stream": True}, "stream"),
        ({"model": "m", "input": "a", "user": 1}, "user"),
    ],
)
def test_bad_input_names_its_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        API.read(body, Policy())
    assert raised.value.field == field


@pytest.mark.parametrize("timeline", [False, True])
def test_document(timeline: bool) -> None:
    document = API.read({"model": "m", "input": "a"}, Policy(timeline=timeline)).document
    assert document is not None
    data = [{"object": "embedding", "index": 0, "embedding": [1.5]}]
    document.add([ResponseInfo("", "m-1", 0), Embeddings(orjson.dumps(data))])
    value = orjson.loads(document.to_json(end_of(usage=Usage(7, 0, 7))))
    usage = value.pop("usage")
    assert value == {"object": "list", "data": data, "model": "m-1"}
    assert ("x_relay" in usage) is timeline
    assert (usage["prompt_tokens"], usage["total_tokens"]) == (7, 7)
