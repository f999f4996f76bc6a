"""One world for all tests here, where the clouds' SDKs are installed.

`make test-doors` runs them in an environment of its own; `make test` collects none of them.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator

import pytest

from tests.doors.world import World

IS_DOORS_ENVIRONMENT = importlib.util.find_spec("boto3") is not None

if not IS_DOORS_ENVIRONMENT:
    collect_ignore_glob = ["test_*.py"]

_ENVIRONMENT = {
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    # No file or machine of whoever runs this lends its credentials.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "CLOUDSDK_CONFIG": os.devnull,
}
_NOT_OURS = ("AWS_", "AZURE_", "GOOGLE_", "GCE_", "OPENAI_", "ANTHROPIC_", "IDENTITY_", "MSI_")


def pytest_configure(config: pytest.Config) -> None:
    """Let SDKs warn and leave sockets behind: what runs in this process is theirs."""
    if IS_DOORS_ENVIRONMENT:
        for name in [name for name in os.environ if name.startswith(_NOT_OURS)]:
            del os.environ[name]
        os.environ.update(_ENVIRONMENT)
        config.addinivalue_line("filterwarnings", "ignore")
        warnings.simplefilter("ignore")  # also once the last test is over


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One emulator for all tests."""
    with World(tmp_path_factory.mktemp("world")) as running:
        yield running
