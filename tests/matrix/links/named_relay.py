"""`relay` with a name server of its own: in a mount namespace with another /etc/resolv.conf.

    python -m tests.matrix.links.named_relay RESOLV_CONF WEAKNESS serve -c relay.yaml

WEAKNESS is one of `tests.matrix.weakened`, or empty. Needs root, or user namespaces.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

_NEWNS, _NEWUSER = 0x0002_0000, 0x1000_0000
_BIND, _REC, _PRIVATE = 0x1000, 0x4000, 0x4_0000


def enter(resolv_conf: str) -> None:
    """Leave for a mount namespace in which that file is /etc/resolv.conf.

    Raises:
        OSError: it may not be.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    kinds = _NEWNS if os.geteuid() == 0 else _NEWNS | _NEWUSER
    _done(libc.unshare(kinds))
    _done(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None))
    _done(libc.mount(resolv_conf.encode(), b"/etc/resolv.conf", None, _BIND, None))


def _done(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def is_allowed() -> bool:
    """Whether a process of ours may do that; asked of one."""
    asking = [sys.executable, "-m", __name__, "/etc/hosts"]
    return subprocess.run(asking, check=False, capture_output=True).returncode == 0


def resolv_conf(folder: Path, address: str) -> str:
    """Write one that names this server, and waits for it as long as an impatient operator would."""
    path = folder / "resolv.conf"
    path.write_text(f"nameserver {address}\n", encoding="ascii")
    return str(path)


def main() -> None:
    enter(sys.argv.pop(1))
    if len(sys.argv) == 1:
        return
    from relay.cli import main as relay_main  # who only asks need not load it
    from tests.matrix.weakened import WEAKNESSES

    patch = pytest.MonkeyPatch()
    if keeps_addresses():  # else no name would be asked for twice in a test
        patch.setattr(import_module("relay.resolving"), "FRESH_S", 0.01)
    if name := sys.argv.pop(1):
        WEAKNESSES[name](patch)
    relay_main()


def keeps_addresses() -> bool:
    """Whether the relay resolves names itself, and remembers what it heard."""
    return find_spec("relay.resolving") is not None


if __name__ == "__main__":
    main()
