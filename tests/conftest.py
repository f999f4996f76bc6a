"""What every test with a loop gets: a check that it leaves no task behind and no exception."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Generator
from typing import Any

import pytest
from pytest_asyncio import is_async_test

_RERUN = "rerun"
"""Outcome of a try that failed and was followed by another (pytest-rerunfailures, where CI asks for
it): no failure, and not to be lost either."""

os.environ.pop("COLUMNS", None)  # of xdist: consoles that are made at import would keep its 80


@pytest.fixture(autouse=True)
def _watched(request: pytest.FixtureRequest) -> None:
    """Watch what has a loop; the others, most of all tests, are spared one."""
    if is_async_test(request.node):
        request.getfixturevalue("_nothing_left_behind")


@pytest.hookimpl(wrapper=True, tryfirst=True)  # before pytest-asyncio's, which replaces `func`
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Tests that are no coroutines are watched when a fixture of theirs is one."""
    made_by = fixturedef.func
    has_loop = inspect.isasyncgenfunction(made_by) or inspect.iscoroutinefunction(made_by)
    is_watch = fixturedef.argname == "_nothing_left_behind"
    if has_loop and fixturedef.scope == "function" and not is_watch:
        request.getfixturevalue("_nothing_left_behind")
    return (yield)


@pytest.fixture
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what the first try of a test failed with, also when the second passed."""
    for report in terminalreporter.stats.get(_RERUN, ()):
        terminalreporter.section(f"FLAKY: {report.nodeid}")
        terminalreporter.line(report.longreprtext)
        for name, captured in report.sections:
            terminalreporter.section(name, "-")
            terminalreporter.line(captured)
