"""Secrets that must turn up nowhere, and the search for them.

canaries = Canaries()
key = canaries.make("provider key")
canaries.search("log", relay_log)          # bytes or text
assert not canaries.found
"""

from __future__ import annotations

import base64
import secrets
import string
from pathlib import Path

LENGTH = 32
PIECE = 8
"""Characters of a piece: what of a secret is shown may be no longer than two of them."""
_LETTERS = string.ascii_letters + string.digits


class Canaries:
    """Whole, in pieces, as base64 and as hexadecimal digits."""

    def __init__(self) -> None:
        self._forms: dict[bytes, str] = {}
        self._whole: dict[bytes, str] = {}
        self.found: list[str] = []
        """Each place where there was one, with what stands around it."""
        self.searched_bytes = 0

    def make(self, name: str, prefix: str = "") -> str:
        """A new one."""
        return self.add(name, prefix + "".join(secrets.choice(_LETTERS) for _ in range(LENGTH)))

    def add(self, name: str, value: str, *, in_pieces: bool = True) -> str:
        """One that somebody else has made.

        Args:
            value: its last `LENGTH` characters are random where it is looked for in pieces.
        """
        raw = value.encode()
        self._whole[raw] = name
        core = raw[-LENGTH:] if in_pieces else raw
        forms = {raw, core.hex().encode()}
        for before in range(3):
            encoded = base64.b64encode(bytes(before) + core)
            forms.add(encoded[4:-4])
        if in_pieces:
            forms |= {core[at : at + PIECE] for at in range(0, len(core) - PIECE + 1, PIECE)}
        self._forms |= dict.fromkeys(forms, name)
        return value

    def search(self, where: str, data: bytes | str) -> None:
        """Note every canary in it."""
        if isinstance(data, str):
            data = data.encode(errors="surrogateescape")
        self.searched_bytes += len(data)
        self._search(where, data, self._forms)

    def search_folder(self, where: str, folder: Path) -> None:
        """Every file below it, for whole ones alone."""
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                self.searched_bytes += len(data)
                self._search(f"{where}: {path.relative_to(folder)}", data, self._whole)

    def _search(self, where: str, data: bytes, forms: dict[bytes, str]) -> None:
        for form, name in forms.items():
            at = data.find(form)
            if at >= 0:
                around = data[max(0, at - 120) : at + len(form) + 40]
                self.found.append(f"{name} in {where}: {around!r}")
