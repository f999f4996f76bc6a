"""What may pass by the pass-through, in either direction: paths, headers, subprotocols, queries."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus

from relay.credentials.refusals import refuses_who_asks
from relay.errors import InvalidRequest
from relay.frontends.asgi import RawHeaders, Scope
from relay.redaction import forms_of, without
from relay.routing.endpoint import Endpoint
from relay.transport.base import Headers

PREFIX: Final = "/pass/"
AREAS: Final = frozenset(
    {
        "assistants",
        "audio",
        "batches",
        "containers",
        "conversations",
        "evals",
        "files",
        "fine_tuning",
        "images",
        "moderations",
        "realtime",
        "threads",
        "uploads",
        "vector_stores",
        "videos",
    }
)
"""First words of OpenAI's paths that this relay has no meaning for."""
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_SERVED: Final = re.compile(
    r".*(/chat/completions|/completions?|/responses|/responses/compact|/embeddings|/messages"
    r"|/count_tokens|/complete|:generateContent|:streamGenerateContent|:batchEmbedContents"
    r"|:embedContent|:countTokens|:[a-z]*predict|/count-tokens|/converse(-stream)?"
    r"|/invoke(-with-[a-z-]*stream)?|/invocations|/infill|/api/chat|/api/generate|/api/embed"
    r"|/api/embeddings)/*",
    re.IGNORECASE,
)
"""What the relay serves, and other ways to a model's answers: rules and budgets hold for those."""
_ODD: Final = re.compile(r"[\x00-\x1f\x7f;?#%]")
"""Decoded: what some server takes for the end of a path or of a segment, or decodes once more."""
_REQUEST_HEADERS: Final = frozenset(
    {
        b"accept",
        b"content-type",
        b"idempotency-key",
        b"if-match",
        b"if-none-match",
        b"openai-beta",
        b"anthropic-beta",
        b"anthropic-version",
        b"range",
        b"x-goog-upload-command",
        b"x-goog-upload-header-content-length",
        b"x-goog-upload-header-content-type",
        b"x-goog-upload-offset",
        b"x-goog-upload-protocol",
    }
)
_RESPONSE_HEADERS: Final = frozenset(
    {
        "accept-ranges",
        "content-disposition",
        "content-language",
        "content-range",
        "content-type",
        "etag",
        "last-modified",
        "openai-processing-ms",
        "openai-version",
        "retry-after",
        "x-request-id",
        "request-id",
    }
)
_CREDENTIALS_OF_QUERIES: Final = frozenset(
    {"access_token", "api-key", "api_key", "authorization", "key"}
)
"""Where Gemini's and Azure's clients may put theirs."""
_SUBPROTOCOLS: Final = re.compile(r"realtime|openai-beta\.[!-~]*")
"""Of those that clients offer, what is no credential and no account of theirs."""


def is_handed_through(path: str) -> bool:
    """Whether a path is one that some row could allow to be handed through."""
    return path.startswith(PREFIX) or path.removeprefix("/v1/").partition("/")[0] in AREAS


def checked(rest: str) -> str:
    """
    Raises:
        InvalidRequest: what a server may read as another path, or what the relay serves itself.
    """
    segments = rest.split("/")
    if not rest or "\\" in rest or any(part in ("", ".", "..") for part in segments[:-1]):
        raise InvalidRequest("the path must be plain segments behind the provider's name")
    if segments[-1] in (".", "..") or _ODD.search(rest):
        raise InvalidRequest("the path must be plain segments behind the provider's name")
    if _SERVED.fullmatch(f"/{rest.strip()}"):  # some servers leave spaces at the end out
        raise InvalidRequest(f"{segments[-1]} is not handed through: ask for models under /v1")
    return rest


def path_of(scope: Scope, endpoint: Endpoint, rest: str) -> str:
    """As the client has encoded it, behind the row's base path, with its query, without keys there.

    Args:
        rest: what was `checked`, decoded. Just as many segments of the encoded path go out, so what
            is sent is what was looked at, however the part before it was spelt.

    Raises:
        InvalidRequest: it is not one to be sent on.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    text = raw.decode("latin-1").partition("?")[0]
    if "%2f" in text.lower() or "%5c" in text.lower() or "%2e" in text.lower():
        raise InvalidRequest("the path may not hold encoded slashes or dots")
    text = "/".join(text.split("/")[-(rest.count("/") + 1) :])
    query: bytes = scope.get("query_string", b"")
    kept = [part for part in query.decode("latin-1").split("&") if not _is_credential(part)]
    tail = f"?{'&'.join(kept)}" if kept != [""] and kept else ""
    return f"{endpoint.base_path}/{text}{tail}"


def _is_credential(parameter: str) -> bool:
    return unquote_plus(parameter.partition("=")[0]).lower() in _CREDENTIALS_OF_QUERIES


def request_headers(headers: RawHeaders) -> Headers:
    """Those of the client that go to the provider."""
    return [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in headers
        if name in _REQUEST_HEADERS
    ]


def is_worth_another_try(
    endpoint: Endpoint, status: int, headers: Headers, sent: Headers, now_s: float
) -> bool:
    """Tell the row's credential of an answer's head.

    Bodies are not read here, so that of refusals those alone count that the head says to be of who
    asks.

    Args:
        sent: what the credential gave for the request.
        now_s: monotonic.

    Returns:
        Whether the request was refused for a credential that is another one by now.
    """
    if status >= 400 and not refuses_who_asks(status, headers):
        return False
    return endpoint.credential.answered(status, headers, sent, time.time(), now_s)


def answer_headers(
    headers: Headers, endpoint: Endpoint, request_id: str, sent: Headers
) -> RawHeaders:
    """Those of the provider that go to the client, and ours; none that frame a body. Where one
    quotes our credentials they are masked.

    Args:
        sent: what the credential gave for the request.
    """
    secrets = forms_of([*endpoint.secrets(), *sent])
    found = [
        (name.encode("latin-1"), without(value, secrets).encode("latin-1"))
        for name, value in headers
        if name in _RESPONSE_HEADERS
    ]
    found.append((b"x-relay-request-id", request_id.encode()))
    found.append((b"x-relay-provider", endpoint.provider.encode("ascii", "replace")))
    return found


def subprotocols_of(offered: Iterable[str]) -> list[str]:
    """Those of the client's that the provider is offered."""
    return [name for name in offered if _SUBPROTOCOLS.fullmatch(name)]
