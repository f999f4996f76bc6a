"""What a worker process is called: by the ledger, in hints, in logs."""

from __future__ import annotations

import os
import secrets
import socket
from typing import Final

MAX_PLACE: Final = 128
"""Characters that the ledger has for it."""
MAX_ADDRESS: Final = 64

_made: tuple[int, str] = (0, "")


def instance_id() -> str:
    """A name that no other process has or had; the same at each call in one process.

    128 random bits: unlike a process id it does not come again, on no machine, and in no container.
    """
    global _made
    pid, name = _made
    if pid != os.getpid():  # a fork is another process
        name = f"i_{secrets.token_hex(16)}"
        _made = (os.getpid(), name)
    return name


def place(worker: int | None, address: str) -> str:
    """Where a worker runs: host name, address and its number there, such as
    `relay-7f9c/0.0.0.0:50051/2`.

    At most one process at a time is at a place, so who starts there knows that what an earlier one
    left open is nobody's any more. The address tells relays of one machine apart, which may share
    a database; host names of machines, pods and containers differ.

    Args:
        worker: number among those of one supervisor, from 0; None for the only one, which is 0 too.
        address: that the relay listens at, as it is configured: `server.grpc.address`.
    """
    suffix = f"/{address[-MAX_ADDRESS:]}/{worker or 0}"
    return socket.gethostname()[: MAX_PLACE - len(suffix)] + suffix
