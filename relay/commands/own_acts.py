"""What commands tell the audit log of their own acts, as `cli:USER`."""

from __future__ import annotations

import getpass
import time
from typing import Any

from sqlalchemy import Engine

from relay.auditing import secrets_of, store_of
from relay.config import Config
from relay.governance.audit_chain import Entry, entry


def user() -> str:
    """Whose the process is; `unknown` in a container whose user has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def own_act(config: Config, action: str, detail: dict[str, Any]) -> Entry:
    """An entry, to be appended in the transaction that does it."""
    return entry(
        action,
        at_us=time.time_ns() // 1000,
        actor=f"cli:{user()}",
        detail=detail,
        hide=secrets_of(config).hide,
    )


def tell(config: Config, engine: Engine, action: str, detail: dict[str, Any]) -> None:
    """Before it is done: what cannot be written down is not done. Where nothing is audited,
    nothing happens.

    Raises:
        StoreUnavailable
    """
    if config.audit is not None:
        store_of(config, engine).write([own_act(config, action, detail)])
