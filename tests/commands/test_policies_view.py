"""What `relay check` says of cascades, panels, experiments, shadows and caches."""

from __future__ import annotations

from io import StringIO

import yaml
from rich.console import Console

from relay.commands.policies_view import policies_table
from relay.config import parse

FILE = """
providers:
  p: {wire: openai_chat, base_url: "http://127.0.0.1:9/v1", auth: none}
models:
  fast: {candidates: [{provider: p, model: m}]}
  accurate: {candidates: [{provider: p, model: n}]}
"""
POLICIES = """
policies:
  cascades:
    careful:
      small: fast
      large: accurate
      escalate: {self_check: {model: p/judge}, schema: false}
      speculate: {after_ms: 0, max_share: 0.2, max_extra_cost: 0.1}
  panels:
    three: {models: [{model: fast, times: 2, temperature: 1}, accurate], decide: {majority: {}}}
  experiments:
    ab:
      model: fast
      arms: [{name: now, use: fast, weight: 3}, {name: new, use: accurate}]
      sticky: user
      share: 0.5
  shadows:
    beside: {model: fast, use: accurate, share: 0.05, max_cost_micro_per_day: 1500000}
cache:
  exact: {ttl_s: 60, not_models: [accurate]}
  semantic: {embeddings: wordllama, routes: {fast: {threshold: 0.9}}}
"""


def said(text: str) -> list[str]:
    found = policies_table(parse(yaml.safe_load(text), {}))
    console = Console(width=240, file=StringIO())
    with console.capture() as shown:
        console.print(found)
    return [" ".join(line.replace("\u2502", " ").split()) for line in shown.get().splitlines()]


def test_each_is_told() -> None:
    lines = said(FILE + POLICIES)
    for expected in (
        "cascade careful fast, then accurate",
        "for a refusal, no answer, broken arguments of a tool, a second look (p/judge), "
        "or a failure",
        "accurate may start early: 20 % of requests, 10 % more money",
        "panel three 2 x fast, accurate",
        "what most agree on",
        "experiment ab requests for fast, by user",
        "37.5 % now: fast",
        "12.5 % new: accurate",
        "shadow beside 5 % of what fast answered, to accurate",
        "at most $1.5 a day and worker",
        "cache exact all names but accurate: 60 s, shared by tenant",
        "cache semantic vectors by wordllama, shared by tenant",
        "fast: from 0.9 on, strict, 3600 s",
    ):
        assert expected in lines


def test_without_any_there_is_no_table() -> None:
    assert policies_table(parse(yaml.safe_load(FILE), {})) is None
