"""Rows of names that policies have made."""

from __future__ import annotations

import yaml

from relay.compositions import catalog_of
from relay.config import parse
from relay.frontends.model_rows import model_list

FILE = """
providers:
  p: {wire: openai_chat, base_url: "http://127.0.0.1:9/v1", auth: none}
models:
  fast: {candidates: [{provider: p, model: m}]}
  accurate: {candidates: [{provider: p, model: n}]}
policies:
  rules: [{name: all, when: {model: auto}, use: fast}]
  cascades: {careful: {small: fast, large: accurate}}
  panels: {both: {models: [fast, accurate], decide: {majority: {}}}}
"""


def test_names_of_policies_are_the_relay_s_and_say_what_they_can() -> None:
    catalog = catalog_of(parse(yaml.safe_load(FILE), {}))
    routes = [catalog.resolve(name) for name in ("fast", "auto", "careful", "both")]
    rows = {row["id"]: row for row in model_list(catalog, routes, 0)["data"]}
    assert {row["owned_by"] for row in rows.values()} == {"rtrelay"}
    assert {name: row["x_relay"]["embeddings"] for name, row in rows.items()} == {
        "fast": True,
        "auto": True,
        "careful": False,
        "both": False,
    }
    targets = [target["model"] for target in rows["both"]["x_relay"]["targets"]]
    assert targets == ["m", "n"]
