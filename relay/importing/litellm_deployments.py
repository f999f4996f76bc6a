"""LiteLLM's `model_list`: each entry is a deployment, a model at an account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

from relay.config.limits import MAX_LIMIT
from relay.config.providers import ServiceTier
from relay.importing.draft import Row, Target
from relay.importing.headers import headers_of
from relay.importing.litellm_accounts import Around, account_of
from relay.importing.litellm_providers import DOORS, split
from relay.importing.reading import Section
from relay.importing.report import Report
from relay.importing.rows import row_of

_TOKENS: Final = 1_000_000
_PRICES: Final[Mapping[str, str]] = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cached_input",
    "cache_creation_input_token_cost": "cache_write",
    "output_cost_per_token": "output",
}
_TALK: Final = frozenset({"", "chat", "completion", "responses", "embedding"})
"""Modes of models that the relay serves itself."""

_DEFAULTS: Final = "a default for requests; the relay adds none: let clients send it"
_LEFT: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            *("temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop"),
            *("seed", "n", "presence_penalty", "frequency_penalty", "logit_bias", "user"),
            *("reasoning_effort", "thinking", "response_format", "tools", "tool_choice"),
            *("extra_body", "dimensions", "encoding_format", "verbosity", "store", "metadata"),
        ),
        _DEFAULTS,
    ),
    "max_budget": "budgets are of keys, teams, organisations and tags: `relay budgets create`",
    "budget_duration": "see `relay budgets create --period`",
    "mock_response": "use the emulator (`relay emulate`) as the provider",
    "ssl_verify": "certificates are always looked at; give the row `ca_file` for roots of your own",
    "litellm_trace_id": "the relay takes `traceparent` from requests",
    "max_file_size_mb": "`passthrough.max_request_bytes` of the row bounds what is handed through",
}
_DIFFERS: Final[Mapping[str, str]] = {
    "drop_params": "what a provider does not take is left out or refused by name, per provider:"
    " docs/wires.md",
    "additional_drop_params": "give the row `quirks: {leaves_out: [...]}` for fields that it must"
    " not get",
    "allowed_openai_params": "fields that the relay does not know are handed to providers of the"
    " same wire as they are",
    "max_retries": "each candidate is asked once, then each fallback; there is no number to set",
    "num_retries": "each candidate is asked once, then each fallback; there is no number to set",
    "cooldown_time": "a target that fails is left alone by its breaker, probed after 30 s and"
    " brought back step by step (docs/hedging.md)",
    "region_name": "where prompts are processed is said by the row's `data_zone`",
}
_INFO_DIFFERS: Final[Mapping[str, str]] = {
    "id": "targets are called PROVIDER/MODEL",
    "base_model": "prices are looked up by the model's name; give `same_as` for what is one model",
    **dict.fromkeys(
        (
            *("max_tokens", "max_input_tokens", "max_output_tokens", "db_model"),
            *("supports_function_calling", "supports_vision", "supports_reasoning"),
            *("supports_parallel_function_calling", "supports_response_schema", "description"),
        ),
        "for information; the relay lets the provider answer for its models",
    ),
}
_INFO_LEFT: Final[Mapping[str, str]] = {
    "access_groups": "give keys the aliases that they may ask for: `relay keys create --model`",
    "team_id": "give the team's keys the aliases that they may have: `relay keys create --model`",
    "health_check_model": "connections are kept warm by the row's `probe_path`",
}


@dataclass(frozen=True)
class Deployment:
    """One entry that is served here."""

    group: str
    """`model_name`: what clients ask for."""
    target: Target
    path: str
    order: float | None
    weight: float | None
    tags: tuple[str, ...]
    timeout_ms: int | None
    stream_timeout_ms: int | None
    at_once: int | None
    """`max_parallel_requests`."""


def deployment_of(entry: Section, around: Around) -> Deployment | None:
    """Reads an entry to its end; None for one that is not served here, which is told."""
    group = entry.text("model_name")
    params, info = entry.section("litellm_params"), entry.section("model_info")
    report = around.report
    mode = info.text("mode")
    asked = params.text("model")
    provider, model = split(asked, params.text("custom_llm_provider"))
    door = DOORS.get(provider)
    if not group or not asked or not model:
        report.leave(entry.path, "`model_name` and `litellm_params.model` are needed")
        return None
    if mode not in _TALK:
        report.leave(
            info.path_of("mode"),
            f"{group!r} is not for text; what the relay does not translate goes through a row with"
            " `passthrough: true`",
        )
        return None
    if door is None:
        report.leave(
            params.path_of("model"),
            f"there is no row for the provider of {asked!r}; if it speaks OpenAI's format, give it"
            " one with `wire: openai_chat` and its `base_url`",
        )
        return None
    account = account_of(door, provider, model, params, around)
    if account is None:
        return None
    account.door, model = account.door, _model_at(account.door, model)
    given = params.take("extra_headers")
    account.headers |= headers_of(given, params.path_of("extra_headers"), report, around.variables)
    given = params.take("headers")
    account.headers |= headers_of(given, params.path_of("headers"), report, around.variables)
    for name in ("rpm", "tpm"):
        limits = [section.whole(name, most=MAX_LIMIT) for section in (params, entry, info)]
        if (limit := next((found for found in limits if found), None)) is not None:
            account.more[name] = limit
    if params.take("use_in_pass_through") is True:
        account.more["passthrough"] = True
    if tier := params.text("service_tier"):
        if tier in get_args(ServiceTier):
            account.more["service_tier"] = tier
        else:
            report.leave(params.path_of("service_tier"), f"{tier!r} is no tier that is known")
    row = row_of(account, around.draft, report, around.variables)
    _price(row, model, params, info, report)
    found = Deployment(
        group,
        Target(row.name, model),
        entry.path,
        params.number("order"),
        params.number("weight"),
        tuple(str(tag) for tag in params.items("tags") if isinstance(tag, str | int)),
        params.ms("timeout") or params.ms("request_timeout"),
        params.ms("stream_timeout"),
        params.whole("max_parallel_requests", most=MAX_LIMIT),
    )
    params.finish(_LEFT, _DIFFERS)
    info.finish(_INFO_LEFT, _INFO_DIFFERS)
    entry.finish(_LEFT, _DIFFERS)
    return found


def _model_at(door: str, model: str) -> str:
    """Without what LiteLLM puts before the names of Bedrock's models."""
    if door.startswith("bedrock"):
        for word in ("converse_like/", "converse/", "invoke/"):
            model = model.removeprefix(word)
    return model


def _price(row: Row, model: str, params: Section, info: Section, report: Report) -> None:
    """Their price of a token, per million of them as we have it."""
    prices: dict[str, float] = {}
    for theirs, ours in _PRICES.items():
        for section in (info, params):
            if section.take(theirs) not in (None, 0, 0.0):
                cost = section.number(theirs)
                if cost is not None:
                    prices[ours] = round(cost * _TOKENS, 6)
            elif theirs in section and ours in ("input", "output"):
                prices.setdefault(ours, 0)
    if not prices:
        return
    for needed in ("input", "output"):
        if needed not in prices:
            report.differ(
                params.path, f"a price has input and output: {needed} is not given, and taken as 0"
            )
            prices[needed] = 0
    known = row.fields.setdefault("prices", {})
    if known.setdefault(model, prices) != prices:
        report.leave(params.path, f"{row.name}/{model} has another price already; it is kept")
