"""Real servers, each started when a test first asks for it; and the order of two libraries."""

from __future__ import annotations

import importlib
import importlib.util

from tests.fakes.servers import own_redis, redis_server, redis_url

__all__ = ["own_redis", "redis_server", "redis_url"]

# onnxruntime crashes where usearch was loaded before it.
if importlib.util.find_spec("onnxruntime") is not None:
    importlib.import_module("onnxruntime")
