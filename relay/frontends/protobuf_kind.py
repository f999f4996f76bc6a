"""Which of protobuf's implementations reads messages here."""

from __future__ import annotations

from typing import Final

from google.protobuf.internal import api_implementation

BOUNDED: Final = frozenset({"upb", "cpp"})
"""Those that bound how deep a message may be. The one in Python recurses as deep as a caller's
message says (CVE-2025-4565), and is fifty times as slow."""


def protobuf_kind() -> str:
    """`upb`, `cpp` or `python`."""
    return str(api_implementation.Type())
