"""The RSGI application: from a request's path to a performance, and the control endpoints.

Providers' paths:

    POST [/DIALECT]/v1/chat/completions       OpenAI chat; DIALECT of `wires.dialects`, e.g. /groq
    POST /v1/messages                         Anthropic
    POST /v1beta/models/M:generateContent     Gemini (also under /v1; and the Vertex path)
    POST /v1beta/models/M:streamGenerateContent?alt=sse
    POST /v1/responses                        OpenAI Responses
    POST /api/chat                            Ollama's own
    POST [/DIALECT]/v1/embeddings             vectors; more in `vectors`
    GET  [/DIALECT]/v1/models, /v1beta/models
    clouds' doors and token endpoints         see `cloud_doors`, `token_endpoints`

Control:

    GET  /emulator/report                     counts, times, CPU of this process
    GET  /emulator/streams?since=ID           one record per stream
    GET  /emulator/faults                     the table of faults
    POST /emulator/script                     {"model", "behaviour"} for good, or with
                                              {"match": "next", "count": k} for the next k requests,
                                              or with {"match": "prompt", "prompt": TEXT} for those
                                              whose last message of the user contains the text
    POST /emulator/reset                      forget records, scripts and draw counters
    POST /emulator/recorder                   {"keep": k}: keep the newest k requests whole
    GET  /emulator/requests?since=ID          those
    /emulator/cloud/...                       keys and token endpoints, see `cloud`

The key `bad-key` is refused in each provider's own way; any other passes. Access tokens and AWS
keys have to be ones that were handed out here.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import time
from collections.abc import Callable, Mapping
from urllib.parse import parse_qs, unquote

import orjson

from relay.emulator.answer import Asked, Wanted, make_answer
from relay.emulator.cloud import Cloud
from relay.emulator.cloud_doors import Door, find_door
from relay.emulator.cloud_gate import BAD_KEY, Visitor
from relay.emulator.distributions import Fixed
from relay.emulator.exchange import Exchange, RsgiProtocol, RsgiScope
from relay.emulator.faults import FAULTS, Change, Fault, Instead, Quirk
from relay.emulator.performance import play_stream, play_whole
from relay.emulator.recorder import Recorder
from relay.emulator.replay import ReplayError, load_recording, play_recording
from relay.emulator.report import PROMPT_CHARS, Report
from relay.emulator.scene import Scene, start
from relay.emulator.script import Behaviour, Script, ScriptError
from relay.emulator.socket_cut import open_connections
from relay.emulator.ticker import Ticker
from relay.emulator.token_endpoints import PREFIX as CLOUD_PREFIX
from relay.emulator.token_endpoints import question
from relay.emulator.token_script import TokenScriptError
from relay.emulator.vectors import Vectors, is_vectors_path
from relay.emulator.wires.anthropic import AnthropicMessages
from relay.emulator.wires.azure import AzureChat, AzureResponses
from relay.emulator.wires.base import FAILURES, BadRequest, Failure, Wire, error_head
from relay.emulator.wires.bedrock_converse import BedrockConverse
from relay.emulator.wires.bedrock_messages import BedrockMessages
from relay.emulator.wires.dialects import DIALECTS
from relay.emulator.wires.gemini import Gemini
from relay.emulator.wires.ollama import OllamaChat
from relay.emulator.wires.openai_chat import OpenAIChat
from relay.emulator.wires.responses import OpenAIResponses
from relay.emulator.wires.vertex import VertexClaude, VertexCount, VertexGemini

_JSON = [("content-type", "application/json")]
_OF_CLOUDS = ("/", "/token")
"""Token endpoints at paths of no provider."""


class EmulatorApp:
    """One emulator: its script, its report and its wires."""

    def __init__(self, script: Script, ticker: Ticker, ports: set[int]) -> None:
        self.script = script
        self.report = Report()
        self._ticker = ticker
        self._ports = ports
        self._chats: dict[str, Wire] = {
            name: OpenAIChat(dialect) for name, dialect in DIALECTS.items()
        }
        self._anthropic: Wire = AnthropicMessages()
        self._responses: Wire = OpenAIResponses()
        self._ollama: Wire = OllamaChat()
        self._gemini: Wire = Gemini()
        self._gemini_array: Wire = Gemini(sse=False)
        self.cloud = Cloud()
        self._recorder = Recorder()
        self._cloud_wires: dict[str, Wire] = {
            "anthropic": self._anthropic,
            "azure_chat": AzureChat(),
            "azure_responses": AzureResponses(),
            "bedrock_converse": BedrockConverse(),
            "bedrock_messages": BedrockMessages(),
            "openai_chat": self._chats["openai"],
            "openai_responses": self._responses,
            "vertex_claude": VertexClaude(),
            "vertex_count": VertexCount(),
            "vertex_gemini": VertexGemini(),
            "vertex_gemini_array": VertexGemini(sse=False),
        }

    async def __rsgi__(self, scope: RsgiScope, protocol: RsgiProtocol) -> None:
        """Answer one request; returns when its response is over or the client has gone."""
        path = unquote(scope.path)
        if scope.method == "HEAD":
            protocol.response_empty(200 if path.endswith("/models") else 404, _JSON)
            return
        is_aside = path.startswith("/emulator/") or path in _OF_CLOUDS
        if is_aside or scope.method in ("GET", "PUT"):
            body = await protocol() if scope.method == "POST" else b""
            await self._aside(scope, protocol, path, body)
            return
        if path.endswith("/oauth2/v2.0/token"):
            await self._aside(scope, protocol, path, await protocol())
            return
        record = self.report.open(path, scope.client, scope.http_version)
        try:
            body = await protocol()
        except RuntimeError:
            record.end("abandoned")  # the client left before it had sent its request
            return
        exchange = Exchange(scope, protocol, body, record)
        self._answer(exchange, path)
        await exchange.run()

    async def _aside(
        self, scope: RsgiScope, protocol: RsgiProtocol, path: str, body: bytes
    ) -> None:
        """What is no generation: token endpoints, and orders of tests."""
        headers = _headers(scope)
        base_url = f"{scope.scheme}://{headers['host']}"
        asked = question(scope.method, path, scope.query_string, headers, body, base_url)
        if asked is not None:
            self._recorder.note(scope.method, path, scope.query_string, headers, body)
            reply = await self.cloud.answer(asked)
            more = [*reply.headers, *self.cloud.date_headers()]
            protocol.response_bytes(reply.status, more, reply.body)
            return
        if path.startswith(CLOUD_PREFIX):
            status, answer = await self._cloud_control(scope, path, body)
        else:
            status, answer = self._control(scope, path, body)
        protocol.response_bytes(status, _JSON, orjson.dumps(answer))

    # --- providers --------------------------------------------------------------------------

    def _answer(self, exchange: Exchange, path: str) -> None:
        scope = exchange.scope
        if self._recorder.is_on:
            self._recorder.note(
                scope.method, path, scope.query_string, _headers(scope), exchange.body
            )
        door = find_door(path)
        if door is None:
            wire = self._wire(path, scope.query_string)
        else:
            exchange.more_headers = self.cloud.date_headers()
            wire = self._cloud_wire(door, path, scope.query_string)
        if wire is None:
            exchange.respond(404, _JSON, b'{"error":{"message":"no such path"}}')
            return
        record = exchange.record
        headers = scope.headers
        record.request_id = headers.get("x-client-request-id") or headers.get("x-request-id") or ""
        if door is not None:
            visitor = Visitor(
                scope.method, path, scope.query_string, _headers(scope), exchange.body
            )
            denial = self.cloud.refuse(door, visitor)
            if denial is not None:
                exchange.respond(denial.status, list(denial.headers), denial.body)
                return
        elif _key(scope) == BAD_KEY:
            self._fail(exchange, wire, FAILURES["auth"])
            return
        try:
            asked = _ask(wire, path, exchange)
            record.model = asked.model
            record.prompt_start = asked.prompt[:PROMPT_CHARS]
            behaviour = self.script.behaviour_for(asked.model, asked.prompt)
        except (BadRequest, ScriptError) as error:
            self._fail(exchange, wire, Failure(400, "bad_request", str(error)))
            return
        if behaviour.dialect and isinstance(wire, OpenAIChat):
            wire = self._chats.get(behaviour.dialect, wire)
        self._perform(exchange, wire, asked, behaviour)

    def _perform(self, exchange: Exchange, wire: Wire, asked: Asked, behaviour: Behaviour) -> None:
        rng, index = self.script.next_draw(asked.model, behaviour)
        ttft_ms = behaviour.ttft.draw_ms(rng, index)
        head_ms = None if behaviour.head is None else behaviour.head.draw_ms(rng, index)
        call = behaviour.fault
        if call is not None and behaviour.p < 1.0 and rng.random() >= behaviour.p:
            call = None
        exchange.record.fault = call.name if call is not None else ""
        answer = make_answer(asked, _wanted(behaviour), rng, exchange.record.id)
        fault = None if call is None else call.fault
        if call is not None and isinstance(fault, Quirk):
            answer.quirks = frozenset({call.name})
        scene = Scene(
            exchange=exchange,
            wire=wire,
            answer=answer,
            is_stream=asked.stream,
            first_token_s=exchange.started_s + ttft_ms / 1e3,
            next_gap_s=_gaps(behaviour, rng),
            head_s=None if head_ms is None else exchange.started_s + head_ms / 1e3,
            keepalive_s=behaviour.keepalive / 1e3,
            resettable=bool(getattr(fault, "resets", False)),
        )
        if behaviour.replay:
            try:
                recording = load_recording(behaviour.replay)
            except ReplayError as error:
                self._fail(exchange, wire, Failure(400, "bad_request", str(error)))
                return
            play = play_recording(scene, recording, behaviour.split, behaviour.cut)
        elif call is not None and isinstance(fault, Instead):
            play = fault.play(scene, call)
        elif asked.stream:
            events = wire.events(answer)
            if call is not None and isinstance(fault, Change):
                events = fault.change(events, call)
            play = play_stream(scene, events, call)
        else:
            play = play_whole(scene, call)
        start(play, exchange, self._ticker)

    def _wire(self, path: str, query: str) -> Wire | None:
        if is_vectors_path(path):
            is_gemini = path.endswith(":batchEmbedContents")
            is_ollama = path.endswith("/api/embed")
            like = self._gemini if is_gemini else self._ollama if is_ollama else None
            return Vectors(like or self._chats["openai"])
        if path.endswith("/chat/completions"):
            return self._chats.get(path.split("/", 2)[1], self._chats["openai"])
        if path.endswith("/messages"):
            return self._anthropic
        if path.endswith("/responses"):
            return self._responses
        if path.endswith("/api/chat"):
            return self._ollama
        if path.endswith(":generateContent") or "alt=sse" in query:
            return self._gemini
        return self._gemini_array if path.endswith(":streamGenerateContent") else None

    def _cloud_wire(self, door: Door, path: str, query: str) -> Wire:
        if is_vectors_path(path):
            return Vectors(self._cloud_wires[door.wire])
        name = door.wire
        if name == "vertex_gemini" and path.endswith(":streamGenerateContent"):
            name = name if "alt=sse" in query else "vertex_gemini_array"
        if name == "vertex_claude" and path.endswith("/count-tokens:rawPredict"):
            name = "vertex_count"
        return self._cloud_wires[name]

    def _fail(self, exchange: Exchange, wire: Wire, failure: Failure) -> None:
        status = wire.error_status(failure)
        exchange.respond(status, error_head(wire, failure), wire.error_body(failure))

    # --- control ----------------------------------------------------------------------------

    def _control(self, scope: RsgiScope, path: str, body: bytes) -> tuple[int, object]:
        if path.endswith("/models"):
            return 200, _model_list(self.script.models(), gemini="/v1beta" in path)
        match scope.method, path:
            case "GET", "/emulator/report":
                return 200, self._report()
            case "GET", "/emulator/streams":
                since = parse_qs(scope.query_string).get("since", ["0"])[0]
                return 200, {"streams": self.report.streams(int(since) if since.isdigit() else 0)}
            case "GET", "/emulator/requests":
                since = parse_qs(scope.query_string).get("since", ["0"])[0]
                number = int(since) if since.isdigit() else 0
                return 200, {"requests": self._recorder.since(number)}
            case "GET", "/emulator/faults":
                return 200, {name: _described(fault) for name, fault in FAULTS.items()}
            case "POST", "/emulator/reset":
                self.report.reset()
                self.script.reset()
                self.cloud.reset()
                return 200, {"reset": True}
            case "POST", "/emulator/recorder":
                try:
                    count = _object(body).get("keep")
                except BadRequest as error:
                    return 400, {"error": str(error)}
                if not isinstance(count, int) or isinstance(count, bool):
                    return 400, {"error": "keep must be a whole number"}
                self._recorder.keep(count)
                return 200, {"keep": count}
            case "POST", "/emulator/script":
                try:
                    return 200, self._set_script(body)
                except (ScriptError, BadRequest) as error:
                    return 400, {"error": str(error)}
            case _:
                return 404, {"error": "no such path"}

    async def _cloud_control(self, scope: RsgiScope, path: str, body: bytes) -> tuple[int, object]:
        try:
            order = _object(body) if body else {}
            base_url = f"{scope.scheme}://{_headers(scope)['host']}"
            return await self.cloud.control(scope.method, path, order, base_url)
        except (BadRequest, TokenScriptError) as error:
            return 400, {"error": str(error)}

    def _set_script(self, body: bytes) -> object:
        order = _object(body)
        if not isinstance(model := order.get("model", "*"), str):
            raise BadRequest("an object with a model was expected")
        source = order.get("behaviour", order.get("behavior", ""))
        if not isinstance(source, str | dict):
            raise BadRequest("behaviour must be text or an object")
        behaviour = self.script.parse(source)
        if order.get("match") == "next":
            count = order.get("count", 1)
            if not isinstance(count, int) or count < 1:
                raise BadRequest("count must be a whole number above 0")
            self.script.push_next(model, behaviour, count)
        elif order.get("match") == "prompt":
            part = order.get("prompt")
            if not isinstance(part, str) or not part:
                raise BadRequest("prompt must be a text that is not empty")
            self.script.set_prompt(model, part, behaviour)
        else:
            self.script.set_model(model, behaviour)
        return {"model": model, "match": order.get("match", "model")}

    def _report(self) -> dict[str, object]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "monotonic_ns": time.monotonic_ns(),
            "streams": self.report.summary(),
            "connections_open": open_connections(self._ports),
            "process": {
                "pid": os.getpid(),
                "cpu_s": used.ru_utime + used.ru_stime,
                "max_rss_kib": used.ru_maxrss,
            },
        }


def _object(body: bytes) -> dict[str, object]:
    """An order of a test.

    Raises:
        BadRequest: it is no JSON, or no object.
    """
    try:
        order = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"not JSON: {error}") from None
    if not isinstance(order, dict):
        raise BadRequest("an object was expected")
    return order


def _headers(scope: RsgiScope) -> dict[str, str]:
    """Lower-case names; values of one name joined; `host` from HTTP/2's authority too."""
    found = {"host": scope.authority or ""}
    for name, value in scope.headers.items():
        key = name.lower()
        given = found.get(key, "") if key != "host" else ""
        found[key] = f"{given},{value}" if given else value
    return found


