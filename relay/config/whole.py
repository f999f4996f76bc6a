"""The file as a whole."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, Field, field_validator, model_validator

from relay.config.aliases import AliasConfig
from relay.config.audit import AuditConfig
from relay.config.auth import AuthConfig
from relay.config.budgets import BudgetsConfig
from relay.config.cache import CacheConfig, ExactCacheConfig
from relay.config.cascades import cascade_faults
from relay.config.experiments import checked as checked_experiments
from relay.config.guardrails import GuardrailsConfig
from relay.config.limits import LimitsConfig
from relay.config.listeners import ServerConfig
from relay.config.model import Model, near
from relay.config.objectives import ObjectiveConfig
from relay.config.observability import ObservabilityConfig
from relay.config.panels import panel_faults
from relay.config.policies import PoliciesConfig
from relay.config.providers import ProviderConfig
from relay.config.rule_names import check_rules
from relay.config.semantic_cache import SemanticCacheConfig
from relay.config.store import StoreConfig
from relay.config.tls import TlsConfig, is_like
from relay.config.transport import TransportConfig

RESERVED_KEYS: tuple[str, ...] = ()
"""Top-level keys of capabilities that are not there yet: refused, never ignored."""


class Config(Model):
    """The whole file."""

    server: ServerConfig = ServerConfig()
    transport: TransportConfig = TransportConfig()
    store: StoreConfig | None = None
    budgets: BudgetsConfig | None = None
    auth: AuthConfig | None = None
    audit: AuditConfig | None = Field(
        None, description="who did what, and who was refused; always there where `auth` is"
    )
    tls: TlsConfig | None = Field(
        None, description="of every listener that has none of its own; without it plain text"
    )
    limits: LimitsConfig | None = None
    observability: ObservabilityConfig = ObservabilityConfig()
    providers: dict[str, ProviderConfig] = Field(default_factory=dict)
    models: dict[str, AliasConfig] = Field(default_factory=dict)
    policies: PoliciesConfig = PoliciesConfig()
    cache: CacheConfig | None = None
    guardrails: GuardrailsConfig | None = None
    objectives: dict[str, ObjectiveConfig] = Field(
        default_factory=dict, description="by name; `relay report` tells how they were kept"
    )

    @field_validator("providers", "models", "objectives")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
                raise ValueError(f"{name!r} is not a name (letters, digits, '.', '_', '-', no '/')")
        return value

    @model_validator(mode="before")
    @classmethod
    def _keys_are_audited(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("auth") is not None and value.get("audit") is None:
            return {**value, "audit": {}}
        return value

    @model_validator(mode="after")
    def _keys_are_kept(self) -> Config:
        if self.auth is not None and self.store is None:
            raise ValueError("auth: keys are kept in a store; add `store: {}` for relay.db here")
        return self

    @model_validator(mode="after")
    def _audit_is_kept(self) -> Config:
        if self.audit is not None:
            if self.store is None:
                raise ValueError("audit: needs a store; add `store: {}` for relay.db here")
            if self.audit.key is None and self.auth is None:
                raise ValueError("audit.key: needed where there is no auth.pepper to make one from")
        return self

    @model_validator(mode="after")
    def _references(self) -> Config:
        for alias, row in self.models.items():
            for kind in ("candidates", "fallbacks"):
                for index, candidate in enumerate(getattr(row, kind)):
                    if candidate.provider not in self.providers:
                        hint = near(candidate.provider, self.providers)
                        raise ValueError(
                            f"models.{alias}.{kind}[{index}].provider:"
                            f" there is no provider {candidate.provider!r}{hint}"
                        )
        return self

    @model_validator(mode="after")
    def _rules_name_what_is_there(self) -> Config:
        check_rules(
            self.policies.rules,
            aliases={alias: row.tags for alias, row in self.models.items()},
            compositions={*self.policies.cascades, *self.policies.panels},
            providers={name: row.models for name, row in self.providers.items()},
        )
        return self

    @model_validator(mode="after")
    def _panels_ask_what_is_there(self) -> Config:
        policies = self.policies
        for fault in panel_faults(policies.panels, self.models, self.providers, policies.cascades):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _cascades_ask_what_is_there(self) -> Config:
        for fault in cascade_faults(self.policies.cascades, self.models, self.providers):
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _objectives_are_of_aliases(self) -> Config:
        for name, row in self.objectives.items():
            for alias in row.aliases:
                if alias not in self.models:
                    hint = near(alias, self.models)
                    raise ValueError(
                        f"objectives.{name}.aliases: there is no alias {alias!r}{hint}"
                    )
        return self

    @model_validator(mode="after")
    def _experiments_are_of_names(self) -> Config:
        policies = self.policies
        checked_experiments(
            policies.experiments,
            policies.shadows,
            self.models,
            {*policies.cascades, *policies.panels},
            self.providers,
            {model for row in self.providers.values() for model in row.models},
        )
        return self

    @model_validator(mode="after")
    def _budgets_are_kept(self) -> Config:
        if self.budgets is not None and (self.store is None or not self.store.ledger):
            raise ValueError("budgets: they are kept in a store; add `store` with its ledger")
        return self

    @model_validator(mode="after")
    def _what_is_allowed_is_counted(self) -> Config:
        """Without accounts nothing would hold it, and nobody would notice."""
        is_counted = self.store is not None and self.store.ledger
        if self.limits is not None and not is_counted:
            raise ValueError("limits: they are held with the accounts; add `store` with its ledger")
        return self

    @model_validator(mode="after")
    def _limited(self) -> Config:
        """What has limits is there: a misspelt name would be no limit at all."""
        if self.limits is None:
            return self
        for name in self.limits.providers:
            if name not in self.providers:
                raise ValueError(
                    f"limits.providers: there is no provider {name!r}{near(name, self.providers)}"
                )
        listed = {model for row in self.providers.values() for model in row.models}
        for name in self.limits.models:
            provider, slash, _ = name.partition("/")
            if name in self.models or name in listed or (slash and provider in self.providers):
                continue
            raise ValueError(
                f"limits.models: nobody can ask for {name!r}{near(name, {*self.models, *listed})}"
            )
        return self

    @model_validator(mode="after")
    def _cached(self) -> Config:
        """What is not to be kept is there: a misspelt name would be kept."""
        exact = self.cache.exact if self.cache is not None else None
        if exact is None:
            return self
        policies = self.policies
        known = {*self.models, *policies.cascades, *policies.panels}
        for kind in ("models", "not_models"):
            for name in getattr(exact, kind):
                provider, slash, _ = name.partition("/")
                if name not in known and not (slash and provider in self.providers):
                    raise ValueError(
                        f"cache.exact.{kind}: nobody can ask for {name!r}{near(name, known)}"
                    )
        return self

    @model_validator(mode="after")
    def _semantic_cache_knows_names(self) -> Config:
        semantic = self.cache.semantic if self.cache is not None else None
        if semantic is not None:
            policies = self.policies
            names = {*self.models, *policies.cascades, *policies.panels}
            for fault in semantic.faults(names, self.models, self.providers):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _guardrails_know_whom(self) -> Config:
        if self.guardrails is not None:
            policies = self.policies
            names = {*self.models, *policies.cascades, *policies.panels}
            listed = {model for row in self.providers.values() for model in row.models}
            for fault in self.guardrails.faults(self.providers, names, listed):
                raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _grpc_requires(self) -> Config:
        tls = self.tls_of("grpc")
        if tls is not None and tls.asks_clients and not tls.requires_clients:
            raise ValueError(
                "server.grpc.tls: gRPC can require certificates of clients or ask for none, not"
                " take both sorts of clients; give server.grpc a `tls` of its own, without"
                " client_ca_file or with client_certificates: required"
            )
        return self

    @property
    def has_keys(self) -> bool:
        """Whether callers of gRPC and HTTP need a key."""
        return self.auth is not None

    @property
    def exposed(self) -> list[str]:
        """As of `ServerConfig`."""
        return self.server.exposed(self.tls, has_keys=self.has_keys)

    def tls_of(self, name: str) -> TlsConfig | None:
        """Of a listener; None for plain text."""
        return self.server.tls_of(name, self.tls)

    def needing_restart(self, other: Config) -> list[str]:
        """The keys of `other` that a worker which was started with this one cannot take up:
        listeners are open and connections made by then. Of TLS the files may be others."""
        found = [
            path
            for section in ("server", "transport", "store", "auth", "audit", "observability")
            for path in _changed(getattr(self, section), getattr(other, section), section)
            if path != "server.drain_grace_ms" and path.split(".")[2:3] != ["tls"]
        ]
        found += [
            path
            for path in _changed(
                self.limits or LimitsConfig(), other.limits or LimitsConfig(), "limits"
            )
            if path.partition(".")[2] in LimitsConfig.UNTIL_RESTART
        ]
        found += _changed_of_redis(self.cache, other.cache)
        mine, theirs = self.budgets or BudgetsConfig(), other.budgets or BudgetsConfig()
        found += ["budgets.lease_s"] if mine.lease_s != theirs.lease_s else []
        return found + [
            f"server.{name}.tls"
            for name in self.server.listeners
            if not is_like(self.tls_of(name), other.tls_of(name))
        ]


def _changed_of_redis(mine: CacheConfig | None, theirs: CacheConfig | None) -> list[str]:
    """Of both caches; one that was not there is opened."""
    if mine is None or theirs is None:
        return []
    found: list[str] = []
    if mine.exact is not None and theirs.exact is not None:
        found += [
            path
            for path in _changed(mine.exact, theirs.exact, "cache.exact")
            if path.split(".")[2] in ExactCacheConfig.UNTIL_RESTART
        ]
    if mine.semantic is not None and theirs.semantic is not None:
        found += [
            f"cache.semantic.{name}"
            for name in SemanticCacheConfig.UNTIL_RESTART
            if getattr(mine.semantic, name) != getattr(theirs.semantic, name)
        ]
    return found


def _changed(mine: object, theirs: object, path: str) -> list[str]:
    """Paths of the values that are not the same."""
    if isinstance(mine, BaseModel) and isinstance(theirs, BaseModel):
        return [
            found
            for name in type(mine).model_fields
            for found in _changed(getattr(mine, name), getattr(theirs, name), f"{path}.{name}")
        ]
    return [] if mine == theirs else [path]
