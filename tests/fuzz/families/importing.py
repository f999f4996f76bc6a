"""Configurations of other gateways: LiteLLM's YAML and Portkey's JSON.

Held to: a file that is none is refused by `ImportFault` in few words; of one that is, what is
written is taken by the relay, and no secret is in it or in what is told of it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import orjson

from relay.importing import from_litellm, from_portkey
from relay.importing.reading import ImportFault, read_json, read_yaml
from tests.fuzz.registry import Target
from tests.importing.world import SECRET, taken

_SECRETS = re.compile(rb'(?:api_key|password|master_key)"?: ?"?canary-[\w-]{34}')
A, B = SECRET.format("a"), SECRET.format("b")


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="relay-fuzz-")) / "theirs"


def check(read: Callable[[Path], Any], take: Callable[[Any, Any], Any], given: bytes) -> bool:
    path = _file()
    path.write_bytes(given)
    try:
        draft, report = take(read(path), {})
    except ImportFault as error:
        assert len(str(error)) < 500
        return False
    # Names and addresses are no secrets: a file may have any text for them.
    text = _SECRETS.sub(b"", given)
    if b"canary" not in text:
        taken(draft, report)
    return True


LITELLM = f"""
model_list:
  - model_name: talk
    litellm_params:
      model: azure/gpt-4o
      api_base: https://lab.openai.azure.com/
      api_key: {A}
      api_version: "2024-10-21"
      rpm: 5
      weight: 2
  - model_name: talk
    litellm_params: {{model: bedrock/anthropic.claude-x, aws_region_name: eu-west-1}}
  - model_name: small
    litellm_params: {{model: vertex_ai/gemini-2, vertex_project: p, vertex_location: global}}
router_settings:
  fallbacks: [{{talk: [small]}}]
  routing_strategy: latency-based-routing
  redis_host: redis.test
  redis_password: {B}
litellm_settings: {{request_timeout: 30, drop_params: true}}
general_settings: {{master_key: {A}, maximum_spend_logs_retention_period: 30d}}
"""
PORTKEY: dict[str, Any] = {
    "strategy": {"mode": "fallback", "on_status_codes": [429]},
    "request_timeout": 1000,
    "retry": {"attempts": 3},
    "cache": {"mode": "simple", "max_age": 60},
    "targets": [
        {"provider": "openai", "api_key": A, "override_params": {"model": "gpt-4o"}, "weight": 0.5},
        {
            "strategy": {"mode": "loadbalance"},
            "targets": [
                {"provider": "azure-openai", "resource_name": "lab", "deployment_id": "d",
                 "api_version": "2024-10-21", "api_key": B},
                {"provider": "anthropic", "api_key": A, "custom_host": "http://10.0.0.7:8000/v1"},
            ],
        },
    ],
}  # fmt: skip

TARGETS = {
    "litellm": Target(
        partial(check, read_yaml, from_litellm), lambda: [LITELLM.encode(), b"model_list: []"]
    ),
    "portkey": Target(
        partial(check, read_json, partial(from_portkey, name="fast")),
        lambda: [orjson.dumps(PORTKEY), orjson.dumps(PORTKEY["targets"][0]), b"{}"],
    ),
}
