"""Whether a file that a row names is another one than before."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path


def digest_of(path: str | None) -> str:
    """Of what the file holds, so that a reload takes it anew; empty for none, and for one that
    cannot be read: whoever reads it says so."""
    if path is not None:
        with contextlib.suppress(OSError):
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return ""
