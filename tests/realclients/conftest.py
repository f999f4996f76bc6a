"""One world for all tests here; a client's tests are collected where the client is installed.

`make test-clients` runs them in environments of their own. `make test` collects none of them:
`test_installed.py` says so.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator

import pytest

from tests.realclients.world import World

CLIENTS = {
    "anthropic": "anthropic",
    "langchain": "langchain_openai",
    "litellm": "litellm",
    "llama_index": "llama_index.llms.openai_like",
    "llm_cli": "llm",
    "openai": "openai",
    "pydantic_ai": "pydantic_ai",
}
"""`test_CLIENT*.py`, and the package that it needs."""


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # of the package above it
        return False


_ENVIRONMENT = {
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
    # Their own looks at the world outside, beside the requests that are tested.
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "ANONYMIZED_TELEMETRY": "False",
}

IS_CLIENTS_ENVIRONMENT = is_installed("langchain_openai") or is_installed("llama_index")
"""Not that of `make test`, which has two of the clients for other tests."""

if IS_CLIENTS_ENVIRONMENT:
    collect_ignore_glob = [
        f"test_{client}*.py" for client, package in CLIENTS.items() if not is_installed(package)
    ]
else:
    collect_ignore_glob = [f"test_{client}*.py" for client in (*CLIENTS, "curl", "node")]


def pytest_configure(config: pytest.Config) -> None:
    """Let clients warn and leave sockets behind: what runs in this process is theirs."""
    if IS_CLIENTS_ENVIRONMENT:
        os.environ.update(_ENVIRONMENT)
        config.addinivalue_line("filterwarnings", "ignore")
        warnings.simplefilter("ignore")  # also once the last test is over


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Emulator and relay, for all tests."""
    with World(tmp_path_factory.mktemp("world")) as running:
        yield running
        assert running.troubles() == []


@pytest.fixture
def responses(world: World) -> World:
    """The world, where it serves OpenAI's Responses API."""
    return _serving(world, "/v1/responses")


@pytest.fixture
def messages(world: World) -> World:
    """The world, where it serves Anthropic's Messages API."""
    return _serving(world, "/v1/messages")


def _serving(world: World, path: str) -> World:
    if not world.serves(path):
        pytest.skip(f"this relay does not serve {path}")
    return world
