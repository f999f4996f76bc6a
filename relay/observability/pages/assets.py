"""The files of the pages, read once: no path of a request ever comes near the file system."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

_HERE: Final = Path(__file__).parent
_TYPES: Final = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_FOLDERS: Final = (("static", ""), ("vendored/uplot", "uplot/"))


class Asset(NamedTuple):
    """One file."""

    body: bytes
    content_type: bytes
    etag: bytes


@cache
def assets() -> dict[str, Asset]:
    """By name below `/dashboard/static/`; pages among them."""
    found: dict[str, Asset] = {}
    for folder, prefix in _FOLDERS:
        root = _HERE / folder
        for path in sorted(root.rglob("*")):
            content_type = _TYPES.get(path.suffix)
            if content_type is not None:
                body = path.read_bytes()
                etag = b'"%b"' % hashlib.sha256(body).hexdigest()[:20].encode()
                name = prefix + path.relative_to(root).as_posix()
                found[name] = Asset(body, content_type, etag)
    return found
