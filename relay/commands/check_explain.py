"""`relay check --explain request.json`: what rules make of a request, and why.

The file is an OpenAI chat body, or an object around one:

    {"body": {...}, "headers": {"x-relay-tags": "a"}, "surface": "converse",
     "at": "2026-11-27T22:30:00+01:00", "tenant": "team_x", "key": "key_x",
     "scopes": {"models": ["fast"]}, "labels": {"room": "7"},
     "latency_ms": {"fast": {"p50": 300, "p95": 900}}}

`scopes` are those of the key that asks; latencies are learnt by a running relay, so here they are
what the file says. Nothing is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple, get_args

from rich.console import Console
from rich.markup import escape

from relay.commands.table import table
from relay.config import Config
from relay.config.rule_values import Surface
from relay.content import GenerateRequest
from relay.errors import RelayError
from relay.frontends.caller import Caller
from relay.frontends.chat_body import decode_json, to_request
from relay.frontends.request_policy import POLICY_KEYS, read_policy
from relay.governance.grants import allows
from relay.governance.scopes import EVERYTHING, BadScopes, Scopes
from relay.policy.chooser import Chooser
from relay.policy.explain import Checked, Explanation, Trace, explain
from relay.policy.picks import Candidate
from relay.policy.rules import RefusedByRule
from relay.routing.catalog import Catalog
from relay.surroundings import price_of
from relay.tokens import estimate_prompt_tokens

MAX_FILE_BYTES: Final = 32 * 1024 * 1024
_AROUND: Final = (
    "body",
    "headers",
    "surface",
    "at",
    "tenant",
    "key",
    "scopes",
    "labels",
    "latency_ms",
)
_QUANTILES: Final = {0.5: "p50", 0.95: "p95"}


class ExplainError(Exception):
    """The file cannot be used; the message names the field."""


class Asked(NamedTuple):
    """A request and what is around it; a `Surroundings`."""

    request: GenerateRequest
    now_s: float
    surface: str
    prompt_tokens: int
    scopes: Scopes
    latencies_ms: Mapping[str, Mapping[str, float]]
    catalog: Catalog

    def allowed(self, name: str) -> bool:
        return allows(self.scopes, self.catalog, name)

    def latency_ms(self, name: str, quantile: float) -> float | None:
        return self.latencies_ms.get(name, {}).get(_QUANTILES[quantile])

    def price(self, name: str) -> tuple[float, float] | None:
        return price_of(self.catalog, name)


def explain_file(path: Path, config: Config, catalog: Catalog, console: Console) -> None:
    """Print what becomes of the request in a file.

    Raises:
        ExplainError: it cannot be read, or is no such request.
    """
    asked = read(path, catalog)
    chooser = Chooser.of(config, draw=lambda: 1.0)  # nothing explores
    show(console, config, catalog, asked, explain(chooser, asked.request, asked))


# --- the file -------------------------------------------------------------------------------


def read(path: Path, catalog: Catalog) -> Asked:
    """
    Raises:
        ExplainError: as `explain_file`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ExplainError(f"{path}: {error.strerror}") from None
    if len(text) > MAX_FILE_BYTES:
        raise ExplainError(f"{path}: is over {MAX_FILE_BYTES} bytes")
    try:
        return _read(decode_json(text), catalog)
    except (RelayError, BadScopes, ValueError) as error:
        message = error.public_message if isinstance(error, RelayError) else str(error)
        raise ExplainError(f"{path}: {message}") from None


def _read(document: dict[str, Any], catalog: Catalog) -> Asked:
    around = document if "body" in document else {"body": document}
    for key in around:
        if key not in _AROUND:
            raise ValueError(f"{key} is not known beside a body; known are {', '.join(_AROUND)}")
    body = _typed(around, "body", dict)
    headers = _typed(around, "headers", dict)
    raw_headers = [
        (name.lower().encode("latin-1"), _text(headers, name, "headers.").encode("latin-1"))
        for name in headers
    ]
    caller = Caller(tenant=_text(around, "tenant"), key_id=_text(around, "key"))
    policy, model = read_policy({"headers": raw_headers}, body, caller)
    labels = _typed(around, "labels", dict)
    if labels:
        policy = replace(policy, labels={name: _text(labels, name, "labels.") for name in labels})
    body = {name: value for name, value in body.items() if name not in POLICY_KEYS}
    request = to_request({**body, "model": model} if model else body, policy)
    surface = _text(around, "surface") or "chat_completions"
    if surface not in get_args(Surface):
        raise ValueError(f"surface: known are {', '.join(get_args(Surface))}")
    scopes = _typed(around, "scopes", dict)
    return Asked(
        request,
        _moment_s(_text(around, "at")),
        surface,
        estimate_prompt_tokens(request),
        Scopes.from_mapping(scopes) if scopes else EVERYTHING,
        _latencies(_typed(around, "latency_ms", dict)),
        catalog,
    )


def _typed(values: Mapping[str, Any], name: str, kind: type[dict[str, Any]]) -> dict[str, Any]:
    value = values.get(name)
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name} must be an object")
    return value or {}


def _text(values: Mapping[str, Any], name: str, path: str = "") -> str:
    value = values.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{path}{name} must be a string")  # noqa: TRY004  (of the file)
    return value


def _moment_s(text: str) -> float:
    if not text:
        return datetime.now().timestamp()
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise ValueError("at: a moment such as 2026-11-27T22:30:00+01:00 is expected") from None


