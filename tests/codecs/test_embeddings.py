"""Vectors in every wire that has them: requests as exact JSON, answers whole, cut, wrong."""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.base import Codec, EndsInSteps
from relay.codecs.embeddings import MAX_ANSWER_BYTES, build_no_embeddings
from relay.codecs.registry import BUILDERS, EMBEDDERS
from relay.config import parse
from relay.content import (
    ChoiceFinished,
    EmbeddingOptions,
    Embeddings,
    Events,
    GenerateRequest,
    ProviderFailed,
    ResponseInfo,
    Usage,
)
from relay.errors import Reason, RemoteProtocolError, UnsupportedFeature

VECTORS = [[0.5, -0.25], [1.0, 0.0]]
NUMBERS = orjson.dumps(
    [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(VECTORS)
    ]
)


def openai_body(vectors: list[Any] = VECTORS, **more: Any) -> dict[str, Any]:
    data = [
        {"object": "embedding", "embedding": vector, "index": index}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    return {"object": "list", "data": data, "model": "m-1", "usage": usage, **more}


BODIES: dict[str, dict[str, Any]] = {
    "openai_chat": openai_body(),
    "openai_responses": openai_body(),
    "gemini": {"embeddings": [{"values": vector} for vector in VECTORS]},
    "ollama": {"model": "m-1", "embeddings": VECTORS, "prompt_eval_count": 5},
}


def request(**embedding: Any) -> GenerateRequest:
    options = EmbeddingOptions(**{"texts": ("Hi", "there"), **embedding})
    return GenerateRequest("fast", (), embedding=options)


def codec_of(wire: str, **quirks: Any) -> Codec:
    return EMBEDDERS[wire](quirks, "lab")()


def read(codec: Codec, body: bytes, *, status: int = 200, step: int = 0, **asked: Any) -> Events:
    """Everything that comes of a body; with `step`, in pieces of so many bytes."""
    codec.encode_request(request(**asked), "m")
    codec.decode_headers(status, [("x-request-id", "r1")])
    for at in range(0, len(body), step or len(body) or 1):
        events = codec.feed(body[at : at + (step or len(body))])
        if events:
            return events
    return codec.end()


def failure_of(events: Events) -> ProviderFailed:
    (failed,) = events
    assert isinstance(failed, ProviderFailed)
    assert failed.error.metadata["provider_request_id"] == "r1"
    return failed


def test_every_wire_but_two_has_vectors() -> None:
    assert BUILDERS.keys() - EMBEDDERS.keys() == {"anthropic_messages", "bedrock_converse"}
    codec = build_no_embeddings({}, "lab")()
    with pytest.raises(UnsupportedFeature, match="embeddings is not supported by lab"):
        codec.encode_request(request(), "m")


# --- requests ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wire", "path", "asked", "body"),
    [
        (
            "openai_chat",
            "/embeddings",
            {},
            {"model": "m", "input": ["Hi", "there"], "encoding_format": "float"},
        ),
        (
            "openai_responses",
            "/embeddings",
            {"texts": (), "tokens": ((1, 2), (3,)), "dimensions": 8, "as_base64": True},
            {"model": "m", "input": [[1, 2], [3]], "encoding_format": "base64", "dimensions": 8},
        ),
        (
            "gemini",
            "/v1beta/models/m:batchEmbedContents",
            {"dimensions": 8},
            {
                "requests": [
                    {
                        "model": "models/m",
                        "outputDimensionality": 8,
                        "content": {"parts": [{"text": text}]},
                    }
                    for text in ("Hi", "there")
                ]
            },
        ),
        (
            "ollama",
            "/api/embed",
            {"dimensions": 8},
            {"model": "m", "input": ["Hi", "there"], "dimensions": 8},
        ),
    ],
)
def test_request(wire: str, path: str, asked: dict[str, Any], body: dict[str, Any]) -> None:
    encoded = codec_of(wire).encode_request(request(**asked), "m")
    assert encoded.path == path
    assert orjson.loads(encoded.body) == body


