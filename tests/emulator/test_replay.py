"""Recordings are served byte for byte, in the pieces asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.emulator import shared_data
from relay.emulator.replay import Recording, ReplayError, load_recording, split_events
from tests.emulator.calls import chat, post
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.wire_corpus import ABSENT

PATH = "/v1/chat/completions"
BODY = 'data: {"a": "Zürich"}\n\ndata: {"b": 2}\r\n\r\n: note\n\ndata: [DONE]\n\n'.encode()
CORPUS = shared_data.wire_corpus()


def test_events_keep_every_byte() -> None:
    events = split_events(BODY)
    assert b"".join(events) == BODY
    assert len(events) == 4
    assert split_events(b'{"x":1}\n{"y":2}\n') == [b'{"x":1}\n', b'{"y":2}\n']
    assert split_events(b"") == []


@pytest.mark.parametrize(
    ("split", "count"), [("whole", 1), ("event", 4), ("byte", len(BODY)), ("7", -(-len(BODY) // 7))]
)
def test_pieces(split: str, count: int) -> None:
    pieces = Recording(200, [], BODY).pieces(split, None)
    assert len(pieces) == count
    assert b"".join(pieces) == BODY


def test_cut_behind_an_event() -> None:
    assert b"".join(Recording(200, [], BODY).pieces("byte", 1)) == BODY[: BODY.index(b"data", 1)]


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.is_dir(), reason=ABSENT)
def test_case_of_the_corpus_by_its_name() -> None:
    meta = min((CORPUS / "openai-chat").glob("*.meta.json"))
    response = json.loads(meta.read_bytes())["response"]
    recording = load_recording(f"openai-chat/{meta.name.removesuffix('.meta.json')}")
    assert recording.status == response["status"]
    assert recording.body == (meta.parent / response["body_file"]).read_bytes()


def test_missing_recording() -> None:
    with pytest.raises(ReplayError, match="no recording"):
        load_recording("nowhere/at-all")


@pytest.mark.sockets
class TestServed:
    @pytest.fixture
    def case(self, tmp_path: Path) -> str:
        (tmp_path / "case.sse").write_bytes(BODY)
        headers = [["X-Request-Id", "req_1"], ["Content-Length", "9"], ["Content-Encoding", "gzip"]]
        response = {"status": 206, "headers": headers, "body_file": "case.sse"}
        (tmp_path / "case.meta.json").write_text(json.dumps({"response": response}))
        return str(tmp_path / "case.sse")

    @pytest.mark.parametrize("split", ["whole", "event", "byte", "7"])
    def test_status_headers_and_bytes(
        self, emulator: EmulatorProcess, case: str, split: str
    ) -> None:
        emulator.script("replayed", {"ttft": 1, "itl": 0, "replay": case, "split": split})
        answer = post(emulator, PATH, chat("replayed"))
        assert answer.status_code == 206
        assert answer.headers["x-request-id"] == "req_1"
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.content == BODY

    def test_missing_is_a_400(self, emulator: EmulatorProcess) -> None:
        assert post(emulator, PATH, chat("emu:replay=no/where")).status_code == 400

    @pytest.mark.corpus
    @pytest.mark.skipif(not CORPUS.is_dir(), reason=ABSENT)
    @pytest.mark.parametrize("provider", ["openai-chat", "anthropic", "gemini", "qwen"])
    def test_corpus_cases(self, emulator: EmulatorProcess, provider: str) -> None:
        for meta in sorted((CORPUS / provider).glob("*.meta.json"))[:5]:
            response = json.loads(meta.read_bytes())["response"]
            emulator.script("corpus", {"ttft": 0, "replay": str(meta), "split": "97"})
            answer = post(emulator, PATH, chat("corpus"))
            assert answer.status_code == response["status"]
            assert answer.content == (meta.parent / response["body_file"]).read_bytes()
