"""One request after the other, for the load generator: what the first of them waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from bench.paths import Path, Seen, digest, now_ns

_TIMEOUT_S = 20.0


async def ask_again(paths: Mapping[str, Path], request: Mapping[str, Any]) -> dict[str, Any]:
    """`count` requests over each of `paths`, in their order, `gap_ms` from an answer to the next.

    Returns:
        By path, for each request the microseconds from sending it to its first token.

    Raises:
        LoadError: an answer is not whole.
    """
    found: dict[str, list[float]] = {}
    for name in request["paths"]:
        found[name] = []
        for _ in range(int(request["count"])):
            seen: Seen = []
            began_ns = now_ns()
            async with asyncio.timeout(_TIMEOUT_S):
                await paths[name].stream(request["model"], seen)
            is_grpc = name in request["grpc_paths"]
            first = digest(seen, int(request["tokens"]), is_grpc=is_grpc)[0]
            found[name].append((first.received_ns - began_ns) / 1e3)
            await asyncio.sleep(request["gap_ms"] / 1e3)
    return {"first_us": found}
