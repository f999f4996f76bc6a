"""LiveKit Agents' LLM, served by a relay.

    from rtrelay import livekit as rtrelay_livekit

    session = AgentSession(llm=rtrelay_livekit.LLM("127.0.0.1:50051", model="fast"), ...)

Tested with livekit-agents 1.8 (`pip install "rtrelay-client[livekit]"`). Importing it imports no
gRPC and opens nothing: LiveKit imports plugins in the process that its jobs are forked from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtrelay.livekit._versions import check_versions

check_versions()

from rtrelay.livekit._plugin import register  # noqa: E402 - what it needs was just checked
from rtrelay.livekit.llm import LLM, GenerationEnded  # noqa: E402
from rtrelay.livekit.options import RelayOptions  # noqa: E402

if TYPE_CHECKING:
    from rtrelay.livekit.stream import LLMStream

__all__ = ["LLM", "GenerationEnded", "LLMStream", "RelayOptions"]

register()


def __getattr__(name: str) -> Any:
    if name != "LLMStream":  # which needs gRPC
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rtrelay.livekit.stream import LLMStream

    return LLMStream
