"""Says in the summary which frameworks are missing, and why their tests were not collected."""

from __future__ import annotations

import pytest

from tests.frameworks.conftest import FRAMEWORKS, is_installed


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_framework_is_installed(framework: str) -> None:
    if not is_installed(framework):
        pytest.skip(f"{framework} is not installed here: make test-frameworks")
