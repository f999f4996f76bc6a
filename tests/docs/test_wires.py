"""docs/wires.md says what the codecs do."""

from __future__ import annotations

import pytest

from relay.codecs.registry import BUILDERS
from relay.config import known_providers
from tests.docs.wires import COLUMNS, FEATURES, PAGE, page_with, table, word


def test_table_is_what_the_codecs_do() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with(table()), "python -m tests.docs.wires writes it anew"


def test_every_wire_is_on_the_page() -> None:
    assert {wire for wire, _, _ in COLUMNS} == set(BUILDERS)
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{wire}` |" in page for wire in BUILDERS)
    spoken = {row["wire"] for row in known_providers().values()}
    assert spoken <= set(BUILDERS), "every known provider can be asked"


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_is_one_thing_more(feature: str) -> None:
    without, given = FEATURES[feature]
    assert without != given
    words = {word(*column, feature) for column in COLUMNS}
    assert words <= {"sent", "left out", "refused"}
