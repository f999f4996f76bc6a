"""Clouds' doors: which path is whose, who may pass, and the shapes that only they have."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2
import pytest

from relay.emulator.cloud_doors import find_door
from tests.emulator.calls import frames, plain_client, post
from tests.emulator.frames import BadFrame, aws_frames, messages_events
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

KEY = {"authorization": "Bearer a-bedrock-key"}
TURN: Any = {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}
CLAUDE: Any = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 50,
    "messages": [{"role": "user", "content": "Hi"}],
}
CHAT: Any = {"model": "d", "messages": [{"role": "user", "content": "Hi"}]}
VERTEX = "/v1/projects/p/locations/eu/publishers"
INSTANT = "emu:ttft=0,itl=0"


@pytest.fixture
def google(emulator: EmulatorProcess) -> dict[str, str]:
    """Headers with a token that counts."""
    with plain_client() as client:
        url = f"{emulator.base_url_plain}/emulator/cloud/token"
        token = client.post(url, json={"kind": "google"}).json()["access_token"]
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/openai/deployments/d/chat/completions", "azure_deployments"),
        ("/azure/openai/deployments/d/embeddings", "azure_deployments"),
        ("/openai/responses", "azure_deployments"),
        ("/azure/openai/v1/responses", "azure"),
        ("/azure/openai/v1/chat/completions", "azure"),
        ("/foundry/anthropic/v1/messages", "foundry_anthropic"),
        ("/model/us.amazon.nova-lite-v1:0/converse", "bedrock"),
        ("/bedrock/model/arn:aws:bedrock:e:1:inference-profile/x/converse-stream", "bedrock"),
        ("/model/m/invoke", "bedrock_messages"),
        ("/model/m/invoke-with-response-stream", "bedrock_messages"),
        ("/bedrock/openai/v1/chat/completions", "bedrock_openai"),
        ("/mantle/v1/responses", "bedrock_mantle"),
        ("/mantle/openai/v1/chat/completions", "bedrock_mantle"),
        ("/mantle/anthropic/v1/messages", "bedrock_mantle"),
        (f"{VERTEX}/google/models/m:generateContent", "vertex"),
        ("/vertex/v1beta1/publishers/google/models/m:generateContent", "vertex_express"),
        (f"{VERTEX}/anthropic/models/m@1:rawPredict", "vertex_anthropic"),
        # OpenAI's own dialect keeps its path.
        ("/openai/v1/chat/completions", None),
        ("/v1/chat/completions", None),
        ("/v1/messages", None),
        ("/v1beta/models/m:generateContent", None),
    ],
)
def test_paths(path: str, name: str | None) -> None:
    door = find_door(path)
    assert (None if door is None else door.name) == name


class TestAzure:
    PATH = f"/openai/deployments/{INSTANT},text=Yes/chat/completions?api-version=2024-10-21"

    def test_whole(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, self.PATH, {**CHAT, "model": "other"}, {"api-key": "k"})
        told = answer.json()
        assert told["choices"][0]["message"]["content"] == "Yes"
        assert told["choices"][0]["content_filter_results"]["hate"]["severity"] == "safe"
        assert told["prompt_filter_results"][0]["prompt_index"] == 0
        assert answer.headers["apim-request-id"].startswith("req_")

    def test_stream_begins_without_choices(self, emulator: EmulatorProcess) -> None:
        body = {**CHAT, "stream": True}
        events = frames(post(emulator, self.PATH, body, {"api-key": "k"}).content)
        assert events[0].json["choices"] == []
        assert (events[0].json["id"], events[0].json["model"]) == ("", "")
        assert events[1].json["choices"][0]["content_filter_results"] == {}
        assert events[-1].data == "[DONE]"

    @pytest.mark.parametrize(
        ("headers", "status", "said"),
        [
            ({}, 401, "Access token is missing"),
            ({"api-key": "bad-key"}, 401, "invalid subscription key"),
            ({"authorization": "Bearer some-key"}, 401, "Access token is missing"),
        ],
    )
    def test_refusals(
        self, emulator: EmulatorProcess, headers: dict[str, str], status: int, said: str
    ) -> None:
        answer = post(emulator, self.PATH, CHAT, headers)
        assert answer.status_code == status
        assert said in answer.text

    def test_v1_takes_a_key_as_bearer(self, emulator: EmulatorProcess) -> None:
        body = {**CHAT, "model": INSTANT}
        path = "/azure/openai/v1/chat/completions"
        assert post(emulator, path, body, {"authorization": "Bearer some-key"}).status_code == 200
        bad = post(emulator, path, body, {"authorization": "Bearer bad-key"})
        assert bad.json()["error"]["code"] == "401"

    def test_no_version(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, self.PATH.partition("?")[0], CHAT, {"api-key": "k"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "404")

    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [("not_found", 404, "DeploymentNotFound"), ("rate", 429, "429"), ("server", 500, "500")],
    )
    def test_errors(self, emulator: EmulatorProcess, kind: str, status: int, code: str) -> None:
        path = f"/openai/deployments/emu:ttft=0,fault=error:{kind}/chat/completions?api-version=1"
        answer = post(emulator, path, CHAT, {"api-key": "k"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


class TestConverse:
    @staticmethod
    def ask(
        emulator: EmulatorProcess, model: str, *, stream: bool = True, body: Any = TURN
    ) -> httpx2.Response:
        method = "converse-stream" if stream else "converse"
        return post(emulator, f"/model/{INSTANT},{model}/{method}", body, KEY)

    def test_stream(self, emulator: EmulatorProcess) -> None:
        answer = self.ask(emulator, "text=Good+day,tokens=9,reason=2,tools=1,in=7,out=5,cached=3")
        assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
        read = aws_frames(answer.content)
        names = [frame.headers["event-type"] for frame in read]
        assert names[0] == "messageStart"
        assert names[-2:] == ["messageStop", "metadata"]
        deltas = [frame.json for frame in read if frame.headers["event-type"].endswith("Delta")]
        texts = [delta["delta"].get("text", "") for delta in deltas]
        assert "".join(texts) == "Good day"
        pieces = [delta["delta"].get("toolUse", {}).get("input", "") for delta in deltas]
        assert set(json.loads("".join(pieces))) == {"city", "days"}
        assert {delta["contentBlockIndex"] for delta in deltas} == {0, 1, 2}
        starts = [frame.json for frame in read if frame.headers["event-type"].endswith("Start")]
        assert starts[1]["start"]["toolUse"]["name"] == "get_weather"
        assert read[-1].json["usage"] == {
            "inputTokens": 4,
            "outputTokens": 5,
            "totalTokens": 12,
            "cacheReadInputTokens": 3,
            "cacheWriteInputTokens": 0,
        }

    def test_stamp_is_inside_the_frame(self, emulator: EmulatorProcess) -> None:
        answer = self.ask(emulator, "text=Hi,stamp=1")
        (delta,) = [
            frame.json["delta"]["text"]
            for frame in aws_frames(answer.content)
            if frame.headers["event-type"] == "contentBlockDelta"
        ]
        assert delta.startswith("t=0")
        assert delta.endswith(" Hi")

    def test_whole(self, emulator: EmulatorProcess) -> None:
        told = self.ask(emulator, "text=Hi,tokens=1,tools=1", stream=False).json()
        text, call = told["output"]["message"]["content"]
        assert text == {"text": "Hi"}
        assert call["toolUse"]["name"] == "get_weather"
        assert told["stopReason"] == "tool_use"

    @pytest.mark.parametrize(
        ("kind", "status", "name"),
        [
            ("rate", 429, "ThrottlingException"),
            ("quota", 400, "ServiceQuotaExceededException"),
            ("unavailable", 503, "ServiceUnavailableException"),
            ("permission", 403, "AccessDeniedException"),
            ("context", 400, "ValidationException"),
        ],
    )
    def test_errors(self, emulator: EmulatorProcess, kind: str, status: int, name: str) -> None:
        answer = self.ask(emulator, f"fault=error:{kind}")
        assert answer.status_code == status
        assert answer.headers["x-amzn-errortype"].partition(":")[0] == name
        assert answer.json()["message"]

    def test_error_in_the_stream(self, emulator: EmulatorProcess) -> None:
        read = aws_frames(self.ask(emulator, "tokens=5,fault=error-mid@2:rate").content)
        assert read[-1].headers["exception-type"] == "throttlingException"
        read = aws_frames(self.ask(emulator, "tokens=5,fault=error-mid@2:auth").content)
        assert read[-1].headers["error-code"] == "InternalFailure"

    def test_quirks_go_into_frames(self, emulator: EmulatorProcess) -> None:
        def names(model: str) -> list[str]:
            answer = self.ask(emulator, model)
            return [frame.headers["event-type"] for frame in aws_frames(answer.content)]

        assert names("tokens=2,fault=no-done")[-1] == "messageStop"
        assert names("tokens=2,fault=finish-twice").count("messageStop") == 2
        assert names("tokens=2,fault=usage-twice").count("metadata") == 2
        body = self.ask(emulator, "tokens=2,fault=huge-token:90000").content
        assert max(len(frame.payload) for frame in aws_frames(body)) > 90_000

    def test_no_keep_alive_and_no_empty_write(self, emulator: EmulatorProcess) -> None:
        answer = self.ask(emulator, "ttft=40,keepalive=10,text=Hi")
        assert aws_frames(answer.content)[0].headers["event-type"] == "messageStart"

    def test_bad_frame(self, emulator: EmulatorProcess) -> None:
        body = self.ask(emulator, "tokens=5,fault=bad-frame@2").content
        with pytest.raises(BadFrame, match="checksum"):
            aws_frames(body)

    def test_results_of_tools_are_read(self, emulator: EmulatorProcess) -> None:
        use = {"toolUse": {"toolUseId": "t", "name": "w", "input": {}}}
        results = [{"text": "rain"}, {"json": {"at": 7}}]
        turns = [
            *TURN["messages"],
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": results}}]},
        ]
        told = self.ask(emulator, "text=results", stream=False, body={"messages": turns}).json()
        assert told["output"]["message"]["content"] == [{"text": "rain 7"}]

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"messages": []},
            {"messages": [{"role": "system", "content": [{"text": "x"}]}]},
            {"messages": [{"role": "user", "content": "x"}]},
            {"messages": [{"role": "user", "content": [{"text": "x", "image": {}}]}]},
            {"messages": [{"role": "assistant", "content": [{"text": "x"}]}]},
            {**TURN, "model": "m"},
            {**TURN, "system": "x"},
        ],
    )
    def test_what_is_no_request(self, emulator: EmulatorProcess, body: Any) -> None:
        answer = self.ask(emulator, "text=Hi", body=body)
        assert answer.status_code == 400
        assert answer.headers["x-amzn-errortype"].startswith("ValidationException")


class TestBedrockMessages:
    PATH = f"/model/{INSTANT},text=Good+day/invoke"

    def test_stream(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, f"{self.PATH}-with-response-stream", CLAUDE, KEY)
        events = messages_events(answer.content)
        assert [event["type"] for event in events][:2] == ["message_start", "content_block_start"]
        assert events[-1]["type"] == "message_stop"
        assert events[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] > 0
        texts = [event["delta"].get("text", "") for event in events if "delta" in event]
        assert "".join(texts) == "Good day"
        assert answer.headers["x-amzn-bedrock-content-type"] == "application/json"
        first = aws_frames(answer.content)[0]
        assert base64.b64decode(first.json["bytes"]).startswith(b'{"type":"message_start"')

    def test_whole(self, emulator: EmulatorProcess) -> None:
        answer = post(emulator, self.PATH, CLAUDE, KEY)
        assert answer.json()["content"] == [{"type": "text", "text": "Good day"}]
        assert int(answer.headers["x-amzn-bedrock-output-token-count"]) > 0

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"model": "m"}, "extraneous key [model]"),
            ({"stream": True}, "extraneous key [stream]"),
            ({"anthropic_version": None}, "required key [anthropic_version]"),
        ],
    )
    def test_what_the_body_must_not_say(
        self, emulator: EmulatorProcess, change: dict[str, object], said: str
    ) -> None:
        answer = post(emulator, self.PATH, {**CLAUDE, **change}, KEY)
        assert answer.status_code == 400
        assert said in answer.json()["message"]

    def test_error_in_the_stream(self, emulator: EmulatorProcess) -> None:
        path = f"/model/{INSTANT},tokens=5,fault=error-mid@2/invoke-with-response-stream"
        read = aws_frames(post(emulator, path, CLAUDE, KEY).content)
        assert read[-1].headers["exception-type"] == "serviceUnavailableException"


class TestAwsGate:
    @pytest.mark.parametrize(
        ("headers", "status", "name"),
        [
            ({}, 403, "MissingAuthenticationTokenException"),
            ({"authorization": "Bearer bad-key"}, 403, "AccessDeniedException"),
            ({"authorization": "AWS4-HMAC-SHA256 x"}, 403, "IncompleteSignatureException"),
        ],
    )
    def test_refusals(
        self, emulator: EmulatorProcess, headers: dict[str, str], status: int, name: str
    ) -> None:
        answer = post(emulator, f"/model/{INSTANT}/converse", TURN, headers)
        assert answer.status_code == status
        assert answer.headers["x-amzn-errortype"] == name

    @pytest.mark.parametrize("wire", ["openai/v1/chat/completions", "anthropic/v1/messages"])
    def test_mantle(self, emulator: EmulatorProcess, wire: str) -> None:
        body = {"model": INSTANT, "max_tokens": 9, "messages": CHAT["messages"]}
        version = {"anthropic-version": "2023-06-01"}
        path = f"/mantle/{wire}"
        assert post(emulator, path, body, {**KEY, **version}).status_code == 200
        bad = post(emulator, path, body, {"authorization": "Bearer bad-key"})
        assert bad.status_code == 401
        assert "error" in bad.json()
        if wire.startswith("anthropic"):
            assert "anthropic-version" in post(emulator, path, body, KEY).json()["error"]["message"]

    def test_revoked_key(self, emulator: EmulatorProcess) -> None:
        key = {"authorization": "Bearer to-be-revoked"}
        path = f"/model/{INSTANT}/converse"
        assert post(emulator, path, TURN, key).status_code == 200
        post(emulator, "/emulator/cloud/revoke", {"value": "to-be-revoked"})
        assert post(emulator, path, TURN, key).json() == {
            "Message": "Authentication failed: Please make sure your API Key is valid."
        }


class TestVertex:
    CONTENTS: Any = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}  # noqa: RUF012

    def test_gemini(self, emulator: EmulatorProcess, google: dict[str, str]) -> None:
        path = f"{VERTEX}/google/models/{INSTANT},text=Hi:"
        told = post(emulator, path + "generateContent", self.CONTENTS, google).json()
        assert told["usageMetadata"]["trafficType"] == "ON_DEMAND"
        stream = path + "streamGenerateContent?alt=sse"
        events = frames(post(emulator, stream, self.CONTENTS, google).content)
        assert all(event.json["usageMetadata"]["trafficType"] for event in events)
        array = post(emulator, path + "streamGenerateContent", self.CONTENTS, google).json()
        assert isinstance(array, list)
        no_role = {"contents": [{"parts": [{"text": "Hi"}]}]}
        answer = post(emulator, path + "generateContent", no_role, google)
        assert answer.json()["error"]["message"] == "Please use a valid role: user, model."

    @pytest.mark.parametrize(
        ("headers", "reason"),
        [
            ({}, "CREDENTIALS_MISSING"),
            ({"x-goog-api-key": "k"}, "CREDENTIALS_MISSING"),
            ({"authorization": "Bearer made-up"}, "ACCESS_TOKEN_TYPE_UNSUPPORTED"),
        ],
    )
    def test_refusals(
        self, emulator: EmulatorProcess, headers: dict[str, str], reason: str
    ) -> None:
        path = f"{VERTEX}/google/models/{INSTANT}:generateContent"
        answer = post(emulator, path, self.CONTENTS, headers)
        error = answer.json()["error"]
        assert (answer.status_code, error["status"]) == (401, "UNAUTHENTICATED")
        assert error["details"][0]["reason"] == reason
        assert error["details"][0]["metadata"]["method"].endswith(".GenerateContent")

    def test_express(self, emulator: EmulatorProcess) -> None:
        path = f"/v1beta1/publishers/google/models/{INSTANT}:generateContent"
        assert post(emulator, path, self.CONTENTS, {"x-goog-api-key": "k"}).status_code == 200
        assert post(emulator, f"{path}?key=k", self.CONTENTS).status_code == 200
        bad = post(emulator, path, self.CONTENTS, {"x-goog-api-key": "bad-key"})
        assert bad.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        assert post(emulator, path, self.CONTENTS).status_code == 401

    def test_claude(self, emulator: EmulatorProcess, google: dict[str, str]) -> None:
        path = f"{VERTEX}/anthropic/models/{INSTANT},text=Hi:"
        body = {**CLAUDE, "anthropic_version": "vertex-2023-10-16"}
        told = post(emulator, path + "rawPredict", body, google).json()
        assert told["content"] == [{"type": "text", "text": "Hi"}]
        stream = post(emulator, path + "streamRawPredict", {**body, "stream": True}, google)
        assert frames(stream.content)[-1].name == "message_stop"
        named = post(emulator, path + "rawPredict", {**body, "model": "m"}, google)
        assert "Extra inputs" in named.json()["error"]["message"]
        bare = {name: value for name, value in body.items() if name != "anthropic_version"}
        assert post(emulator, path + "rawPredict", bare, google).status_code == 400
        count = f"{VERTEX}/anthropic/models/count-tokens:rawPredict"
        counted = post(emulator, count, {**bare, **body, "model": "emu-instant"}, google)
        assert counted.json()["input_tokens"] > 0

    @pytest.mark.parametrize(
        ("kind", "status", "shape"),
        [("rate", 429, "RESOURCE_EXHAUSTED"), ("overloaded", 529, "overloaded_error")],
    )
    def test_claude_s_errors(
        self,
        emulator: EmulatorProcess,
        google: dict[str, str],
        kind: str,
        status: int,
        shape: str,
    ) -> None:
        path = f"{VERTEX}/anthropic/models/emu:ttft=0,fault=error:{kind}:rawPredict"
        answer = post(emulator, path, CLAUDE, google)
        assert answer.status_code == status
        assert shape in answer.text


def test_recorder_keeps_requests_without_their_credentials(emulator: EmulatorProcess) -> None:
    with plain_client() as client:
        url = emulator.base_url_plain

        def since(number: int) -> list[dict[str, Any]]:
            found = client.get(f"{url}/emulator/requests?since={number}").json()["requests"]
            assert isinstance(found, list)
            return found

        client.post(f"{url}/emulator/recorder", json={"keep": 2})
        try:
            for text in ("one", "two", "three"):
                body = {**TURN, "requestMetadata": {"n": text}}
                post(emulator, f"/model/{INSTANT}:x/converse?a=b", body, KEY)
            kept = since(0)
            assert [each["body"]["requestMetadata"]["n"] for each in kept] == ["two", "three"]
            assert kept[0]["headers"]["authorization"] == "Bearer ..."
            assert kept[0]["path"] == f"/model/{INSTANT}:x/converse"
            assert kept[0]["query"] == "a=b"
            assert since(kept[0]["id"]) == kept[1:]
        finally:
            client.post(f"{url}/emulator/recorder", json={"keep": 0})
        assert since(0) == []
        assert client.post(f"{url}/emulator/recorder", json={"keep": "x"}).status_code == 400
