"""Rows of quirks: checked key by key, and every known provider's row is sound."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

import relay
from relay.codecs.anthropic_quirks import AnthropicQuirks
from relay.codecs.gemini_quirks import GeminiQuirks
from relay.codecs.openai_quirks import OpenAIChatQuirks
from relay.codecs.registry import BUILDERS, EMBEDDERS
from relay.codecs.responses_quirks import ResponsesQuirks
from relay.content import EmbeddingOptions, GenerateRequest, Message, Role, TextPart
from relay.errors import InvalidRequest

ROWS: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(relay.__file__).parent / "providers.yaml").read_text("utf-8")
)


def test_empty_row_is_the_default() -> None:
    assert OpenAIChatQuirks.from_mapping({}, "p") == OpenAIChatQuirks()


@pytest.mark.parametrize(
    "quirks", [AnthropicQuirks, GeminiQuirks, OpenAIChatQuirks, ResponsesQuirks]
)
def test_every_quirk_has_its_check(
    quirks: type[AnthropicQuirks | GeminiQuirks | OpenAIChatQuirks | ResponsesQuirks],
) -> None:
    for entry in fields(quirks):
        with pytest.raises(ValueError, match="must "):
            quirks.from_mapping({entry.name: object()}, "p")


@pytest.mark.parametrize(
    ("quirks", "message"),
    [
        ({"max_token_field": "max_tokens"}, "'max_token_field' is unknown.*'max_tokens_field'"),
        ({"zzz": 1}, "provider 'p': quirk 'zzz' is unknown$"),
        ({"max_tokens_field": "tokens"}, "one of max_tokens, max_completion_tokens"),
        ({"has_stream_options": "no"}, "true or false"),
        ({"seed_field": ""}, "a text"),
        ({"seed_field": None}, "a text"),
        ({"path": "chat"}, "begin with '/'"),
        ({"path": "/{model}/{model}"}, "must hold '{model}' once at most"),
        ({"refuses": "n"}, "a list of names"),
        ({"refuses": None}, "a list of names"),
        ({"refuses": [1]}, "a list of names"),
        ({"refuses": ["image part"]}, "unknown field 'image part'; did you mean 'image parts'"),
        ({"reasoning": "hard"}, "one of effort, openrouter"),
    ],
)
def test_wrong_rows_are_refused_by_name(quirks: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OpenAIChatQuirks.from_mapping(quirks, "p")
    with pytest.raises(ValueError, match="'p'"):
        BUILDERS["openai_chat"](quirks, "p")


def test_a_path_that_names_the_model() -> None:
    """Azure's deployments: the body names it as well."""
    path = "/deployments/{model}/chat/completions?api-version=2024-10-21"
    request = GenerateRequest("m", (Message(Role.USER, (TextPart("hi"),)),))
    encoded = BUILDERS["openai_chat"]({"path": path}, "p")().encode_request(request, "a b/c")
    assert encoded.path == "/deployments/a%20b%2Fc/chat/completions?api-version=2024-10-21"
    assert orjson.loads(encoded.body)["model"] == "a b/c"
    with pytest.raises(InvalidRequest, match="model"):
        BUILDERS["openai_chat"]({"path": path}, "p")().encode_request(request, "..")
    asked = replace(request, messages=(), embedding=EmbeddingOptions(("a",)))
    vectors = EMBEDDERS["openai_chat"]({"path": path}, "p")().encode_request(asked, "e")
    assert vectors.path == "/deployments/e/embeddings?api-version=2024-10-21"


def test_null_means_all_for_the_allow_lists() -> None:
    assert OpenAIChatQuirks.from_mapping({"only_extra": None}, "p").only_extra is None
    assert OpenAIChatQuirks.from_mapping({"only_extra": []}, "p").only_extra == frozenset()


@pytest.mark.parametrize("name", [name for name in ROWS if name != "same_models"])
def test_known_provider(name: str) -> None:
    row = ROWS[name]
    assert set(row) <= {
        "wire",
        "base_url",
        "api_key_env",
        "auth",
        "cancel_billing",
        "caches_prompts",
        "probe_path",
        "quirks",
        "models",
        "other_wires",
        "service_tiers",
        "credential",
        "hosts",
    }
    assert row["base_url"].startswith(("https://", "http://127.0.0.1:"))
    assert not row["base_url"].endswith("/")
    assert row["auth"] in {"bearer", "x-api-key", "api-key", "x-goog-api-key", "none"}
    assert row["cancel_billing"] in {"stops", "used_tokens", "full", "unknown"}
    assert all("/" not in model for model in row["models"])
    codec = BUILDERS[row["wire"]](row["quirks"], name)()
    assert codec.wire == row["wire"]


@pytest.mark.parametrize(
    ("name", "wire"),
    [(name, wire) for name, row in ROWS.items() for wire in row.get("other_wires", {})],
)
def test_other_wire_of_a_known_provider(name: str, wire: str) -> None:
    row = ROWS[name]["other_wires"][wire]
    assert wire != ROWS[name]["wire"]
    assert set(row) <= {"base_url", "auth", "cancel_billing", "quirks", "models", "probe_path"}
    assert BUILDERS[wire](row["quirks"], name)().wire == wire


def test_well_known_variables_have_their_rows() -> None:
    named = {row.get("api_key_env") for row in ROWS.values()}
    assert {
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "DEEPSEEK_API_KEY",
        "DASHSCOPE_API_KEY",
        "MISTRAL_API_KEY",
        "OPENROUTER_API_KEY",
        "GROQ_API_KEY",
        "TOKENMIX_API_KEY",
    } <= named
