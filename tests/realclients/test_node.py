"""Node's clients: each file of `node/` is a test here, run by Node's own test runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.realclients import behaviours
from tests.realclients.world import World

FOLDER = Path(__file__).parent / "node"
TIMEOUT_S = 120
LEAST_NODE = 22
"""Of both clients' newest major versions."""

_RESULT = re.compile(r"^(ok|not ok) \d+ - (.*?)(?: # SKIP (.*))?$", re.MULTILINE)
"""A test of the outermost level in the Test Anything Protocol."""


def _missing() -> str:
    """Why nothing here can run; empty if it can."""
    node = shutil.which("node")
    if node is None:
        return "Node is not installed"
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(told.removeprefix("v").split(".")[0]) < LEAST_NODE:
        return f"the clients need Node {LEAST_NODE}, this is {told.strip()}"
    if not (FOLDER / "node_modules").is_dir():
        return "their packages are not installed: make test-clients"
    return ""


@pytest.mark.timeout(TIMEOUT_S + 10)
@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("*.test.js")))
def test_file(world: World, subtests: pytest.Subtests, file: str) -> None:
    if reason := _missing():
        pytest.skip(reason)
    names = {name: value for name, value in vars(behaviours).items() if name.isupper()}
    facts = {"url": world.url, "emulator_url": world.emulator_url, "names": names}
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "--test-timeout=30000", file],
        cwd=FOLDER,
        env={**os.environ, "WORLD": json.dumps(facts)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    results = _RESULT.findall(run.stdout)
    assert results, run.stdout + run.stderr
    for outcome, name, skipped in results:
        with subtests.test(msg=name):
            if skipped:
                pytest.skip(skipped)
            assert outcome == "ok"
    assert run.returncode == 0, run.stdout + run.stderr
