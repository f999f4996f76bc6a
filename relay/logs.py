"""Structured logs: one JSON object a line on standard error, so that standard output stays ours.

What libraries log through `logging` (uvicorn, asyncio, grpc) takes the same shape, tracebacks too.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
import structlog

Level = Literal["debug", "info", "warning"]


def configure(*, level: Level = "info") -> None:
    """Set up structlog for this process; the standard library's warnings go the same way."""
    threshold = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}[level]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
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


class JsonLines(logging.Formatter):
    """A record of the standard library as one JSON object, with the names that structlog uses."""

    def format(self, record: logging.LogRecord) -> str:
        """Never with a line break: those of a traceback are within its string."""
        line: dict[str, object] = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return _dumps(line).decode()


def _dumps(value: object, **_: Any) -> bytes:
    try:
        return orjson.dumps(value, default=repr)
    except TypeError:  # half a surrogate pair in a text, which UTF-8 cannot say
        return json.dumps(value, default=repr, ensure_ascii=False).encode(errors="replace")
