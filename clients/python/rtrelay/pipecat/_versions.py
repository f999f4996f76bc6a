"""Which Pipecat this is tested with.

The service uses parts of Pipecat that are not promised to stay (the speculation gate, the adapter's
parameters), so another minor version is refused rather than found out in the middle of a call.
"""

from __future__ import annotations

import os
from importlib import metadata

TESTED = "pipecat-ai>=1.14,<1.15"
"""As in the extra `pipecat` of this package."""
_TESTED_MINOR = ("1", "14")
ANY_VERSION = "RTRELAY_ANY_PIPECAT"
"""Environment variable; `1` lets other versions pass, for who tests them."""


def check_pipecat() -> None:
    """
    Raises:
        ImportError: Pipecat is not there, or of a version that is not tested.
    """
    wanted = f"rtrelay.pipecat needs {TESTED}; it is the extra `pipecat` of rtrelay-client"
    try:
        found = metadata.version("pipecat-ai")
    except metadata.PackageNotFoundError:
        raise ImportError(f"{wanted} (Pipecat is not installed)") from None
    if tuple(found.split(".")[:2]) != _TESTED_MINOR and os.environ.get(ANY_VERSION) != "1":
        raise ImportError(f"{wanted} (found {found}; {ANY_VERSION}=1 tries it nevertheless)")
