"""What every test gets: a check that it leaves no task behind, and no exception in the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest

os.environ.pop("COLUMNS", None)  # of xdist: consoles that are made at import would keep its 80


@pytest.fixture(autouse=True)
async def _nothing_left_behind() -> AsyncIterator[None]:
    """Fail a test that leaves tasks running or whose callbacks raised."""
    loop = asyncio.get_running_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    before = asyncio.all_tasks()
    yield
    for _ in range(10):  # callbacks of tasks that just ended
        await asyncio.sleep(0)
    ours = asyncio.all_tasks() - before - {asyncio.current_task()}
    left = {task for task in ours if not task.done()}
    if left:
        _, left = await asyncio.wait(left, timeout=2.0)
    assert not left, f"tasks left behind: {left}"
    assert not failures, f"exceptions in the loop: {failures}"