def test_a_row_s_own_path_holds_with_its_last_word() -> None:
    path = "/openai/deployments/d/chat/completions?api-version=1"
    codec = codec_of("openai_chat", path=path)
    assert codec.encode_request(request(), "m").path == (
        "/openai/deployments/d/embeddings?api-version=1"
    )


@pytest.mark.parametrize("wire", ["openai_chat", "openai_responses"])
def test_a_deployment_of_azure_has_a_path_of_its_own(wire: str) -> None:
    """As `AzureOpenAI` of OpenAI's SDK asks, whatever else the row speaks."""
    row = {"door": "azure_deployments", "resource": "r", "api_version": "1", "wire": wire}
    quirks = parse({"providers": {"azure": row}}).providers["azure"].quirks
    encoded = codec_of(wire, **quirks).encode_request(request(), "d 1")
    assert encoded.path == "/deployments/d%201/embeddings?api-version=1"


def test_vertex_has_another_interface() -> None:
    codec = codec_of("gemini", path="/v1/projects/p/models/{model}:streamGenerateContent")
    with pytest.raises(UnsupportedFeature):
        codec.encode_request(request(), "m")


@pytest.mark.parametrize("wire", ["gemini", "ollama"])
def test_tokens_are_for_openai_alone(wire: str) -> None:
    with pytest.raises(UnsupportedFeature, match="input of tokens"):
        codec_of(wire).encode_request(request(texts=(), tokens=((1,),)), "m")


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("wire", EMBEDDERS)
def test_answer(wire: str, step: int) -> None:
    info, vectors, *rest = read(codec_of(wire), orjson.dumps(BODIES[wire]), step=step)
    assert isinstance(info, ResponseInfo)
    assert info.model == ("" if wire == "gemini" else "m-1")
    assert isinstance(vectors, Embeddings)
    assert orjson.loads(vectors.data_json) == orjson.loads(NUMBERS)
    assert isinstance(rest[-1], ChoiceFinished)
    counted = [event for event in rest if isinstance(event, Usage)]
    assert [usage.prompt_tokens for usage in counted] == ([] if wire == "gemini" else [5])


@pytest.mark.parametrize("wire", ["gemini", "ollama"])
def test_numbers_become_base64_where_the_provider_knows_none(wire: str) -> None:
    _, vectors, *_ = read(codec_of(wire), orjson.dumps(BODIES[wire]), as_base64=True)
    assert isinstance(vectors, Embeddings)
    for row, wanted in zip(orjson.loads(vectors.data_json), VECTORS, strict=True):
        packed = base64.b64decode(row["embedding"])
        assert list(struct.unpack(f"<{len(wanted)}f", packed)) == wanted


def test_vectors_come_in_the_order_of_their_texts() -> None:
    body = openai_body()
    body["data"].reverse()
    _, vectors, *_ = read(codec_of("openai_chat"), orjson.dumps(body))
    assert isinstance(vectors, Embeddings)
    assert orjson.loads(vectors.data_json) == orjson.loads(NUMBERS)


@pytest.mark.parametrize("vector", [b'"A\xc1AA"', b'["A\xc1AA"]', '"é"'.encode()])
def test_a_vector_that_is_no_text_goes_no_further(vector: bytes) -> None:
    """It is passed on unread, and would make the whole answer one that nobody can read."""
    body = b'{"data":[{"embedding":[0.5],"index":0},{"embedding":%b,"index":1}]}' % vector
    failed = failure_of(read(codec_of("openai_chat"), body))
    assert isinstance(failed.error, RemoteProtocolError)


def two_alike() -> dict[str, Any]:
    body = openai_body()
    body["data"][1]["index"] = 0
    return body


