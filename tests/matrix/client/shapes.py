"""Requests that are too large, or are none (rows C5 to C7)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

import relay.frontends.asgi
import relay.frontends.chat_body
import relay.frontends.grpc_service
import relay.server
from relay.frontends.proto_in import parse
from relay.governance.admission import Admission
from relay.routing.catalog import Catalog
from tests.fakes.askers import Reply
from tests.fakes.converse_client import field_of, reason_of, start, status_of
from tests.fakes.h2_server import stream_chunks
from tests.fakes.relay_under_test import chat_body
from tests.matrix.client.raw import Frames, framed, grpc_headers, request_bytes
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, World, whole_answer, world

MAX_BYTES = 65_536
SMALL: dict[str, Any] = {
    "server": {"grpc": {"max_request_bytes": MAX_BYTES}, "http": {"max_request_bytes": MAX_BYTES}}
}
CANARY = "value-of-the-caller-4711"


@dataclass
class Refusal:
    """How a bad request was refused, over any door."""

    reason: str
    code: int
    field: str
    text: str


async def refused_by_http(here: World, data: bytes, path: str = CHAT) -> Refusal:
    response = await here.relay.http.post(path, content=data)
    error = orjson.loads(response.content)["error"]
    here.everything.append(response.text)
    reason = error["x_relay"]["reason"]
    return Refusal(reason, response.status_code, error.get("param") or "", response.text)


async def refused_by_grpc(here: World, data: bytes) -> Refusal:
    result = await here.relay.generate(data)
    status = status_of(result.error)
    return Refusal(reason_of(status), status.code, field_of(status), str(status))


async def still_serves(here: World) -> None:
    """Another's request right after; nothing but it was asked or booked."""
    here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
    reply: Reply = await here.ask(here.face(), "alone")
    assert reply.text == "fine"
    assert len(here.lab.requests(CHAT)) == 1
    (booked,) = await here.booked(1)
    assert (booked.state, booked.cost_micro) == ("settled", 200)


# --- C5 ---------------------------------------------------------------------------------------


async def grpc_message_too_large(stage: Stage) -> None:
    size = stage.draw.randint(MAX_BYTES + 1, 4 * MAX_BYTES)
    async with world(stage, SMALL) as here:
        refusal = await refused_by_grpc(here, b"\x0a" * size)
        assert (refusal.reason, refusal.code) == ("REQUEST_TOO_LARGE", 8)
        await still_serves(here)


