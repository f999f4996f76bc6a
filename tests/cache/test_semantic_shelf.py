"""From the configuration to the semantic cache, and what stays over reloads."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import Any

import pytest

from relay.cache.semantic_error import SemanticCacheError
from relay.cache.semantic_shelf import SemanticShelf
from relay.config.secret import Secret
from relay.config.semantic_cache import SemanticCacheConfig
from relay.config.store import StoreConfig
from tests.cache.world import NO_LEGS, SCOPE, asked


def config(**fields: Any) -> SemanticCacheConfig:
    return SemanticCacheConfig(**{"routes": {"fast": {}}, "embeddings": "wordllama", **fields})


@pytest.mark.parametrize(
    ("settings", "packages", "extra"),
    [
        ({}, {"wordllama"}, "semantic"),
        ({}, {"usearch", "numpy"}, "semantic"),
        ({"embeddings": "provider", "model": "e"}, {"usearch"}, "semantic"),
        ({"embeddings": "onnx", "directory": "d"}, {"tokenizers"}, "semantic-onnx"),
    ],
)
def test_packages_that_are_missing_are_named(
    settings: Any, packages: set[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in packages else object()
    )
    with pytest.raises(SemanticCacheError) as caught:
        SemanticShelf(None).take(config(**settings))
    message = str(caught.value)
    assert all(name in message for name in packages)
    assert message.endswith(f"pip install 'rtrelay[{extra}]'")


def test_onnx_waits_for_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "usearch", object())
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(SemanticCacheError, match="at a restart"):
        SemanticShelf(None).take(config(embeddings="onnx", directory="d"))


class TestInstalled:
    """With the extra."""

    @pytest.fixture(autouse=True)
    def _needed(self) -> None:
        for name in ("numpy", "usearch", "wordllama"):
            pytest.importorskip(name, reason="the extra `semantic` is not installed")

    async def test_answers_and_models_outlive_a_reload(self) -> None:
        from tests.cache.semantic_world import stored

        shelf = SemanticShelf(None)
        try:
            first = shelf.take(config())
            await shelf.check()
            request = asked("How do I reset my password?")
            look = await first.look(request, SCOPE, NO_LEGS, is_refresh=False, max_age_s=60)
            assert look is not None
            look.keep(stored("by mail", made_s=first._wall_clock()))
            second = shelf.take(config(threshold=0.7))
            assert second._embedder is first._embedder
            again = await second.look(
                asked("how can i reset my password"), SCOPE, NO_LEGS, is_refresh=False, max_age_s=60
            )
            assert again is not None
            assert again.hit is not None
            assert shelf.describe()["entries"] == 1
        finally:
            await shelf.aclose()
            await shelf.aclose()

    async def test_a_model_is_read_beside_the_loop(self) -> None:
        shelf = SemanticShelf(None)
        try:
            assert shelf.lacks(config())
            loading = asyncio.create_task(shelf.load(config()))
            turns = 0
            while not loading.done():
                turns += 1
                await asyncio.sleep(0.001)
            await loading
            assert turns > 5, "others have their turns meanwhile"
            assert not shelf.lacks(config())
            assert shelf.take(config())._embedder is shelf.take(config(threshold=0.7))._embedder
        finally:
            await shelf.aclose()

    async def test_what_cannot_be_read_is_told_when_it_is_taken(self) -> None:
        shelf = SemanticShelf(None)
        wanted = config(embeddings="onnx", directory="/nowhere/at/all")
        try:
            await shelf.load(wanted)
            with pytest.raises(SemanticCacheError, match=r"cache\.semantic"):
                shelf.take(wanted)
        finally:
            await shelf.aclose()

    async def test_a_redis_that_cannot_is_refused_at_the_start(self, redis_url: str) -> None:
        shelf = SemanticShelf(StoreConfig(redis=Secret(redis_url)))
        try:
            shelf.take(config())
            with pytest.raises(SemanticCacheError, match=r"store\.redis has no VADD"):
                await shelf.check()
        finally:
            await shelf.aclose()

    async def test_memory_where_redis_is_not_wanted(self, redis_url: str) -> None:
        shelf = SemanticShelf(StoreConfig(redis=Secret(redis_url)))
        try:
            shelf.take(config(redis=False))
            await shelf.check()
        finally:
            await shelf.aclose()
