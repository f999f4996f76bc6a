"""Structured logs: one JSON object a line on standard error, so that standard output stays ours.

What libraries log through `logging` (uvicorn, asyncio, grpc) takes the same shape, tracebacks too.
An exception may tell what it was about, so secrets are taken out of tracebacks and of what
libraries say (`hide_with`); nobody's local variables are shown. Our own lines have none to begin
with.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Literal

import orjson
import structlog

Level = Literal["debug", "info", "warning"]
Hide = Callable[[str], str]

_hide: Hide = str
_TRACEBACKS: Final = frozenset({"exception", "stack"})
_TRACED: Final = frozenset({"exc_info", "stack_info", *_TRACEBACKS})
_LEVELS: Final = {"warn": "warning", "exception": "error"}
"""Of methods that are named otherwise."""


def configure(*, level: Level = "info") -> None:
    """Set up structlog for this process; the standard library's warnings go the same way."""
    threshold = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}[level]
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(
        handlers=[handler],
        level=logging.DEBUG if level == "debug" else logging.WARNING,
        force=True,
    )


def hide_with(hide: Hide) -> None:
    """Take secrets out of tracebacks from now on.

    Args:
        hide: of any thread; a text without the secrets that it had.
    """
    global _hide
    _hide = hide


def _line(logger: Any, name: str, line: MutableMapping[str, Any]) -> bytes:
    """A structlog processor, the only one: one costs a generation's line half of what five did."""
    if _TRACED & line.keys():
        line = structlog.processors.format_exc_info(logger, name, line)
        for traced in _TRACEBACKS.intersection(line):
            line[traced] = _hide(str(line[traced]))
    line["level"] = _LEVELS.get(name, name)
    line["timestamp"] = datetime.now(UTC).isoformat()
    return _dumps(line)


class JsonLines(logging.Formatter):
    """A record of the standard library as one JSON object, with the names that structlog uses."""

    def format(self, record: logging.LogRecord) -> str:
        """Never with a line break: those of a traceback are within its string."""
        line: dict[str, object] = {
            "event": _hide(record.getMessage()),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            line["exception"] = _hide(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = _hide(record.stack_info)
        return _dumps(line).decode()


def _dumps(value: object, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, default=repr)
    except TypeError:  # half a surrogate pair in a text, which UTF-8 cannot say
        return json.dumps(value, default=repr, ensure_ascii=False).encode(errors="replace")
