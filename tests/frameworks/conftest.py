"""One world for all tests here; nothing is collected where a framework is not installed.

`test_installed.py` says what is missing: `make test` runs without the frameworks, which have an
environment of their own (`make test-frameworks`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.frameworks.world import World

FRAMEWORKS = {"livekit": "livekit.agents", "pipecat": "pipecat"}


def is_installed(framework: str) -> bool:
    """Whether its package can be imported."""
    try:
        return importlib.util.find_spec(FRAMEWORKS[framework]) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


_missing = [name for name in FRAMEWORKS if not is_installed(name)]
collect_ignore_glob = [f"test_{name}*.py" for name in _missing]
if len(_missing) == len(FRAMEWORKS):
    collect_ignore_glob.append("test_world.py")


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of the frameworks' own are not ours to mend."""
    for package in (
        "livekit",
        "pipecat",
        "opentelemetry",
        "google",
        "numba",
        "resampy",
        "loudness",
    ):
        config.addinivalue_line("filterwarnings", rf"ignore:::{package}(\..*)?")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Emulator, edge and relay, for all tests of this test process."""
    with World(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture
async def idle_after(world: World) -> AsyncIterator[None]:
    """Fail a test after which the relay holds a generation or a provider's stream, or the emulator
    one that nobody ended."""
    yield
    await world.idle()
    await world.quiet()
