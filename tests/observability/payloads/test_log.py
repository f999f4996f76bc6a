"""The payload log: whose are written, what a line has, and that nobody waits for a disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from relay.config import PayloadsConfig
from relay.content import GenerateRequest, Message, Policy, Role, TextPart
from relay.governance.known_secrets import KnownSecrets
from relay.observability.payloads.files import PayloadFiles
from relay.observability.payloads.log import PayloadLog
from relay.observability.recording import Recording
from relay.observability.redactor import Redactor
from relay.outcome import Ended
from relay.trace_context import is_in_share, trace_of
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.otlp_collector import wait_until
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import run

CANARY = "sk-canary-0123456789abcdef"


def ends_of(*wanted: GenerateRequest) -> list[Ended]:
    """Of generations that are recorded."""

    async def all_of_them() -> list[Ended]:
        scenario = Scenario({"a": FakeEndpoint(chunks=answer("you ", "said ", CANARY))})
        ended: list[Ended] = []
        scenario.services.on_ended.append(ended.append)
        scenario.services.record = lambda request, generation_id: Recording(10_000)
        for number, one in enumerate(wanted):
            await scenario.generate(one, generation_id=f"gen_{number}")
        await scenario.settled()
        return ended

    return run(all_of_them())


def log_in(folder: Path, *patterns: str, **config: Any) -> PayloadLog:
    section = PayloadsConfig.model_validate({"folder": str(folder), **config})
    return PayloadLog(section, Redactor(KnownSecrets([CANARY]).hide, patterns), "i_1")


async def written(log: PayloadLog, folder: Path, ended: list[Ended]) -> list[dict[str, Any]]:
    log.start()
    for one in ended:
        log(one)
    await log.aclose()
    await log.aclose()
    return [
        orjson.loads(line)
        for path in sorted(folder.glob("*.jsonl"))
        for line in path.read_bytes().splitlines()
    ]


ASKED = request(
    messages=(Message(Role.USER, (TextPart(f"call me on 555-1234, key {CANARY}"),)),),
    policy=Policy(key_id="key_1", tenant="team_1", labels={"a": "b"}, turn_id="t1"),
)


async def test_a_line_has_prompt_and_answer_and_no_secret(tmp_path: Path) -> None:
    log = log_in(tmp_path, r"\d{3}-\d{4}")
    (line,) = await written(log, tmp_path, await_ends(ASKED))
    assert line["input"] == [
        {"role": "user", "parts": [{"type": "text", "content": "call me on ***, key ***"}]}
    ]
    assert line["output"] == [
        {
            "role": "assistant",
            "parts": [{"type": "text", "content": "you said ***"}],
            "finish_reason": "stop",
        }
    ]
    assert {name: line[name] for name in ("id", "key", "team", "asked", "provider", "turn")} == {
        "id": "gen_0",
        "key": "key_1",
        "team": "team_1",
        "asked": "fast",
        "provider": "a",
        "turn": "t1",
    }
    assert (line["model"], line["status"], line["cut"]) == ("upstream-model", "OK", False)
    assert line["trace_id"] == trace_of("gen_0", "").trace_id
    assert CANARY not in str(line)
    assert log.describe()["written"] == 1


def await_ends(*wanted: GenerateRequest) -> list[Ended]:
    """`ends_of` in a thread: it has a loop of its own."""
    found: list[Ended] = []
    thread = threading.Thread(target=lambda: found.extend(ends_of(*wanted)))
    thread.start()
    thread.join()
    return found


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({}, 2),
        ({"aliases": ["fast"]}, 2),
        ({"aliases": ["other"]}, 0),
        ({"keys": ["key_1"]}, 1),
        ({"aliases": ["other"], "keys": ["key_1"]}, 1),
    ],
)
async def test_whose_are_written(tmp_path: Path, config: dict[str, Any], count: int) -> None:
    lines = await written(log_in(tmp_path, **config), tmp_path, await_ends(ASKED, request()))
    assert len(lines) == count


async def test_a_share_is_written(tmp_path: Path) -> None:
    ended = await_ends(*[request()] * 40)
    lines = await written(log_in(tmp_path, share=0.5), tmp_path, ended)
    assert [line["id"] for line in lines] == [
        f"gen_{n}" for n in range(40) if is_in_share(trace_of(f"gen_{n}", "").trace_id, 0.5)
    ]


async def test_long_texts_are_cut_and_say_so(tmp_path: Path) -> None:
    asked = request(messages=(Message(Role.USER, (TextPart("x" * 300),)),))
    (line,) = await written(log_in(tmp_path, max_chars=256), tmp_path, await_ends(asked))
    assert line["cut"] is True
    assert line["input"] == []


async def test_a_disk_that_is_full_costs_lines_alone_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, is_full = PayloadFiles.write, [True]

    def may_be_full(self: PayloadFiles, lines: bytes) -> None:
        if is_full:
            raise OSError(28, "No space left on device")
        write(self, lines)

    monkeypatch.setattr(PayloadFiles, "write", may_be_full)
    monkeypatch.setattr("relay.observability.payloads.log.INTERVAL_S", 0.002)
    ended = await_ends(ASKED)
    log = log_in(tmp_path)
    with capture_logs() as lines:
        log.start()
        log(ended[0])
        wait_until(lambda: log.failed == 1)
        log(ended[0])
        wait_until(lambda: log.failed == 2)
        is_full.clear()
        log(ended[0])
        wait_until(lambda: log.written == 1)
        await log.aclose()
    assert [line["event"] for line in lines] == ["payloads_not_written", "payloads_written_again"]
    assert lines[0]["why"] == "No space left on device"


async def test_what_finds_no_room_is_dropped(tmp_path: Path) -> None:
    asked = request(messages=(Message(Role.USER, (TextPart("x" * 9_000),)),))
    ended = await_ends(asked)
    log = log_in(tmp_path, max_waiting_bytes=65_536)
    for _ in range(20):
        log(ended[0])
    assert log.describe()["waiting"] + log.dropped == 20
    assert log.dropped >= 10
    log.start()
    await log.aclose()
    assert log.written == 20 - log.dropped
