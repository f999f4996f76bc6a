"""The routes of the shim and of the admin listener: what they answer, and how a bug is told."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import orjson
import pytest
import structlog

from relay.errors import MAX_SHOWN_CHARS
from relay.frontends.admin_app import AdminApp, Readiness
from relay.frontends.asgi import ABORT, HeadIsOut, Receive, Scope, Send
from relay.frontends.http_app import HttpApp
from relay.frontends.http_generation import HttpSettings
from relay.governance.gate import Identity, OpenGate
from relay.governance.key_view import KeyView
from relay.governance.limits import KeyLimits
from relay.governance.scopes import Scopes
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario
from tests.fakes.virtual_time import run

SETTINGS = HttpSettings(
    max_request_bytes=10_000, commit_headers_after_s=2.0, comment_interval_s=1.0
)


class Told:
    """One answer as the connection takes it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.is_aborted = False

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == ABORT:
            self.is_aborted = True
        elif message["type"] == "http.response.start":
            if self.status:
                raise HeadIsOut
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            self.body += message["body"]

    @property
    def value(self) -> Any:
        return orjson.loads(self.body)


async def nothing() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b""}


class OneKey(OpenGate):
    """Everybody has this key."""

    needs_keys = True

    def __init__(self, scopes: Scopes) -> None:
        super().__init__()
        self._view = KeyView("key_1", "team_1", "org_1", scopes, (), KeyLimits(), ())

    def identify(self, bearer: str, names: Any = (), peer: str = "") -> Identity:
        return Identity("team_1", "key_1")

    def view(self, key_id: str) -> KeyView:  # type: ignore[override]
        return self._view


ZONED = {
    "a": {"data_zone": "us", "models": ["m"], "passthrough": {}},
    "lab": {"data_zone": "eu", "models": ["b", "org/c"], "passthrough": {}},
}


def ask(
    path: str,
    method: str = "GET",
    *,
    handler: Any = None,
    rows_more: Any = None,
    scopes: Scopes | None = None,
    headers: Any = (),
) -> Told:
    """One request to the shim of a relay with the alias `fast` and the providers `a` and `lab/b`.

    Args:
        handler: instead of the one that answers this path.
        scopes: of the key of whoever asks; without any there are no keys.
    """
    told = Told()

    async def main() -> None:
        rows = {"a": FakeEndpoint(), "lab": FakeEndpoint()}
        scenario = Scenario(rows, rows_more=rows_more or {"lab": {"models": ["b", "org/c"]}})
        if scopes is not None:
            scenario.services.gate = OneKey(scopes)
        app = HttpApp(scenario.services, SETTINGS)
        if handler is not None:
            app._routes[path] = {method: handler}
        scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
        await app(scope, nothing, told.send)

    run(main())
    return told


def test_a_model_s_row_says_who_answers() -> None:
    row = ask("/v1/models/fast").value["x_relay"]
    assert (row["tags"], row["embeddings"], row["context_window"]) == ([], True, None)
    assert [target["provider"] for target in row["targets"]] == ["a", "lab"]
    assert {target["wire"] for target in row["targets"]} == {"openai_chat"}
    assert [target["fallback"] for target in row["targets"]] == [False, False]
    assert all("usd_per_million_tokens" in target for target in row["targets"])


def test_models_are_listed() -> None:
    told = ask("/v1/models")
    assert [(row["id"], row["owned_by"]) for row in told.value["data"]] == [
        ("fast", "rtrelay"),
        ("lab/b", "lab"),
        ("lab/org/c", "lab"),
    ]


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("fast", "rtrelay"),
        ("lab/b", "lab"),
        ("lab/org/c", "lab"),
        ("b", "lab"),  # a bare name that one provider lists
        ("org/c", "lab"),
        ("a/anything", "a"),  # not listed, but a request for it would be sent
    ],
)
def test_model_is_found_by_every_name_that_a_request_may_have(name: str, owner: str) -> None:
    told = ask(f"/v1/models/{name}")
    assert told.status == 200
    row = told.value
    assert (row["id"], row["object"], row["owned_by"]) == (name, "model", owner)
    assert told.headers["x-relay-request-id"]


@pytest.mark.parametrize(
    ("name", "nearest"), [("fats", "fast"), ("lab/", ""), ("nobody/b", ""), ("../models", "")]
)
def test_unknown_model_names_the_nearest(name: str, nearest: str) -> None:
    told = ask(f"/v1/models/{name}")
    assert told.status == 404
    error = told.value["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert nearest in error["message"]


def test_path_of_no_model_is_no_path() -> None:
    assert ask("/v1/models/").status == 404
    assert ask("/v1/modelsx").value["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/fast", "/healthz", "/readyz"])
