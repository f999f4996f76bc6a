"""`cache.semantic`: what is refused, by which field."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config import ConfigError, parse
from relay.config.semantic_cache import SemanticCacheConfig

FILE: dict[str, Any] = {
    "providers": {"openai": {"auth": "none"}},
    "models": {
        "support": {"candidates": [{"provider": "openai", "model": "gpt-4o-mini"}]},
        "embed": {"candidates": [{"provider": "openai", "model": "text-embedding-3-small"}]},
    },
}


def read(**fields: Any) -> SemanticCacheConfig:
    semantic = {"routes": {"support": {}}, "model": "embed", **fields}
    config = parse({**FILE, "cache": {"semantic": semantic}}, {})
    assert config.cache is not None
    assert config.cache.semantic is not None
    return config.cache.semantic


def test_off_unless_it_is_there() -> None:
    assert parse(FILE, {}).cache is None
    cache = parse({**FILE, "cache": {}}, {}).cache
    assert cache is not None
    assert cache.semantic is None


def test_safe_by_default() -> None:
    semantic = read()
    assert (semantic.guard, semantic.share, semantic.embeddings) == ("strict", "tenant", "provider")


def test_a_provider_and_its_model() -> None:
    assert read(model="openai/text-embedding-3-large").model == "openai/text-embedding-3-large"
    assert read(routes={"openai/gpt-4o": {}}).routes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"routes": {}}, r"cache\.semantic\.routes: is empty"),
        ({"routes": {"suport": {}}}, r"routes: nobody can ask for 'suport';.*'support'"),
        ({"model": "embd"}, r"cache\.semantic\.model: 'embd' is no alias .*did you mean 'embed'"),
        ({"model": "opnai/x"}, r"cache\.semantic\.model: 'opnai/x' .*did you mean 'openai/x'"),
        ({"model": ""}, r"model: needed with `embeddings: provider`"),
        ({"embeddings": "onnx", "model": ""}, r"directory: needed"),
        ({"embeddings": "wordllama"}, r"model: only with `embeddings: provider`"),
        ({"directory": "d"}, r"directory: only with `embeddings: onnx`"),
        ({"threshold": 0.4}, r"threshold.*0\.5"),
        ({"routes": {"support": {"threshold": 1.1}}}, r"threshold.*1"),
        ({"guard": "off"}, r"guard.*strict"),
        ({"treshold": 0.9}, r"treshold"),
    ],
)  # fmt: skip
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(**fields)


def test_what_needs_a_restart() -> None:
    def whole(**fields: Any) -> Any:
        semantic = {"routes": {"support": {}}, "model": "embed", **fields}
        return parse({**FILE, "cache": {"semantic": semantic}}, {})

    assert whole().needing_restart(whole(redis=False)) == ["cache.semantic.redis"]
    assert whole().needing_restart(whole(threshold=0.9, max_entries=5)) == []
    assert whole().needing_restart(parse(FILE, {})) == []
