"""Errors that nobody waits for."""

from __future__ import annotations

import asyncio


def report(error: BaseException, message: str) -> None:
    """Tell the loop's exception handler, as asyncio does for its own callbacks."""
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": f"rtrelay: {message}", "exception": error})
