"""Says in the summary which clients are missing, and holds the README to what was tested."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from tests.realclients.conftest import CLIENTS, IS_CLIENTS_ENVIRONMENT, is_installed

FOLDER = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
]


def versions_told(client: str) -> set[str]:
    """Of a client, in the README's table."""
    rows = [row for row in ROWS if row[0].split(" (")[0] == f"`{client}`"]
    return {row[1] for row in rows}


@pytest.mark.parametrize("client", CLIENTS)
def test_client_is_installed(client: str) -> None:
    if not IS_CLIENTS_ENVIRONMENT:
        pytest.skip("clients are tested in environments of their own: make test-clients")
    if not is_installed(CLIENTS[client]):
        pytest.skip(f"{client} is not installed here")


@pytest.mark.parametrize(
    "package",
    [
        "anthropic",
        "langchain-openai",
        "litellm",
        "llama-index-llms-openai-like",
        "llm",
        "openai",
        "pydantic-ai-slim",
    ],
)
def test_readme_tells_the_version_that_is_tested(package: str) -> None:
    if not IS_CLIENTS_ENVIRONMENT:
        pytest.skip("clients are tested in environments of their own: make test-clients")
    try:
        installed = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{package} is not installed here")
    assert installed in versions_told(package)


def test_readme_tells_the_versions_of_node_s_clients() -> None:
    packages = json.loads((FOLDER / "node" / "package.json").read_text(encoding="utf-8"))
    versions = packages["dependencies"]
    assert versions["openai"] in versions_told("openai")
    told = {row[0]: row[1] for row in ROWS if row[0].startswith("`ai` with ")}
    for name in ("@ai-sdk/openai-compatible", "@ai-sdk/openai"):
        assert told[f"`ai` with `{name}`"] == f"{versions['ai']}, {versions[name]}"
