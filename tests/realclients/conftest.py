"""One world for all tests here; a client's tests are collected where the client is installed.

`make test-clients` runs them in environments of their own. `make test` collects none of them:
`test_installed.py` says so.
"""

from __future__ import annotations

import importlib.util
import os
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


IS_CLIENTS_ENVIRONMENT = is_installed("langchain_openai") or is_installed("llama_index")
"""Not that of `make test`, which has two of the clients for other tests."""

if IS_CLIENTS_ENVIRONMENT:
    collect_ignore_glob = [
        f"test_{client}*.py" for client, package in CLIENTS.items() if not is_installed(package)
    ]
else:
    collect_ignore_glob = [f"test_{client}*.py" for client in (*CLIENTS, "curl", "node")]


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of the clients' own are not ours to mend."""
    if IS_CLIENTS_ENVIRONMENT:
        config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning")
        config.addinivalue_line("filterwarnings", "ignore::ResourceWarning")
        config.addinivalue_line("filterwarnings", "ignore::UserWarning")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Emulator and relay, for all tests."""
    # The clients are unmodified, so they look for a proxy.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with World(tmp_path_factory.mktemp("world")) as running:
        yield running


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
