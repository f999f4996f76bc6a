"""The desk of administration, as the configuration says: for commands and the admin listener."""

from __future__ import annotations

from sqlalchemy import Engine

from relay.administration.desk import Desk
from relay.auditing import secrets_of, store_of
from relay.config import Config, ConfigError
from relay.governance.access import peppers_of, wall_us


def desk_of(config: Config, engine: Engine) -> Desk:
    """
    Args:
        engine: of `store.url`; stays the caller's.

    Raises:
        ConfigError: there are no keys to administer.
    """
    if config.auth is None:
        raise ConfigError(
            "auth: there are no keys without it; add `auth: {pepper: ${RTRELAY_PEPPER}}`, with at"
            " least 32 random characters in that variable, and a `store`"
        )
    return Desk(
        engine,
        audit=None if config.audit is None else store_of(config, engine),
        pepper=peppers_of(config.auth).current,
        now_us=wall_us,
        hide=secrets_of(config).hide,
    )
