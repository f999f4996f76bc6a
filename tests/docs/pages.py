"""The pages under docs/, cut into their blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"


class Block(NamedTuple):
    """What stands between two fences."""

    page: str
    """Name of the file."""
    line: int
    language: str
    text: str

    @property
    def file_name(self) -> str:
        """The file that it is said to be by a comment in its first line; empty for none."""
        match = re.match(r"# ([\w./-]+\.(?:yaml|py))\n", self.text)
        return match[1] if match else ""


def pages() -> list[str]:
    """Names of all pages."""
    return sorted(path.name for path in DOCS.glob("*.md"))


def blocks(page: str) -> list[Block]:
    """In the order in which they stand there."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def headings(file: Path) -> set[str]:
    """As GitHub names them."""
    found = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}
