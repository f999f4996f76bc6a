"""What the corpus expects of `ollama`: its own surface among Ollama's cases, which are those that
have no choices, and the errors of both surfaces."""

from __future__ import annotations

import json
from typing import Any

from relay.codecs import ollama
from relay.codecs.base import Codec
from relay.codecs.ollama import OllamaCodec
from relay.content import FinishReason
from tests.corpus.harness import Ending, Reading, Wire
from tests.fakes.wire_corpus import Case


class OllamaWire(Wire):
    """`ollama`."""

    name = "ollama"
    lane = (ollama, "MAX_MISSES")
    keeps_events = True

    def takes(self, case: Case) -> bool:
        return case.provider == "ollama" and "choices" not in case.expected

    def codec(self, case: Case) -> Codec:
        return OllamaCodec()

    def borders(self, case: Case) -> list[int]:
        if not case.is_ndjson:
            return []
        return [0, *(at + 1 for at, byte in enumerate(case.body[:-1]) if byte == 0x0A)]

    def ending(self, case: Case, prefix: bytes) -> Ending:
        return Ending.CUT  # both streams say that they are done, or fail, in their last line

    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        choice = reading.result.choices.get(0)
        assert (choice.text if choice else "") == expected.get("text", "")
        if "error" in expected:
            return
        assert choice is not None
        assert choice.reasoning == (expected["reasoning"] or "")
        assert [(call.name, json.loads(call.arguments)) for call in choice.tool_calls] == [
            (call["name"], call["arguments_json"]) for call in expected["tool_calls"]
        ]
        assert choice.raw_finish == expected["finish_reason"] == "stop"
        has_calls = bool(expected["tool_calls"])
        assert choice.finish is (FinishReason.TOOL_CALLS if has_calls else FinishReason.STOP)
        usage = reading.result.usage
        assert usage is not None
        assert usage.prompt_tokens == expected["usage"]["prompt_eval_count"]
        assert usage.completion_tokens == expected["usage"]["eval_count"]
        assert json.loads(usage.raw_json).items() >= expected["usage"].items()
