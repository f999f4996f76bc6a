"""The command itself, before any of its parts."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from relay import __version__
from relay.cli import app


@pytest.mark.parametrize("asked", ["--version", "version"])
def test_version(asked: str) -> None:
    shown = CliRunner().invoke(app, [asked])
    assert (shown.exit_code, shown.stdout) == (0, f"{__version__}\n")