def _ask(wire: Wire, path: str, exchange: Exchange) -> Asked:
    try:
        body = orjson.loads(exchange.body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"We could not parse the JSON body of your request. ({error})") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    query = exchange.scope.query_string
    return wire.ask(f"{path}?{query}" if query else path, body, len(exchange.body))


def _wanted(behaviour: Behaviour) -> Wanted:
    return Wanted(
        tokens=behaviour.tokens,
        text=behaviour.text,
        reason=behaviour.reason,
        tools=behaviour.tools,
        finish=behaviour.finish,
        refusal=behaviour.refusal,
        stamp=behaviour.stamp,
        usage_in=behaviour.usage_in,
        usage_out=behaviour.usage_out,
        usage_cached=behaviour.usage_cached,
        wrong=behaviour.wrong,
        wrong_hard=behaviour.wrong_hard,
        nll=behaviour.nll,
        wrong_nll=behaviour.wrong_nll,
    )


def _gaps(behaviour: Behaviour, rng: random.Random) -> Callable[[], float]:
    itl = behaviour.itl
    if isinstance(itl, Fixed):
        gap_s = itl.value_ms / 1e3
        return lambda: gap_s
    draws = itertools.count()
    return lambda: itl.draw_ms(rng, next(draws)) / 1e3


def _key(scope: RsgiScope) -> str:
    headers = scope.headers
    bearer = headers.get("authorization") or ""
    given = bearer.removeprefix("Bearer ") or next(
        (key for name in ("x-api-key", "x-goog-api-key", "api-key") if (key := headers.get(name))),
        "",
    )
    return given or parse_qs(scope.query_string).get("key", [""])[0]


def _model_list(names: list[str], *, gemini: bool) -> Mapping[str, object]:
    if gemini:
        methods = ["generateContent", "streamGenerateContent"]
        return {
            "models": [
                {"name": f"models/{name}", "supportedGenerationMethods": methods} for name in names
            ]
        }
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1_700_000_000, "owned_by": "emulator"}
            for name in names
        ],
    }


def _described(fault: Fault) -> Mapping[str, str]:
    return {"kind": type(fault).__name__.lower(), "row": fault.row, "doc": fault.doc}