@pytest.mark.parametrize(
    ("wire", "make"),
    [
        ("openai_chat", lambda: openai_body(VECTORS[:1])),
        ("openai_chat", lambda: openai_body([*VECTORS, [1.0]])),
        ("openai_chat", lambda: openai_body([{"a": 1}, [1.0]])),
        ("openai_chat", two_alike),
        ("openai_chat", lambda: {"data": 1}),
        ("openai_chat", dict),
        ("openai_chat", list),
        ("gemini", lambda: {"embeddings": [{"values": [1.0]}]}),
        ("gemini", lambda: {"embeddings": [{"values": "x"}, {"values": [1.0]}]}),
        ("gemini", dict),
        ("ollama", lambda: {"embeddings": [[1.0]]}),
        ("ollama", lambda: {"embeddings": [1, [1.0]]}),
        ("ollama", dict),
    ],
)
def test_what_is_no_answer_fails(wire: str, make: Callable[[], Any]) -> None:
    failed = failure_of(read(codec_of(wire), orjson.dumps(make())))
    assert failed.error.reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("wire", ["gemini", "ollama"])
def test_a_number_out_of_range_is_no_float32(wire: str) -> None:
    body = orjson.dumps(BODIES[wire]).replace(b"-0.25", b"1e300")
    failed = failure_of(read(codec_of(wire), body, as_base64=True))
    assert failed.error.reason is Reason.UPSTREAM_PROTOCOL


@pytest.mark.parametrize("wire", EMBEDDERS)
def test_a_cut_answer_is_one(wire: str) -> None:
    body = orjson.dumps(BODIES[wire])
    for at in range(len(body)):
        failed = failure_of(read(codec_of(wire), body[:at]))
        assert failed.error.reason is Reason.UPSTREAM_TRUNCATED


@pytest.mark.parametrize("wire", ["openai_chat", "ollama"])
def test_an_error_with_a_good_status_is_one(wire: str) -> None:
    failed = failure_of(read(codec_of(wire), b'{"error": {"message": "no such model"}}'))
    assert "no such model" in failed.error.public_message


@pytest.mark.parametrize("wire", EMBEDDERS)
def test_an_error_s_status_is_told(wire: str) -> None:
    body = b'{"error": {"code": 429, "message": "slow down"}}'
    failed = failure_of(read(codec_of(wire), body, status=429))
    assert failed.error.reason is Reason.UPSTREAM_RATE_LIMITED


def test_markup_is_no_answer() -> None:
    failed = failure_of(read(codec_of("openai_chat"), b"<html>"))
    assert failed.error.reason is Reason.UPSTREAM_PROTOCOL


def test_an_answer_has_a_limit() -> None:
    codec = codec_of("openai_chat")
    codec.encode_request(request(), "m")
    codec.decode_headers(200, [("x-request-id", "r1")])
    piece = b" " * (1 << 20)
    found: Events = ()
    for _ in range(MAX_ANSWER_BYTES // len(piece) + 1):
        assert not found
        found = codec.feed(piece)
    assert failure_of(found).error.reason is Reason.UPSTREAM_EVENT_TOO_LARGE
    assert codec.feed(b"x") == codec.end() == ()


@given(st.binary(max_size=200), st.sampled_from(sorted(EMBEDDERS)), st.sampled_from([200, 500]))
def test_whatever_comes_is_an_end(body: bytes, wire: str, status: int) -> None:
    events = read(codec_of(wire), body, status=status)
    assert isinstance(events[-1], ProviderFailed | ChoiceFinished)


@pytest.mark.parametrize("wire", BODIES)
def test_a_large_answer_is_read_in_small_steps(wire: str) -> None:
    count, numbers = 500, [0.0123456] * 1000
    vectors = [numbers] * count
    whole = {
        "gemini": {"embeddings": [{"values": vector} for vector in vectors]},
        "ollama": {"embeddings": vectors},
    }.get(wire, openai_body(vectors))
    codec = EMBEDDERS[wire]({}, "p")()
    assert isinstance(codec, EndsInSteps)
    options = EmbeddingOptions(texts=("x",) * count, as_base64=True)
    codec.encode_request(GenerateRequest("m", (), embedding=options), "m")
    codec.decode_headers(200, [])
    codec.feed(orjson.dumps(whole))
    steps = sum(1 for _ in codec.steps())
    assert steps > 30
    assert sum(1 for _ in codec.steps()) == 0
    found = [event for event in codec.end() if isinstance(event, Embeddings)]
    assert len(orjson.loads(found[0].data_json)) == count
    assert codec.end() == ()
