"""What every client here asks, in each vendor's words, and what the models answer."""

from __future__ import annotations

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
