"""The parts of the audit log, put together as the configuration says: for workers and commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from relay.config import AuditConfig, Config, changed_paths, fingerprint_of, secrets_in
from relay.governance.audit_anchor import AnchorFile
from relay.governance.audit_chain import AuditKey
from relay.governance.audit_checkpoint import Checkpoint
from relay.governance.audit_syslog import Syslog
from relay.governance.audit_trail import AuditTrail
from relay.governance.known_secrets import KnownSecrets
from relay.governance.pepper import Pepper
from relay.store.audit_store import AuditStore


def keys_of(config: Config) -> tuple[AuditKey, ...]:
    """What entries are signed with, then what they may have been signed with before; none where
    nothing is audited."""
    audit, auth = config.audit, config.auth
    if audit is None:
        return ()
    texts = [*([audit.key] if audit.key is not None else []), *audit.old_keys]
    own = [AuditKey.from_text(text.get_secret_value()) for text in texts]
    if auth is None:
        return tuple(own)
    peppers = [Pepper(text.get_secret_value()) for text in (auth.pepper, *auth.old_peppers)]
    made = [AuditKey(pepper.key("audit")) for pepper in peppers]
    # The present one comes first: that of the file, or of the present pepper.
    return (*own, *made) if audit.key is not None else (made[0], *own, *made[1:])


def audit_of(config: Config) -> AuditConfig:
    """
    Raises:
        ValueError: nothing is audited.
    """
    if config.audit is None:
        raise ValueError("nothing is audited: the configuration has no `audit` and no `auth`")
    return config.audit


def store_of(config: Config, engine: Engine) -> AuditStore:
    """The log, for whoever adds to it; raises ValueError if nothing is audited."""
    audit_of(config)
    return AuditStore(engine, keys_of(config)[0])


def checkpoint_of(config: Config, engine: Engine) -> Checkpoint | None:
    """What anchors the log; None where no file is named; raises ValueError if nothing is
    audited."""
    audit = audit_of(config)
    if audit.anchor is None:
        return None
    keys = keys_of(config)
    file = AnchorFile(Path(audit.anchor), keys)
    syslog = None if audit.syslog is None else Syslog(audit.syslog).send
    return Checkpoint(AuditStore(engine, keys[0]), file, keys[0], syslog)


def trail_of(config: Config, engine: Engine, *, anchors: bool) -> AuditTrail:
    """One worker's trail, not started; raises ValueError if nothing is audited.

    Args:
        anchors: whether this worker anchors the log; one of a machine is enough.
    """
    audit = audit_of(config)
    checkpoint = checkpoint_of(config, engine) if anchors else None
    return AuditTrail(
        store_of(config, engine).write,
        known=secrets_of(config),
        checkpoint=None if checkpoint is None else checkpoint.run,
        checkpoint_s=float(audit.checkpoint_s),
        max_waiting=audit.max_waiting,
    )


def secrets_of(config: Config) -> KnownSecrets:
    """Every secret of the configuration, to be kept out of what is written."""
    return KnownSecrets(secrets_in(config))


# --- what is said of a configuration ----------------------------------------------------------


def described(config: Config, before: Config | None = None) -> dict[str, Any]:
    """For the entry of a configuration that was loaded: names and a fingerprint, no values.

    Args:
        before: the one that it takes the place of.
    """
    said: dict[str, Any] = {
        "fingerprint": fingerprint_of(config),
        "providers": sorted(config.providers),
        "models": sorted(config.models),
    }
    if before is not None:
        said["changed"] = changed_paths(before, config)
    return said
