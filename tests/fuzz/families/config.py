"""What operators write: the configuration file, and the small languages in it.

Held to: a fault is a `ConfigError` (of a part of it a ValueError) in so many lines as there are
faults, none of which holds a secret; what is taken can be served by a catalogue.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from relay.codecs.model_path import fill
from relay.codecs.registry import BUILDERS
from relay.config import ConfigError
from relay.config.load import load
from relay.config.rule_values import days_of, hours_of, zone_of_name
from relay.errors import InvalidRequest
from relay.guardrails.patterns import OwnPattern
from relay.policy.panel_json import pointer_steps
from relay.policy.patterns import is_pattern, matcher
from relay.policy.schema_check import is_schema
from relay.routing.catalog import Catalog
from relay.store.usage_time import segments
from tests.fuzz.draws import draw_of
from tests.fuzz.registry import Target

CANARY = "canary-0123456789-ABCDEFGHIJ"
ENVIRONMENT = {"KEY": CANARY, "OPENAI_API_KEY": CANARY, "ADDRESS": "https://a.example/v1"}
DEPLOY = Path(__file__).resolve().parents[3] / "deploy"


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="relay-fuzz-"))


def check_file(given: bytes) -> bool:
    # What is in other files is not the file's: and a device or a pipe would be waited for.
    if b"file:" in given or b"/dev" in given or b"/proc" in given:
        return False
    path = _folder() / "relay.yaml"
    path.write_bytes(given)
    try:
        config = load(path, ENVIRONMENT)
        Catalog(config)
    except ConfigError as error:
        text = str(error)
        assert text, "a refusal without a word"
        assert CANARY not in text, "a secret in an error"
        assert len(text) < 200_000
        return False
    assert CANARY not in repr(config), "a secret in what is shown"
    return True


def check_patterns(given: bytes) -> bool:
    """`*` in names: as a naive matcher has it, whatever the name."""
    pattern, _, name = given.decode("utf-8", "replace").partition("\n")
    fits = matcher([pattern])(name)
    if not is_pattern(pattern):
        assert fits == (pattern == name)
    elif len(pattern) < 40 and len(name) < 200:
        assert fits == _fits(pattern, name, "/" in pattern or not pattern.strip("*"))
    return fits


def _fits(pattern: str, name: str, over_slashes: bool) -> bool:
    """By sets of places, one character of the pattern at a time."""
    places = {0}
    for one in pattern:
        if one != "*":
            places = {at + 1 for at in places if name[at : at + 1] == one}
            continue
        for at in sorted(places):
            while at < len(name) and (over_slashes or name[at] != "/"):
                at += 1
                places.add(at)
    return len(name) in places


def check_own_pattern(given: bytes) -> bool:
    """An operator's expression is refused, or finds what it finds within its window."""
    pattern, _, text = given.decode("utf-8", "replace").partition("\n")
    try:
        own = OwnPattern("own", pattern[:200], max_chars=draw_of(given).choice([None, 5]))
    except ValueError:
        return False
    for found in own.find(text):
        assert 0 <= found.start < found.end <= len(text)
        assert own.window_chars is None or found.end - found.start <= own.window_chars
    return True


def check_rule_values(given: bytes) -> bool:
    text = given.decode("utf-8", "replace")
    taken = 0
    for read in (hours_of, zone_of_name, lambda text: days_of(tuple(text.split(",")))):
        try:
            found: Any = read(text)
        except ValueError:
            continue
        taken += 1
        if isinstance(found, tuple) and read is hours_of:
            assert 0 <= found[0] <= 1440
            assert found[0] != found[1]
        if hasattr(found, "key"):
            segments(found, 1_790_000_000, 1_790_100_000)
    pointer_steps(text)
    is_schema(given)
    return taken > 0


def check_quirks(given: bytes) -> bool:
    """A row's quirks, for every wire: taken, or refused by a ValueError."""
    try:
        quirks = yaml.safe_load(given[:4000].decode("utf-8", "replace"))
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    if not isinstance(quirks, dict) or not all(isinstance(name, str) for name in quirks):
        return False
    taken = 0
    for build in BUILDERS.values():
        try:
            build(quirks, "p")()
        except ValueError:
            continue
        taken += 1
    return taken > 0


def check_model_path(given: bytes) -> bool:
    template, _, model = given.decode("utf-8", "replace").partition("\n")
    try:
        path = fill(template, model)
    except InvalidRequest:
        return False
    made = path if "{model}" in template else ""
    assert "\n" not in made or "\n" in template
    assert " " not in made or " " in template
    assert "/../" not in made or ".." in template
    return True


SMALL = b"""
providers:
  lab: {wire: openai_chat, base_url: "${ADDRESS}", api_key: "${KEY}", quirks: {drop: [seed]}}
  openai: {api_key: "${OPENAI_API_KEY}"}
server: {grpc: {address: "127.0.0.1:0"}, http: {cors_origins: ["https://a.example"]}}
models:
  fast:
    candidates: [{provider: lab, model: m}, {provider: openai, model: gpt-4o}]
    fallbacks: [{provider: lab, model: n}]
    hedge: {mode: auto}
    first_token_ms: 900
rules:
  - name: night
    when: {hours: 22:00-06:00, days: [mon-fri], time_zone: Europe/Berlin}
    use: fast
limits: {default: {rpm: 5}}
"""


def files() -> list[bytes]:
    found = sorted(DEPLOY.rglob("*.yaml")) + sorted(DEPLOY.rglob("*.yml"))
    return [SMALL, b"{}", *(path.read_bytes() for path in found if path.stat().st_size < 16_384)]


PATTERNS = (b"gpt-*\ngpt-4o", b"*/x-*-y\na/x-b/c-y", b"*\na/b", b"a*a*a\naaaa", b"plain\nplain")
OWN = (
    b"\\b[A-Z]{2}-\\d{2,4}\\b\nAB-123",
    b"(?i)order\\s+#?\\d+\nOrder  5",
    b"a*\nb",
    b"(?s).+?x\nx",
)
VALUES = (b"08:00-18:30", b"mon-fri,sun", b"Europe/Berlin", b"22:00-6:00", b'{"type":"object"}')
QUIRKS = (b"{drop: [seed]}", b"{}", b"{framing: aws_event_stream}", b"{path: /v1/{model}:stream}")
TEMPLATES = (b"/v1/models/{model}:stream\ngemini-2", b"/{model}\n../x", b"/{model}\na b?c#d%2f")

TARGETS = {
    "file": Target(check_file, files),
    "patterns": Target(check_patterns, lambda: PATTERNS),
    "own_pattern": Target(check_own_pattern, lambda: OWN),
    "rule_values": Target(check_rule_values, lambda: VALUES),
    "quirks": Target(check_quirks, lambda: QUIRKS),
    "model_path": Target(check_model_path, lambda: TEMPLATES),
}
