"""See `bench.peers`."""

from __future__ import annotations

import sys

from bench.peers.all import PEERS
from bench.peers.peer import PeerError


def _install(names: list[str]) -> int:
    for name in names or list(PEERS):
        try:
            PEERS[name].install()
            print(f"{name} {PEERS[name].version}: installed", flush=True)
        except PeerError as error:
            print(f"{name}: skipped: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_install(sys.argv[2:]))
