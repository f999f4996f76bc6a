"""What a job process does, importable by one."""

from __future__ import annotations

import asyncio

from rtrelay import livekit as relay_livekit

from tests.frameworks.livekit_kit import ask


def answer(address: str, model: str) -> str:
    """Ask once, in a loop of its own."""

    async def one() -> str:
        async with relay_livekit.LLM(address, model=model) as made:
            return (await made.chat(chat_ctx=ask()).collect()).text

    return asyncio.run(one())
