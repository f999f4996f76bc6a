"""The payload log of one worker: hears of ends, and one thread writes what was asked and answered.

A disk that is full, slow or gone costs lines and nothing else: what waits is bounded, what is over
is dropped and counted, and that is logged once for each time that it begins.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import structlog

from relay.config import PayloadsConfig
from relay.content import GenerateRequest
from relay.observability.payloads.files import PayloadFiles
from relay.observability.recording import Prompt, Recording, recording_of
from relay.observability.redactor import Redactor
from relay.observability.side_thread import SideThread
from relay.outcome import Ended
from relay.trace_context import is_in_share, trace_of

_log = structlog.get_logger("relay.payloads")

INTERVAL_S: Final = 0.5
CLOSE_WITHIN_S: Final = 2.0
MAX_BATCH_BYTES: Final = 1024 * 1024
_LINE_BYTES: Final = 512
"""What a line counts with beside its texts."""


class _Payload(NamedTuple):
    fields: dict[str, Any]
    prompt: Prompt
    answer: Recording | None
    size_bytes: int


class PayloadLog:
    """A `Listener`. Started by `start`, ended by `aclose`.

    Args:
        instance: what this process is called; part of the files' names.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        config: PayloadsConfig,
        redactor: Redactor,
        instance: str,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._redactor = redactor
        self._now_s = now_s
        self._files = PayloadFiles(
            Path(config.folder),
            instance,
            max_file_bytes=config.max_file_bytes,
            max_file_s=config.max_file_s,
            retention_s=config.retention_days * 86_400,
            max_total_bytes=config.max_total_bytes,
            now_s=now_s,
        )
        self._waiting: deque[_Payload] = deque()
        self._waiting_bytes = 0
        self._taken_bytes = 0
        """By the thread, of all that was ever put: each side writes one number."""
        self._side = SideThread("payloads", self._run)
        self._is_failing = False
        self.written = 0
        self.dropped = 0
        self.failed = 0
        """Were not written because the file system would not."""

    def start(self) -> None:
        """Begin to write."""
        self._side.start()

    # --- the loop's side ----------------------------------------------------------------------

    def chars_of(self, request: GenerateRequest, trace_id: str) -> int:
        """How much of an answer is kept; 0 where the generation is none of those written."""
        config = self._config
        alias = request.asked_as or request.model
        if config.wants(alias, request.policy.key_id) and is_in_share(trace_id, config.share):
            return config.max_chars
        return 0

    def __call__(self, ended: Ended) -> None:
        """Never blocks; drops what there is no room for."""
        request = ended.request
        trace = trace_of(ended.generation_id, request.policy.traceparent)
        if not self.chars_of(request, trace.trace_id):
            return
        prompt = Prompt(request, self._config.max_chars)
        answer = recording_of(ended.recorded)
        size_bytes = _LINE_BYTES + prompt.size_chars + (answer.size_chars if answer else 0)
        if self._waiting_bytes - self._taken_bytes + size_bytes > self._config.max_waiting_bytes:
            self.dropped += 1
            return
        self._waiting_bytes += size_bytes
        fields = self._fields(ended, trace.trace_id)
        self._waiting.append(_Payload(fields, prompt, answer, size_bytes))

    def _fields(self, ended: Ended, trace_id: str) -> dict[str, Any]:
        end, request, policy = ended.end, ended.request, ended.request.policy
        usage, error = end.usage, end.error
        return {
            "at_s": self._now_s(),
            "id": ended.generation_id,
            "client_id": ended.client_id,
            "trace_id": trace_id,
            "frontend": ended.frontend,
            "team": policy.tenant,
            "key": policy.key_id,
            "session": policy.session_id,
            "turn": policy.turn_id,
            "asked": request.asked_as or request.model,
            "provider": end.provider,
            "model": ended.response_model or end.model,
            "status": error.status_code.name if error else "OK",
            "reason": error.reason.name if error else "",
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        }

    async def aclose(self) -> None:
        """Write what waits, for no longer than `CLOSE_WITHIN_S`. Idempotent.

        Cancelled: the thread goes on for as long as the process does.
        """
        if not await self._side.aclose(CLOSE_WITHIN_S):
            _log.warning("payloads_left_at_the_end", payloads=len(self._waiting))

    def describe(self) -> dict[str, Any]:
        """For the state of the worker."""
        return {
            "waiting": len(self._waiting),
            "written": self.written,
            "dropped": self.dropped,
            "failed": self.failed,
            "failing": self._is_failing,
            "deleted_files": self._files.deleted_files,
        }

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                if not self._side.is_stopping:
                    self._side.wake.wait(INTERVAL_S)
                is_last = self._side.is_stopping
                while self._waiting:
                    self._write()
                self._sweep()
                if is_last:
                    return
        finally:
            self._files.close()

    def _write(self) -> None:
        lines, count = bytearray(), 0
        while self._waiting and len(lines) < MAX_BATCH_BYTES:
            payload = self._waiting.popleft()
            try:
                lines += self._line(payload)
                count += 1
            except Exception as error:  # noqa: BLE001 - one that cannot be told costs no other
                self.failed += 1
                _log.error("payload_bug", generation_id=payload.fields["id"], exc_info=error)
            self._taken_bytes += payload.size_bytes
            time.sleep(0)  # the loop may have the interpreter
        if not count:
            return
        try:
            self._files.write(bytes(lines))
        except OSError as error:
            self.failed += count
            self._fails(error)
        except Exception as error:  # noqa: BLE001 - the next ones are written all the same
            self.failed += count
            _log.error("payload_bug", generation_id="", exc_info=error)
        else:
            self.written += count
            if self._is_failing:
                self._is_failing = False
                _log.warning("payloads_written_again", failed=self.failed, dropped=self.dropped)

    def _line(self, payload: _Payload) -> bytes:
        clean, prompt, answer = self._redactor.clean, payload.prompt, payload.answer
        fields = payload.fields
        at = datetime.fromtimestamp(fields.pop("at_s"), UTC).isoformat()
        line: dict[str, Any] = {"at": at}
        line |= {
            name: (clean(value) or None) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        line["input"] = prompt.messages(clean)
        line["output"] = answer.messages(clean) if answer is not None else []
        line["cut"] = prompt.is_cut or (answer is not None and answer.is_cut)
        return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)

    def _sweep(self) -> None:
        try:
            self._files.sweep()
        except FileNotFoundError:  # nothing has been written yet
            return
        except OSError as error:
            self._fails(error)
        except Exception as error:  # noqa: BLE001 - what is written goes on
            _log.error("payload_bug", generation_id="", exc_info=error)

    def _fails(self, error: OSError) -> None:
        self._files.close()
        if not self._is_failing:
            self._is_failing = True
            _log.error("payloads_not_written", why=error.strerror or type(error).__name__)