async def http_body_too_large(stage: Stage) -> None:
    size = stage.draw.randint(MAX_BYTES + 1, 4 * MAX_BYTES)
    is_announced = stage.draw.random() < 0.5
    async with world(stage, SMALL) as here:

        async def pieces() -> Any:
            for _ in range(size // 1024 + 1):
                yield b"x" * 1024

        content = b"x" * size if is_announced else pieces()
        response = await here.relay.http.post(CHAT, content=content)
        assert response.status_code == 413
        assert response.json()["error"]["x_relay"]["reason"] == "REQUEST_TOO_LARGE"
        await still_serves(here)


async def bombs_and_lies(stage: Stage) -> None:
    """A message of gigabytes when it is unpacked; a length that is a lie."""
    bomb = gzip.compress(bytes(64 * MAX_BYTES))
    lie = stage.draw.choice((MAX_BYTES * 5, 2**31 - 1, 2**32 - 1))
    async with world(stage, SMALL) as here:
        async with Frames(here.relay.worker.grpc_port) as client:
            head = grpc_headers(here, ("grpc-encoding", "gzip"))
            rpc = await client.over(client.call(head, framed(bomb, compressed=True)))
            assert rpc.code == 8, rpc
            # Refused by its announcement: nothing of it is waited for.
            rpc = await client.over(client.call(grpc_headers(here), framed(b"short", length=lie)))
            assert rpc.code == 8, rpc
            # What ends before its length is no request.
            rpc = await client.over(client.call(grpc_headers(here), framed(b"short", length=1000)))
            assert rpc.code == 3, rpc
        await still_serves(here)


def messages_have_any_size(patch: pytest.MonkeyPatch) -> None:
    """The limit of one message."""
    patch.setattr(
        relay.frontends.grpc_service, "parse", lambda kind, data, _: parse(kind, data, 1 << 40)
    )


def the_core_takes_any_size(patch: pytest.MonkeyPatch) -> None:
    """`grpc.max_receive_message_length`."""
    patch.setattr(relay.server, "hard_limit_bytes", lambda _: -1)


def bodies_have_any_size(patch: pytest.MonkeyPatch) -> None:
    """The limit of one body."""
    read = relay.frontends.asgi.read_body
    for module in ("relay.frontends.http_generation", "relay.frontends.passthrough"):
        patch.setattr(
            f"{module}.read_body", lambda scope, receive, _: read(scope, receive, 1 << 40)
        )


# --- C6 ---------------------------------------------------------------------------------------


def _nested(depth: int) -> bytes:
    """A message in a message in a message, of a field that every parser skips or follows."""
    data = b""
    for _ in range(depth):
        size = len(data)
        length = b""
        while size > 0x7F:
            length += bytes([size & 0x7F | 0x80])
            size >>= 7
        data = b"\x0a" + length + bytes([size]) + data
    return data


PROTOS: dict[str, Callable[[], bytes]] = {
    "noise": lambda: b"\xff" * 40 + CANARY.encode(),
    "wrong_type": lambda: b"\x08\x01" + b"\x0d\x01",
    "cut": lambda: b"\x0a\xff\x01" + CANARY.encode(),
    "nested": lambda: _nested(10_000),
    "invalid_utf8": lambda: b"\x0a\x05\x0a\x03\xff\xfe\xfd",
}


async def malformed_protobuf(stage: Stage) -> None:
    async with world(stage) as here:
        for name, make in PROTOS.items():
            refusal = await refused_by_grpc(here, make())
            assert (refusal.reason, refusal.code) == ("INVALID_REQUEST", 3), (name, refusal)
            assert refusal.field, name
            assert CANARY not in refusal.text, name
        # What the contract does not know is dropped, and the rest is served.
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        unknown = b"\xfa\x3f" + bytes([len(CANARY)]) + CANARY.encode()
        assert (await here.relay.generate(request_bytes() + unknown)).text == "fine"
        (stream,) = here.lab.requests(CHAT)
        assert CANARY.encode() not in stream.body
        (booked,) = await here.booked(1)
        assert booked.state == "settled"


def _body(more: str) -> bytes:
    return (
        f'{{"model": "alone", "messages": [{{"role": "user", "content": "Hi"}}], {more}}}'
    ).encode()


JSONS: dict[str, tuple[Callable[[], bytes], str]] = {
    "nan": (lambda: _body('"temperature": NaN'), ""),
    "infinity": (lambda: _body('"temperature": -Infinity'), ""),
    "endless_integer": (lambda: _body('"seed": 1' + "0" * 100_000), ""),
    "lone_surrogate": (lambda: _body(r'"user": "\ud800"'), ""),
    "deep": (lambda: _body('"x": ' + "[" * 10_000 + "]" * 10_000), ""),
    "wrong_type": (lambda: _body(f'"temperature": "{CANARY}"'), "temperature"),
    "wrong_place": (lambda: _body(f'"tools": {{"a": "{CANARY}"}}'), "tools"),
    "no_message": (lambda: b'{"model": "alone", "messages": [["%b"]]}' % CANARY.encode(), "mess"),
}


async def malformed_json(stage: Stage) -> None:
    async with world(stage) as here:
        for name, (make, field) in JSONS.items():
            refusal = await refused_by_http(here, make())
            assert refusal.code == 400, (name, refusal)
            assert refusal.field.startswith(field), (name, refusal)
            assert field == "" or refusal.field, (name, refusal)
            assert CANARY not in refusal.text, (name, refusal)
        await still_serves(here)


async def keys_that_stand_twice(stage: Stage) -> None:
    names = stage.draw.sample(["nobody", "alone"], 2)
    async with world(stage) as here:
        here.lab.routes[CHAT] = stream_chunks(whole_answer("fine"))
        twice = ", ".join(f'"model": "{name}"' for name in names)
        body = f'{{{twice}, "messages": [{{"role": "user", "content": "Hi"}}]}}'
        response = await here.relay.http.post(CHAT, content=body.encode())
        # One value counts, for us and for the provider, who sees one.
        assert response.status_code == (200 if names[-1] == "alone" else 404)
        for stream in here.lab.requests(CHAT):
            assert stream.body.count(b'"model"') == 1
        await here.booked(int(names[-1] == "alone"))


def protobuf_is_parsed_unasked(patch: pytest.MonkeyPatch) -> None:
    """That bytes which are no message are answered in words."""
    patch.setattr(
        relay.frontends.grpc_service, "parse", lambda kind, data, _: kind.FromString(data)
    )


def json_is_taken_loosely(patch: pytest.MonkeyPatch) -> None:
    """The strict parser, and the limit of depth."""
    loose = SimpleNamespace(loads=json.loads, JSONDecodeError=json.JSONDecodeError)
    patch.setattr(relay.frontends.chat_body, "orjson", loose)
    patch.setattr(relay.frontends.chat_body, "check_depth", lambda *_, **__: None)


def bodies_are_sent_as_they_came(patch: pytest.MonkeyPatch) -> None:
    """That the last of two values counts."""

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    loose = SimpleNamespace(
        loads=lambda data: json.loads(data, object_pairs_hook=first),
        JSONDecodeError=json.JSONDecodeError,
    )
    patch.setattr(relay.frontends.chat_body, "orjson", loose)


# --- C7 ---------------------------------------------------------------------------------------

ABSURD: tuple[tuple[dict[str, Any], str], ...] = (
    ({"n": 10**6}, "n"),
    ({"n": 0}, "n"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_tokens": 10**12}, "max_tokens"),
    ({"max_completion_tokens": 10**12}, "max_completion_tokens"),
    ({"messages": [{"role": "user", "content": "x"}] * 10_001}, "messages"),
    ({"stop": ["x"] * 100}, "stop"),
)


async def absurd_numbers(stage: Stage) -> None:
    async with world(stage) as here:
        for more, field in ABSURD:
            body = chat_body("alone", **{"stream": stage.draw.random() < 0.5, **more})
            if stage.draw.random() < 0.5:
                refusal = await refused_by_http(here, orjson.dumps(body))
                assert (refusal.code, refusal.field) == (400, field), refusal
            else:
                asked = start("g", "", openai_chat_body=orjson.dumps(body))
                result = await here.relay.generate(asked)
                status = status_of(result.error)
                assert (status.code, reason_of(status)) == (3, "INVALID_REQUEST"), (field, status)
                assert field_of(status).endswith(field)
        await still_serves(here)


async def unknown_models(stage: Stage) -> None:
    name = stage.draw.choice(("alnoe", "nobody/at-all", "../m", "x" * 500))
    async with world(stage) as here:
        reply = await here.ask(here.face(), name)
        assert (reply.reason, reply.code) in (("UNKNOWN_MODEL", "404"), ("UNKNOWN_MODEL", "5"))
        await still_serves(here)


async def models_without_a_price(stage: Stage) -> None:
    async with world(stage) as here:
        reply = await here.ask(here.face(), "lab/never-priced")
        assert reply.reason == "INVALID_REQUEST", reply
        assert "no price" in reply.message
        assert not here.lab.requests(CHAT)
        await still_serves(here)


def numbers_have_no_range(patch: pytest.MonkeyPatch) -> None:
    """The ranges of numbers and the limits of lists."""
    patch.setattr(relay.frontends.chat_body, "integer", lambda value, key, *_: value.get(key))
    patch.setattr(relay.frontends.chat_body, "check_count", lambda *_: None)


def unpriced_costs_nothing(patch: pytest.MonkeyPatch) -> None:
    """That what has no price is refused where a budget applies."""
    patch.setattr(Admission, "_amounts", lambda *_: [1])


def every_name_is_a_model(patch: pytest.MonkeyPatch) -> None:
    """That a model must be one of ours."""
    resolve = Catalog.resolve
    patch.setattr(Catalog, "resolve", lambda catalog, _: resolve(catalog, "alone"))


ROWS = (
    Row(
        "C5",
        inject="a message or body over the limit; a gzip bomb as a message; lengths that lie",
        client="RESOURCE_EXHAUSTED before it is there, HTTP 413; the connection may live on",
        accounting="none",
        retry="never",
        parts=(
            Part("grpc", grpc_message_too_large, messages_have_any_size),
            Part("http", http_body_too_large, bodies_have_any_size),
            Part("bombs_and_lies", bombs_and_lies, the_core_takes_any_size),
        ),
        also=("tests/integration/test_message_size.py",),
    ),
    Row(
        "C6",
        inject="malformed protobuf, 10,000 levels, wrong types, unknown fields; JSON with NaN,"
        " endless numbers, lone surrogates, 10,000 levels, keys that stand twice",
        client="INVALID_ARGUMENT with the path of the field and never its value, HTTP 400; unknown"
        " fields of the contract are dropped",
        accounting="none",
        retry="never; others are served on",
        parts=(
            Part("protobuf", malformed_protobuf, protobuf_is_parsed_unasked),
            Part("json", malformed_json, json_is_taken_loosely),
            Part("twice", keys_that_stand_twice, bodies_are_sent_as_they_came),
        ),
        also=("tests/integration/test_bad_input.py", "tests/frontends/test_proto_in.py"),
    ),
    Row(
        "C7",
        inject="`n` of a million, `max_tokens` of -1 and 10^12, 10,001 messages; an unknown model,"
        " one without a price",
        client="INVALID_ARGUMENT with the field; NOT_FOUND; without a price INVALID_ARGUMENT where"
        " a budget applies",
        accounting="none",
        retry="never",
        parts=(
            Part("numbers", absurd_numbers, numbers_have_no_range),
            Part("unknown_model", unknown_models, every_name_is_a_model),
            Part("unpriced", models_without_a_price, unpriced_costs_nothing),
        ),
    ),
)