def test_head_is_what_get_would_be(path: str) -> None:
    got, head = ask(path), ask(path, "HEAD")
    assert head.status == got.status == 200
    length = "content-length"
    assert head.headers[length] == got.headers[length] == str(len(got.body))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/v1/chat/completions", "POST"),
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models/fast", "GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ],
)
def test_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    told = ask(path, method)
    assert (told.status, told.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("path", "method"), [("/" + "x" * 5000, "GET"), ("/v1/models/" + "x" * 5000, "GET")]
)
def test_what_a_caller_sent_is_cut_where_it_is_quoted(path: str, method: str) -> None:
    told = ask(path, method)
    assert told.status == 404
    assert len(told.value["error"]["message"]) < MAX_SHOWN_CHARS + 100


async def _broken(scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
    raise ZeroDivisionError("a bug, with a secret in it")


async def _half_broken(scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    raise ZeroDivisionError("a bug")


def test_bug_before_the_head_is_answered_with_an_error_object_and_logged() -> None:
    with structlog.testing.capture_logs() as lines:
        told = ask("/v1/models", handler=_broken)
    assert told.status == 500
    error = told.value["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal")
    assert error["x_relay"]["request_id"] == told.headers["x-relay-request-id"]
    assert "secret" not in error["message"]
    (line,) = lines
    assert (line["event"], line["request_id"]) == ("http_bug", told.headers["x-relay-request-id"])


def test_bug_after_the_head_breaks_the_connection() -> None:
    with structlog.testing.capture_logs() as lines:
        told = ask("/v1/models", handler=_half_broken)
    assert (told.status, told.body, told.is_aborted) == (200, b"half", True)
    assert [line["event"] for line in lines] == ["http_bug"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/healthz", 200),
        ("HEAD", "/healthz", 200),
        ("HEAD", "/admin/state", 200),
        ("GET", "/readyz", 503),
        ("POST", "/healthz", 405),
        ("GET", "/nothing", 404),
    ],
)
def test_admin_listener(method: str, path: str, status: int) -> None:
    told = Told()

    async def main() -> None:
        async def state() -> dict[str, Any]:
            return {"generations": 0}

        app = AdminApp(lambda: Readiness(False, {"status": "draining"}), state)
        scope = {"type": "http", "method": method, "path": path, "headers": []}
        await app(scope, nothing, told.send)

    run(main())
    assert told.status == status
    assert told.headers.get("allow", "GET, HEAD") == "GET, HEAD"


# --- zones of a key ---------------------------------------------------------------------------

EU = Scopes(zones=("eu",), passthrough=True)


def test_models_are_listed_as_far_as_they_are_in_the_zones_of_the_key() -> None:
    told = ask("/v1/models", rows_more=ZONED, scopes=EU)
    assert [row["id"] for row in told.value["data"]] == ["fast", "lab/b", "lab/org/c"]
    [fast, *_] = told.value["data"]
    shown = [(row["provider"], row["data_zone"]) for row in fast["x_relay"]["targets"]]
    assert shown == [("lab", "eu")]
    theirs = [(b"anthropic-version", b"2023-06-01")]
    told = ask("/v1/models", rows_more=ZONED, scopes=EU, headers=theirs)
    assert [row["id"] for row in told.value["data"]] == ["fast", "lab/b", "lab/org/c"]
    assert ask("/v1/models", rows_more=ZONED, scopes=Scopes(zones=("ch",))).value["data"] == []


def test_a_model_in_other_zones_is_refused_as_a_request_would_be() -> None:
    told = ask("/v1/models/a/m", rows_more=ZONED, scopes=EU)
    assert told.status == 403
    assert "in the data zones of this key (eu)" in told.value["error"]["message"]
    assert ask("/v1/models/fast", rows_more=ZONED, scopes=EU).status == 200


def test_nothing_is_handed_through_to_a_row_in_other_zones() -> None:
    told = ask("/pass/a/files", rows_more=ZONED, scopes=EU)
    assert told.status == 403
    message = "this key is for data in eu, and a is in us"
    assert told.value["error"]["message"] == message
    dark: dict[str, Any] = {"lab": {"passthrough": {}}}
    told = ask("/pass/lab/files", rows_more=dark, scopes=EU)
    assert (told.status, "unknown zone" in told.value["error"]["message"]) == (403, True)
    assert ask("/pass/lab/files", rows_more=ZONED, scopes=EU).status not in (403, 404)
