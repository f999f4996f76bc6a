"""What every client here asks, in each vendor's words, and what the models answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

TEXT = "Hello through another door: naïve, 北京, 🚆. It ends here."
SYSTEM = "Be kind."
HELLO = "Hello"
MAX_TOKENS = 50
TOOL = "weather"
DESCRIPTION = "The weather"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
}

CHAT_TURNS: Any = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": HELLO}]
CHAT_TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": TOOL, "description": DESCRIPTION, "parameters": SCHEMA},
    }
]
CLAUDE_TURNS: Any = [{"role": "user", "content": HELLO}]
CLAUDE_TOOLS: Any = [{"name": TOOL, "description": DESCRIPTION, "input_schema": SCHEMA}]
CONVERSE_TURNS: Any = [{"role": "user", "content": [{"text": HELLO}]}]
CONVERSE_TOOLS: Any = {
    "tools": [
        {"toolSpec": {"name": TOOL, "description": DESCRIPTION, "inputSchema": {"json": SCHEMA}}}
    ]
}


def is_trip(arguments: Any) -> bool:
    """Whether a call's arguments are of `SCHEMA`."""
    return (
        isinstance(arguments, dict)
        and isinstance(arguments.get("city"), str)
        and isinstance(arguments.get("days"), int)
    )


CLAUDE_BLOCKS: Any = [{"role": "user", "content": [{"type": "text", "text": HELLO}]}]
"""A text is as well a list of one block; which of the two is the caller's choice."""
CONTENTS: Any = [{"role": "user", "parts": [{"text": HELLO}]}]

_ID = "call_1"
_GIVEN = {"city": "Ulm", "days": 3}
_GIVEN_JSON = '{"city":"Ulm","days":3}'
_RESULT = "rain at 7 °C"


@dataclass(frozen=True)
class Talk:
    """One conversation in every vendor's words."""

    chat: Any
    """OpenAI's chat, system prompt and all; the relay is asked so."""
    responses: Any
    claude: Any
    converse: Any
    contents: Any
    """Gemini's."""
    tier: str = ""
    """Service tier that is asked for."""


PLAIN = Talk(CHAT_TURNS, CHAT_TURNS, CLAUDE_BLOCKS, CONVERSE_TURNS, CONTENTS)
TIERED = Talk(CHAT_TURNS, CHAT_TURNS, CLAUDE_BLOCKS, CONVERSE_TURNS, CONTENTS, "priority")
AFTER_A_TOOL = Talk(
    chat=[
        *CHAT_TURNS,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": _ID,
                    "type": "function",
                    "function": {"name": TOOL, "arguments": _GIVEN_JSON},
                }
            ],
        },
        {"role": "tool", "tool_call_id": _ID, "content": _RESULT},
    ],
    responses=[
        *CHAT_TURNS,
        {"type": "function_call", "call_id": _ID, "name": TOOL, "arguments": _GIVEN_JSON},
        {"type": "function_call_output", "call_id": _ID, "output": _RESULT},
    ],
    claude=[
        *CLAUDE_BLOCKS,
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": _ID, "name": TOOL, "input": _GIVEN}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": _ID, "content": _RESULT}],
        },
    ],
    converse=[
        *CONVERSE_TURNS,
        {
            "role": "assistant",
            "content": [{"toolUse": {"toolUseId": _ID, "name": TOOL, "input": _GIVEN}}],
        },
        {
            "role": "user",
            "content": [{"toolResult": {"toolUseId": _ID, "content": [{"text": _RESULT}]}}],
        },
    ],
    contents=[
        *CONTENTS,
        {
            "role": "model",
            "parts": [{"functionCall": {"id": _ID, "name": TOOL, "args": _GIVEN}}],
        },
        {
            "role": "user",
            "parts": [
                {
                    "functionResponse": {
                        "id": _ID,
                        "name": TOOL,
                        "response": {"result": _RESULT},
                    }
                }
            ],
        },
    ],
)
