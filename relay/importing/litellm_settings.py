"""What is known of LiteLLM's settings that have no place in our file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_LOG = "the log has a JSON line for every generation, `relay usage export` the ledger's rows"
_CALLBACKS = (
    "Prometheus reads `/metrics` as it is; traces go by OTLP, prompts too where that is wanted, to"
    " Langfuse and others: `observability.tracing` (docs/traces.md); " + _LOG
)
_BREAKER = (
    "not set by hand: five failures in a row, half of twenty, or late first tokens eject a target;"
    " after 30 s it is probed and brought back step by step (docs/hedging.md)"
)
_ONCE = "each candidate is asked once, then each fallback, before the first token; no number to set"
_CLASSES = "what may be asked again is decided by the error's own class (docs/operations.md)"
_NO_CACHE = "there is no cache of answers; `prompt_cache: auto` uses the providers' own (README.md)"
_BUDGET = "budgets are made in the store: `relay budgets create --team NAME --usd N --period month`"
_SIZE = "no target is chosen by the length of a prompt: give long prompts an alias of their own"
_WARM = "connections are kept warm by probes (`transport.probe_interval_ms`)"
_KEYS = "`relay keys create` and its options"

DIFFERS: Final[Mapping[str, str]] = {
    "allowed_fails": _BREAKER,
    "allowed_fails_policy": _BREAKER,
    "cooldown_time": _BREAKER,
    "num_retries": _ONCE,
    "max_retries": _ONCE,
    "max_fallbacks": "all fallbacks of an alias are asked, until the request's time is over",
    "retry_after": "providers' own `retry-after` is kept to",
    "retry_policy": _CLASSES,
    "model_group_retry_policy": _CLASSES,
    "drop_params": "what a provider does not take is left out or refused by name, per provider:"
    " docs/wires.md",
    "modify_params": "what a provider does not take is left out or refused by name: docs/wires.md",
    "set_verbose": "`relay serve --verbose`",
    "debug_level": "`relay serve --verbose`",
    "json_logs": "the log is JSON",
    "turn_off_message_logging": "no prompt and no answer is in the log; they are in files or spans"
    " only with `observability.payloads` or `observability.tracing.content`",
    "redact_user_api_key_info": "no key is in the log",
    "redact_messages_in_exceptions": "no prompt is in an error",
    "routing_strategy_args": "`balanced` has no settings",
    "disable_spend_logs": "`store: {ledger: false}` writes nothing down, and then there are no"
    " limits and budgets",
    "background_health_checks": _WARM,
    "health_check_interval": _WARM,
    "store_model_in_db": "models are in the file, and SIGHUP reads it again",
    "infer_model_from_keys": "without a file, providers come from keys in the environment",
    "enforce_user_param": "who asks is told by keys; see keys.md",
    "proxy_batch_write_at": "rows are durable before the first token",
    "use_redis_transaction_buffer": "rows are durable before the first token",
    "database_connection_pool_limit": "the store has a pool of its own (docs/postgres.md)",
    "database_connection_timeout": "the store has limits of its own (docs/postgres.md)",
    "allow_requests_on_db_unavailable": "known keys hold for `auth.stale_s` without it",
    "ssl_verify": "certificates are always looked at; a row's `ca_file` names roots of your own",
}

LEFT: Final[Mapping[str, str]] = {
    "cache": _NO_CACHE,
    "cache_params": _NO_CACHE,
    "cache_responses": _NO_CACHE,
    "cache_kwargs": _NO_CACHE,
    **dict.fromkeys(
        (
            *("callbacks", "success_callback", "failure_callback", "service_callbacks"),
            *("langfuse_default_tags", "callback_settings"),
        ),
        _CALLBACKS,
    ),
    **dict.fromkeys(
        (
            "audit_log_callbacks",
            *("alerting", "alerting_threshold", "alerting_args", "alert_types"),
            "store_prompts_in_spend_logs",
        ),
        _LOG,
    ),
    "disable_cooldowns": "breakers cannot be turned off; the last target left is never ejected",
    "context_window_fallbacks": _SIZE,
    "enable_pre_call_checks": _SIZE,
    "content_policy_fallbacks": "what a provider refuses to say is told to the client; let the"
    " client ask another alias",
    "enable_tag_filtering": "tags steer nothing: make an alias for each tag, and let clients ask"
    " for it (`x-relay-route`)",
    "tag_filtering_match_any": "tags steer nothing: make an alias for each tag",
    "default_litellm_params": "requests say their own parameters",
    "default_max_parallel_requests": "`limits.providers.NAME.generations`, with a `store`",
    "global_max_parallel_requests": "`limits.organisation.generations`, with a `store`",
    "provider_budget_config": _BUDGET,
    "max_budget": _BUDGET,
    "budget_duration": _BUDGET,
    "max_user_budget": _BUDGET,
    "max_end_user_budget": _BUDGET,
    "max_internal_user_budget": _BUDGET,
    "internal_user_budget_duration": _BUDGET,
    "default_team_settings": "teams are made in the store: `relay teams create`",
    "default_team_params": "teams are made in the store: `relay teams create`",
    "default_internal_user_params": "there are keys of teams, and no users: `relay keys create`",
    "default_key_generate_params": _KEYS,
    "upperbound_key_generate_params": _KEYS,
    "key_generation_settings": "who makes keys is said by roles: `relay admins create --role`",
    "custom_auth": "callers come with keys of the store, or client certificates (docs/keys.md)",
    "enable_jwt_auth": "callers come with keys of the store, or client certificates (docs/keys.md)",
    "litellm_jwtauth": "callers come with keys of the store, or client certificates (docs/keys.md)",
    "allowed_routes": "a key's scopes are in docs/keys.md",
    "allowed_ips": "let a firewall or proxy do it, or client certificates (docs/tls.md)",
    "key_management_system": "secrets come from the environment or files: `${file:PATH}`",
    "key_management_settings": "secrets come from the environment or files: `${file:PATH}`",
    "pass_through_endpoints": "`passthrough: true` in a provider's row opens /pass/PROVIDER/...",
    "completion_model": "clients name the model that they ask for",
    "maximum_spend_logs_retention_interval": "what is too old is deleted once a day",
    "user_header_name": "tags and turn ids are in `x-relay-tags` and `x-relay-turn-id`",
    "forward_client_headers_to_llm_api": "clients' headers are not handed on",
    "ui_access_mode": "there is no such page; see docs/admin.md for the administrators' API",
    "mcp_aliases": "MCP is not served",
    "request_timeout": "give each alias `timeouts`",
}
"""Of whatever section: names are not used twice with different meanings."""

SECTIONS: Final[Mapping[str, str]] = {
    "guardrails": "there are no guardrails yet",
    "mcp_servers": "MCP is not served",
    "mcp_tools": "MCP is not served",
    "callback_settings": _CALLBACKS,
    "files_settings": "`passthrough: true` in a provider's row hands /v1/files through",
    "finetune_settings": "`passthrough: true` in a provider's row hands other paths through",
    "assistant_settings": "`passthrough: true` in a provider's row hands other paths through",
    "vector_store_registry": "vector stores are not served",
    "search_tools": "search tools are not served",
    "prompts": "prompts are not managed here",
    "include": "import each of these files, and join what is written",
    "environment_variables": "set them where the relay is started: compose, systemd, Kubernetes",
}
"""Top-level keys."""
