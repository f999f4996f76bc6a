"""Which livekit-agents this was tested with."""

from __future__ import annotations

import re
import warnings
from importlib import metadata

TESTED = ((1, 8), (1, 9))
"""From the first, below the second."""
INSTALL = "it is the extra `livekit` of rtrelay-client"


def check_versions(installed: str | None = None) -> None:
    """Refuse a livekit-agents that cannot work, warn of one that nobody has tried.

    Args:
        installed: its version; None: as the environment says.

    Raises:
        ImportError: there is none, or an older one.
    """
    if installed is None:
        try:
            installed = metadata.version("livekit-agents")
        except metadata.PackageNotFoundError:
            raise ImportError(f"rtrelay.livekit needs livekit-agents: {INSTALL}") from None
    numbers = re.match(r"(\d+)\.(\d+)", installed)
    version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
    tested = f"{TESTED[0][0]}.{TESTED[0][1]}"
    if version < TESTED[0]:
        raise ImportError(
            f"rtrelay.livekit needs livekit-agents {tested}, {installed} is installed: {INSTALL}"
        )
    if version >= TESTED[1]:
        warnings.warn(
            f"rtrelay.livekit is tested with livekit-agents {tested}, {installed} is installed",
            RuntimeWarning,
            stacklevel=3,
        )
