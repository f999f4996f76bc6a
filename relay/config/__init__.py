"""The configuration file as frozen models, validated once at load.

Unknown keys are refused with the nearest known name, keys of later capabilities as not yet there;
API keys come only as `${ENV_NAME}` or `${file:path}`. Headers, proxies and stores may hold such
references among other text. None of these values is in a repr, a log line or a `ConfigError`.
Relative paths, those of `ca_file` and `tls` too, start from the file's folder.

With no file at all the providers come from the well-known environment variables, and with none of
those set the caller starts the emulator.

Every default has a unit in its name and a reason in its description; `json_schema()`, which
`relay check --schema` prints, publishes them. Times are milliseconds here, as people write them,
and seconds everywhere behind.
"""

from relay.config.aliases import (
    TIMEOUT_CLASSES_MS,
    AliasConfig,
    CandidateConfig,
    ChooseConfig,
    EscalateConfig,
    HedgeConfig,
    TimeoutsConfig,
)
from relay.config.audit import AuditConfig
from relay.config.auth import AuthConfig
from relay.config.budgets import AlertsConfig, BudgetsConfig
from relay.config.cascade_warnings import cascade_warnings
from relay.config.contents import changed_paths, fingerprint_of, secrets_in
from relay.config.credential_warnings import credential_warnings
from relay.config.door_warnings import door_warnings
from relay.config.doors import SameModel, zone_of
from relay.config.guardrail_warnings import guardrail_warnings
from relay.config.known import class_of, known_providers, same_models
from relay.config.limits import CallerLimits, LimitsConfig, RateLimits
from relay.config.listeners import (
    AdminListener,
    GrpcListener,
    HttpListener,
    IdempotencyConfig,
    Listener,
    ResponsesStoreConfig,
    ServerConfig,
)
from relay.config.load import (
    MAX_FILE_BYTES,
    from_environment,
    key_variables,
    load,
    parse,
    unspoken_keys,
)
from relay.config.metrics import BucketsConfig, MetricsConfig
from relay.config.model import ConfigError
from relay.config.objectives import ObjectiveConfig
from relay.config.observability import ObservabilityConfig
from relay.config.observability_logs import LogsConfig
from relay.config.observability_payloads import PayloadsConfig
from relay.config.observability_tracing import TracingConfig
from relay.config.overload import OverloadConfig
from relay.config.panel_warnings import panel_warnings
from relay.config.providers import (
    CancelBilling,
    PassthroughConfig,
    PriceConfig,
    ProviderConfig,
    ProxyUrl,
    RatesConfig,
    WebSocketConfig,
)
from relay.config.rule_warnings import rule_warnings
from relay.config.schema import json_schema
from relay.config.shape import MAX_FILE_DEPTH, MAX_FILE_EVENTS
from relay.config.store import StoreConfig
from relay.config.tls import TlsConfig, is_like
from relay.config.tls_warnings import tls_warnings
from relay.config.transport import TransportConfig
from relay.config.whole import RESERVED_KEYS, Config

__all__ = [
    "MAX_FILE_BYTES",
    "MAX_FILE_DEPTH",
    "MAX_FILE_EVENTS",
    "RESERVED_KEYS",
    "TIMEOUT_CLASSES_MS",
    "AdminListener",
    "AlertsConfig",
    "AliasConfig",
    "AuditConfig",
    "AuthConfig",
    "BucketsConfig",
    "BudgetsConfig",
    "CallerLimits",
    "CancelBilling",
    "CandidateConfig",
    "ChooseConfig",
    "Config",
    "ConfigError",
    "EscalateConfig",
    "GrpcListener",
    "HedgeConfig",
    "HttpListener",
    "IdempotencyConfig",
    "LimitsConfig",
    "Listener",
    "LogsConfig",
    "MetricsConfig",
    "ObjectiveConfig",
    "ObservabilityConfig",
    "OverloadConfig",
    "PassthroughConfig",
    "PayloadsConfig",
    "PriceConfig",
    "ProviderConfig",
    "ProxyUrl",
    "RateLimits",
    "RatesConfig",
    "ResponsesStoreConfig",
    "SameModel",
    "ServerConfig",
    "StoreConfig",
    "TimeoutsConfig",
    "TlsConfig",
    "TracingConfig",
    "TransportConfig",
    "WebSocketConfig",
    "cascade_warnings",
    "changed_paths",
    "class_of",
    "credential_warnings",
    "door_warnings",
    "fingerprint_of",
    "from_environment",
    "guardrail_warnings",
    "is_like",
    "json_schema",
    "key_variables",
    "known_providers",
    "load",
    "panel_warnings",
    "parse",
    "rule_warnings",
    "same_models",
    "secrets_in",
    "tls_warnings",
    "unspoken_keys",
    "zone_of",
]
