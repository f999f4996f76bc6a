"""Structured logs: one JSON object a line on standard error, so that standard output stays ours.

What libraries log through `logging` (uvicorn, asyncio, grpc) takes the same shape, tracebacks too.
Secrets are taken out of every line (`hide_with`): an exception may tell what it was about, and a
caller may put his key where a name belongs. Nobody's local variables are shown.

A relay that serves writes its lines in a thread of their own (`relay.log_sink`), so that nobody who
reads them, or does not, can hold it up; commands write them at once.
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

from relay.log_sink import LineSink

Level = Literal["debug", "info", "warning"]
Hide = Callable[[str], str]

_hide: Hide = str
_sink: LineSink | None = None
_TRACEBACKS: Final = frozenset({"exception", "stack"})
_TRACED: Final = frozenset({"exc_info", "stack_info", *_TRACEBACKS})
_LEVELS: Final = {"warn": "warning", "exception": "error"}
"""Of methods that are named otherwise."""
_SAFE: Final = "generation"
"""The line that is written for every generation: who makes it takes out secrets where callers put
words of their own, which is less than all."""


def configure(*, level: Level = "info", serves: bool = False) -> None:
    """Set up structlog for this process; the standard library's warnings go the same way.

    Args:
        serves: nobody may wait for a line to be written.
    """
    global _sink
    if _sink is not None:
        _sink.close()
    _sink = _sink_of(sys.stderr) if serves else None
    threshold = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}[level]
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer)
        if _sink is None
        else _SinkLoggers(_sink),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr) if _sink is None else _SinkHandler(_sink)
    handler.setFormatter(JsonLines())
    logging.basicConfig(
        handlers=[handler],
        level=logging.DEBUG if level == "debug" else logging.WARNING,
        force=True,
    )


def limit(max_waiting_bytes: int) -> None:
    """How much may wait to be written, where lines wait at all."""
    if _sink is not None:
        _sink.max_waiting_bytes = max_waiting_bytes


def dropped_lines() -> int:
    """How many lines found no room since the process began."""
    return 0 if _sink is None else _sink.dropped_lines


def hidden(text: str) -> str:
    """A text without the secrets that are known (`hide_with`)."""
    return _hide(text)


def hide_with(hide: Hide) -> None:
    """Take secrets out of lines from now on.

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
            line[traced] = str(line[traced])
    if line.get("event") != _SAFE:
        for key, value in line.items():
            line[key] = _hidden(value)
    line["level"] = _LEVELS.get(name, name)
    line["timestamp"] = datetime.now(UTC).isoformat()
    return _dumps(line)


def _hidden(value: Any) -> Any:
    if isinstance(value, str):
        return _hide(value)
    if isinstance(value, dict):
        return {_hidden(key): _hidden(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_hidden(inner) for inner in value]
    if value is None or isinstance(value, int | float):
        return value
    return _hide(repr(value))


def _sink_of(stream: Any) -> LineSink | None:
    try:
        return LineSink(stream.fileno(), _dropped)
    except (OSError, ValueError):  # no file of the system's, but something of a test's
        return None


def _dropped(lines: int) -> bytes:
    """The line that tells of lines that there was no room for."""
    return _line(None, "warning", {"event": "log_lines_dropped", "lines": lines})


class _SinkLoggers:
    """A structlog logger factory, and its only logger: what it is given goes to a sink."""

    def __init__(self, sink: LineSink) -> None:
        self.msg = self.debug = self.info = self.warning = self.warn = sink.put
        self.error = self.exception = self.critical = self.fatal = self.failure = self.log = (
            sink.put
        )

    def __call__(self, *_: Any) -> _SinkLoggers:
        return self


class _SinkHandler(logging.Handler):
    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._sink.put(self.format(record).encode(errors="replace"))
        except Exception:  # noqa: BLE001 - the standard library's handlers do the same
            self.handleError(record)


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
