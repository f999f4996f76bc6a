"""What every part has at hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.servers import (
    own_postgres,
    own_postgres_url,
    own_redis,
    postgres_cluster,
)
from tests.fakes.tls import CertAuthority
from tests.matrix.row import Part, Stage

__all__ = ["own_postgres", "own_postgres_url", "own_redis", "postgres_cluster"]

MakeStage = Callable[[Part, int], Stage]


@pytest.fixture(scope="session")
def authority() -> CertAuthority:
    """Who signs for the fake providers."""
    return CertAuthority()


@pytest.fixture(scope="session")
def ca_file(authority: CertAuthority, tmp_path_factory: pytest.TempPathFactory) -> str:
    """PEM file of the authority."""
    return authority.ca_file(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def make_stage(
    authority: CertAuthority,
    ca_file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> MakeStage:
    """Stages of one test, each with a folder of its own; skips where a program is missing."""

    def make(part: Part, seed: int) -> Stage:
        for program in part.needs:
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        folder = tmp_path / str(seed)
        folder.mkdir()
        return Stage(seed, folder, authority, ca_file, monkeypatch, request.getfixturevalue)

    return make
