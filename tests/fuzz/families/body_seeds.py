"""Bodies to begin with, by surface: nearly every field that is read, and state that comes back."""

from __future__ import annotations

from typing import Any, Final

from relay.frontends import messages_state, response_state

PNG: Final = "iVBORw0KGgo="
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION: Final = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
RELAY: Final = {
    "first_token_ms": 500,
    "total_ms": "900",
    "hedge": "race",
    "tags": ["a", "b"],
    "session_id": "s",
    "cache": "only",
    "cache_ttl_s": 5,
    "timeline": True,
    "commit_on": "first_segment",
}
HELLO: Final = {"role": "user", "content": "Hello"}
CALL: Final = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}

CHATS: Final[list[dict[str, Any]]] = [
    {"model": "fast", "messages": [HELLO]},
    {
        "model": "fast",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "A", "cache_control": {}}]},
            {"role": "developer", "content": "B", "name": "n"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
                    {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": PNG}},
                    {"type": "brand_new", "x": 1},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "refusal": "no",
                "tool_calls": [CALL],
                "reasoning_content": "r",
                "reasoning_details": [{"type": "reasoning.text", "text": "t", "signature": "s"}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "2"},
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        "reasoning_effort": "low",
        "temperature": 0.5,
        "top_p": 1,
        "max_completion_tokens": 10,
        "stop": ["x"],
        "n": 2,
        "logprobs": True,
        "top_logprobs": 3,
        "service_tier": "flex",
        "prompt_cache_key": "k",
        "user": "u",
        "seed": 1,
        "relay": RELAY,
        "base_url": "https://evil.example",
        "extra_body": {"api_base": "https://evil.example"},
        "metadata": {"k": "v"},
    },
    {
        "model": "fast",
        "messages": [HELLO, {"role": "function", "name": "f", "content": "1"}],
        "functions": [{"name": "f", "parameters": SCHEMA}],
        "function_call": {"name": "f"},
        "max_tokens": 5,
    },
]

COMPLETIONS: Final[list[dict[str, Any]]] = [
    {"model": "fast", "prompt": "Say", "max_tokens": 5, "stop": "x", "echo": True},
    {"model": "fast", "prompt": ["Say"], "n": 1, "best_of": 1, "stream": True, "relay": RELAY},
]

EMBEDDINGS: Final[list[dict[str, Any]]] = [
    {"model": "m", "input": "Hi", "encoding_format": "base64", "dimensions": 2, "user": "u"},
    {"model": "m", "input": ["a", "b"]},
    {"model": "m", "input": [[1, 2], [3]]},
    {"model": "m", "input": [1, 2, 3]},
]

MESSAGES: Final[list[dict[str, Any]]] = [
    {"model": "m", "max_tokens": 9, "messages": [HELLO], "stop_sequences": ["x"], "top_k": 1},
    {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "system": [{"type": "text", "text": "A", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Hi"},
                    {"type": "image", "source": {"type": "url", "url": "https://a"}},
                    {
                        "type": "document",
                        "title": "t",
                        "source": {
                            "type": "base64",
                            "media_type": "application/pdf",
                            "data": PNG,
                        },
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "t", "signature": "s"},
                    {"type": "redacted_thinking", "data": "QUJD"},
                    {"type": "redacted_thinking", "data": messages_state.pack({}, {"c": {}})},
                    {"type": "text", "text": "Yes."},
                    {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "c",
                        "content": [{"type": "text", "text": "2"}],
                        "is_error": False,
                    }
                ],
            },
        ],
        "tools": [{"name": "f", "input_schema": SCHEMA, "description": "d"}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 2048},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
        "metadata": {"user_id": "u"},
        "service_tier": "auto",
        "relay": RELAY,
        "api_key": "x",
    },
]

RESPONSES: Final[list[dict[str, Any]]] = [
    {"model": "m", "input": "Hi", "instructions": "Be brief.", "store": False, "stream": True},
    {
        "model": "m",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "t"}],
                "encrypted_content": response_state.pack(
                    {"reasoning_details": [{"type": "x"}]}, is_late=True
                ),
            },
            {
                "type": "function_call",
                "call_id": "c",
                "name": "f",
                "arguments": "{}",
                "id": "fc_1",
                "status": "completed",
            },
            {"type": "function_call_output", "call_id": "c", "output": "2"},
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "content": [{"type": "output_text", "text": "Yes", "annotations": []}],
            },
            {"type": "brand_new", "id": "n_1", "x_relay_format": "openai-responses-v1"},
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}"},
                    {"type": "input_file", "file_data": PNG, "filename": "a.pdf"},
                ],
            },
        ],
        "tools": [{"type": "function", **FUNCTION}, {"type": "web_search"}],
        "tool_choice": {"type": "function", "name": "f"},
        "text": {
            "format": {"type": "json_schema", "name": "n", "schema": SCHEMA},
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "top_logprobs": 2,
        "max_output_tokens": 9,
        "parallel_tool_calls": True,
        "metadata": {"k": "v"},
        "truncation": "auto",
        "relay": RELAY,
    },
]
