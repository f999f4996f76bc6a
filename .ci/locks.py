"""What a lock file holds: parts, versions, hashes, and who wants them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PART = re.compile(
    r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)"
    r"(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?$"
)
_HASH = re.compile(r"^--hash=sha256:([0-9a-f]{64})(?:\s*\\)?$")


class Part(NamedTuple):
    """One requirement of a lock."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    """SHA-256 of every file that may be installed for it."""
    wanted_by: tuple[str, ...]


def parts_of(path: Path) -> list[Part]:
    """
    Raises:
        ValueError: a line is neither a requirement with one version, nor a hash, nor a comment: an
            address, an option, a file.
    """
    return list(_parts(path))


def _parts(path: Path) -> Iterator[Part]:
    found: list[Part] = []
    is_via = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.strip()
        if text.startswith("#"):
            said = text.lstrip("# ").strip()
            if found and line.startswith(" "):
                if said == "via" or said.startswith("via "):
                    is_via = True
                    said = said.removeprefix("via").strip()
                if is_via and said:
                    last = found[-1]
                    found[-1] = last._replace(wanted_by=(*last.wanted_by, said))
            continue
        is_via = False
        if not text:
            continue
        if (hashed := _HASH.match(text)) and found:
            found[-1] = found[-1]._replace(hashes=(*found[-1].hashes, hashed[1]))
        elif part := _PART.match(text):
            found.append(Part(part["name"], part["version"], part["marker"] or "", (), ()))
        else:
            raise ValueError(f"{path.name}:{number}: {text!r} is no requirement with a hash")
    yield from found
