"""Plugin of pytest: one mutant in a process of its own, where the module is imported as it.

For what differs at import (`patch.py`). The mutant, and the tests to run, stand in the file that
`RELAY_MUTANT` names. Anything but "all passed" kills it, an error at import too.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from tests.mutation import patch
from tests.mutation.plan import ROOT, Mutant

_TOLD: Final = json.loads(Path(os.environ["RELAY_MUTANT"]).read_text())

hypothesis.settings.register_profile(
    "mutation",
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("mutation")


def _install(mutant: Mutant) -> None:
    name = mutant.module.removesuffix(".py").replace("/", ".")
    path = ROOT / mutant.module
    patch.Mutant(name, str(path), mutant.applied(path.read_text())).install()


_install(Mutant.read(_TOLD["mutant"]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """These tests alone, in this order."""
    by_id = {item.nodeid: item for item in items}
    items[:] = [by_id[test] for test in _TOLD["tests"] if test in by_id]