def _latencies(rows: Mapping[str, Any]) -> Mapping[str, Mapping[str, float]]:
    for alias, row in rows.items():
        is_row = isinstance(row, dict) and row.keys() <= set(_QUANTILES.values())
        if not is_row or not all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in row.values()
        ):
            raise ValueError(f"latency_ms.{alias}: p50 and p95 in milliseconds are expected")
    return rows


# --- the answer -----------------------------------------------------------------------------


def show(
    console: Console, config: Config, catalog: Catalog, asked: Asked, found: Explanation
) -> None:
    """Every rule, what is decided, and what that name stands for."""
    if found.traces:
        rows = table(f"rules, for a request for {escape(asked.request.model)}", "rule", "", "why")
        for trace in found.traces:
            mark = "[green]decides[/green]" if trace.verdict == "decides" else trace.verdict
            rows.add_row(escape(trace.name), mark, escape("\n".join(_why(trace))))
        console.print(rows)
    else:
        console.print("no rules")
    for line in outcome(config, catalog, asked, found):
        console.print(escape(line), highlight=False, soft_wrap=True)


def _why(trace: Trace) -> list[str]:
    if trace.verdict == "not reached":
        return []
    lines = [_line(one) for one in trace.when] or ["no conditions: always"]
    lines += [f"unless {_line(one)}" for one in trace.unless]
    if trace.verdict == "for answers alone":
        lines = ["vectors are wanted, and it does not say `embeddings: true`"]
    return lines + [_candidate(one) for one in trace.candidates]


def _line(one: Checked) -> str:
    return f"{'yes' if one.holds else 'no '}  {one.field}: {one.wanted} (is {one.found})"


def _candidate(one: Candidate) -> str:
    told = []
    if one.price_usd is not None:
        told.append(f"{one.price_usd[0]:g} / {one.price_usd[1]:g} USD per million tokens")
    told += [
        f"{quantile} {'not known' if value_ms is None else f'{value_ms:g} ms'}"
        for quantile, value_ms in one.latencies_ms
    ]
    told.append(one.why_not or "may be taken")
    return f"  {one.name}: {', '.join(told)}"


def outcome(config: Config, catalog: Catalog, asked: Asked, found: Explanation) -> list[str]:
    """What becomes of the request, a line each."""
    if isinstance(found.refusal, RefusedByRule):
        return [f"refused by {found.refusal.rule} (403): {found.refusal.public_message}"]
    if found.refusal is not None:
        return [f"{found.refusal.public_message} (404)"]
    choice, before = found.choice, asked.request
    request = choice.request
    by = f"by {choice.rule}" if choice.rule else "by no rule"
    if request.model == before.model:
        lines = [f"{before.model} stays what it is, {by}"]
    else:
        lines = [f"{before.model} becomes {request.model}, {by if choice.rule else 'by its tag'}"]
    lines += [f"  {line}" for line in _changes(before, request)]
    lines += [f"  {line}" for line in _stands_for(config, catalog, request.model)]
    needs_leave = request.asked_as or request.model
    if asked.scopes is not EVERYTHING:
        is_allowed = asked.allowed(needs_leave)
        lines.append(
            f"  the key may {'' if is_allowed else 'NOT '}ask for {needs_leave}"
            f"{'' if is_allowed else ' (403)'}"
        )
    return lines


def _changes(before: GenerateRequest, after: GenerateRequest) -> list[str]:
    """What `set` has made of it."""
    pairs: list[tuple[str, object, object]] = [
        ("max_output_tokens", before.sampling.max_output_tokens, after.sampling.max_output_tokens),
        ("effort", before.reasoning.effort, after.reasoning.effort),
        ("service_tier", before.service_tier, after.service_tier),
    ]
    old, new = before.policy, after.policy
    pairs += [
        (name, getattr(old.budgets, name), getattr(new.budgets, name))
        for name in ("first_token_s", "first_segment_s", "inter_token_s", "total_s")
    ]
    pairs += [
        ("hedge", old.hedge.mode, new.hedge.mode),
        ("prompt_cache", old.prompt_cache, new.prompt_cache),
        ("cache", old.cache, new.cache),
        ("tags", ", ".join(old.tags), ", ".join(new.tags)),
    ]
    return [f"{name}: {_said(was)} -> {_said(now)}" for name, was, now in pairs if was != now]


def _said(value: object) -> str:
    return "not said" if value in (None, "") else str(value)


def _stands_for(config: Config, catalog: Catalog, name: str) -> list[str]:
    """What a name is: an alias and its targets, a composition, an experiment."""
    policies = config.policies
    lines: list[str] = []
    for experiment, row in policies.experiments.items():
        if row.model == name:
            arms = ", ".join(f"{arm.name}: {arm.use}" for arm in row.arms)
            lines.append(f"divided by the experiment {experiment} between {arms}")
    if name in policies.cascades:
        return [*lines, f"{name} is a cascade: see policies.cascades.{name}"]
    if name in policies.panels:
        return [*lines, f"{name} is a panel: see policies.panels.{name}"]
    try:
        route = catalog.resolve(name)
    except RelayError as error:
        return [*lines, f"{error.public_message} (404)"]
    kind = "alias" if name in catalog.routes else "model"
    targets = [target.name for target in route.candidates]
    targets += [f"{target.name} (fallback)" for target in route.fallbacks]
    return [*lines, f"{kind} {name}: {', '.join(targets)}; hedge {route.hedge.mode}"]
