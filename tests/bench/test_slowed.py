"""The short bench fails when the relay got slower: it is run as CI runs it, with a relay that burns
CPU for each request and each token (`slowed/sitecustomize.py`).

A minute each, so only in the long form.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.bench,
    pytest.mark.sockets,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.environ.get("RELAY_FULL") != "1", reason="a minute each: RELAY_FULL=1"),
]


def _run(request_us: int, token_us: int, *chosen: str) -> subprocess.CompletedProcess[str]:
    paths = [Path(__file__).parent / "slowed", ROOT, ROOT / "clients" / "python"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", "tests/bench/test_short.py", "-p", "no:xdist", *chosen],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "SLOWED_REQUEST_US": str(request_us),
            "SLOWED_TOKEN_US": str(token_us),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("request_us", "token_us", "chosen", "expected"),
    [
        pytest.param(100, 0, "generations", "micro/path_request", id="100 us a request"),
        pytest.param(0, 2, "generations", "micro/path_event", id="2 us a token"),
        pytest.param(300, 60, "streams", "cpu_over_direct_ends/sse", id="60 us a token"),
        pytest.param(3000, 0, "streams", "ttft_p50_over_direct/sse", id="3 ms a request"),
    ],
)
def test_a_regression_fails(request_us: int, token_us: int, chosen: str, expected: str) -> None:
    done = _run(request_us, token_us, "-k", chosen)
    assert done.returncode == 1, done.stdout
    assert f"{expected} is " in done.stdout, done.stdout
    assert "times the baseline" in done.stdout
