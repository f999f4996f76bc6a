"""Structured logs: one JSON object a line on standard error, so that standard output stays ours."""

from __future__ import annotations

import logging
import sys
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
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if level == "debug" else logging.WARNING,
        format='{"level":"%(levelname)s","logger":"%(name)s","event":"%(message)s"}',
        force=True,
    )


def _dumps(value: object, **_: Any) -> bytes:
    return orjson.dumps(value, default=repr)
