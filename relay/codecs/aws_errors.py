"""Errors of Bedrock: as a response, and as a frame inside one that began as a success.

A response names its error in the header `x-amzn-errortype` (`Name[:url]`) or in the body's `__type`
(`namespace#Name`), its body is `{"message"}` or `{"Message"}`. In a stream the name is that of the
frame, `throttlingException`, in another case. So a name means one thing wherever it stands; phrases
of messages come before it, since Bedrock has few names and says much by `ValidationException`.

Of signatures that do not match AWS answers with the text that it would have signed, whose lines
hold the session's token: the message is cut before it.

Names and statuses: botocore 1.44, service model of `bedrock-runtime` (2023-09-30). Those of
credentials (`ExpiredTokenException`, ...) and the phrases: AWS's pages on errors of signatures and
of Bedrock, as of 2026; not recorded here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from relay.codecs import error_body, lenient_json
from relay.codecs.error_text import MAX_ID_CHARS, public_text
from relay.codecs.retry_hints import WORTH_WAITING, retry_after_s
from relay.errors import Reason, UpstreamStatus

Headers = Iterable[tuple[str, str]]

_HEADER: Final = "x-amzn-errortype"

# By the name in lower case, without `exception` or `error` at its end.
_BY_NAME: Final[Mapping[str, Reason]] = {
    name: reason
    for reason, names in {
        Reason.UPSTREAM_RATE_LIMITED: (
            "throttling throttled toomanyrequests modelnotready requestlimitexceeded slowdown"
        ),
        Reason.UPSTREAM_QUOTA_EXHAUSTED: "servicequotaexceeded",
        Reason.UPSTREAM_OVERLOADED: "serviceunavailable",
        Reason.FIRST_TOKEN_TIMEOUT: "modeltimeout requesttimeout",
        Reason.UPSTREAM_FAILED: (
            "model modelstream internalserver internalfailure internal conflict"
        ),
        Reason.UPSTREAM_REJECTED: "validation serialization malformedrequest",
        Reason.UPSTREAM_PERMISSION_DENIED: "accessdenied unauthorizedoperation",
        Reason.UPSTREAM_MODEL_NOT_FOUND: "resourcenotfound",
        Reason.UPSTREAM_MISCONFIGURED: (
            "invalidsignature signaturedoesnotmatch incompletesignature unrecognizedclient "
            "invalidclienttokenid expiredtoken missingauthenticationtoken invalidtoken "
            "requesttimetooskewed requestexpired authfailure notauthorized optinrequired "
            "unknownoperation"
        ),
    }.items()
    for name in names.split()
}

# What the names do not say, with those that it comes under (empty: any).
_BY_PHRASE: Final[tuple[tuple[re.Pattern[str], frozenset[str], Reason], ...]] = (
    (
        re.compile(r"(?i)tokens per day|daily (token )?(quota|limit)"),
        frozenset({"throttling", "servicequotaexceeded"}),
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
    ),
    (
        # The name of the model, or a model that wants an inference profile in this place.
        re.compile(
            r"(?i)model (identifier|id) is invalid|on-demand throughput isn.t supported"
            r"|model version has reached the end of its life"
        ),
        frozenset({"validation", "resourcenotfound", "accessdenied"}),
        Reason.UPSTREAM_MODEL_NOT_FOUND,
    ),
    (
        re.compile(r"(?i)(api key|bearer token|security token|signature|authentication failed)"),
        frozenset({"accessdenied", ""}),
        Reason.UPSTREAM_MISCONFIGURED,
    ),
    (
        re.compile(r"(?i)blocked by (our )?content filter"),
        frozenset({"validation"}),
        Reason.UPSTREAM_CONTENT_BLOCKED,
    ),
)

_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: Reason.UPSTREAM_MISCONFIGURED,
    403: Reason.UPSTREAM_PERMISSION_DENIED,
    404: Reason.UPSTREAM_MODEL_NOT_FOUND,
    408: Reason.FIRST_TOKEN_TIMEOUT,
    424: Reason.UPSTREAM_FAILED,
    429: Reason.UPSTREAM_RATE_LIMITED,
    503: Reason.UPSTREAM_OVERLOADED,
    504: Reason.FIRST_TOKEN_TIMEOUT,
}


_KIND_AT_END: Final = re.compile(r"(exception|error|fault)$")
_SIGNED_TEXT: Final = re.compile(r"(?is)\s*the canonical string for this request should.*")
_MAX_READ_CHARS: Final = 4000


def read_error(status: int, headers: Headers, body: bytes) -> UpstreamStatus | None:
    """The error of a response whose status says so, None for one that is none of AWS's."""
    headers = list(headers)
    document = error_body.parse(body)
    name = dict(headers).get(_HEADER, "").partition(":")[0]
    if not name and type(document) is dict:
        name = _text(document.get("__type")).rpartition("#")[2]
    if not name:
        return None
    return _to_error(name, document, http_status=status, headers=headers)


def read_frame(name: str, data: bytes) -> UpstreamStatus:
    """The error of a frame that reports one.

    Args:
        name: without its mark; may be empty.
    """
    try:
        document = lenient_json.loads(data)
    except ValueError:
        document = None
    return _to_error(name, document, http_status=200, headers=())


def _to_error(
    name: str, document: object, *, http_status: int, headers: list[tuple[str, str]] | tuple[()]
) -> UpstreamStatus:
    fields: Mapping[str, Any] = document if type(document) is dict else {}
    message = _text(fields.get("message")) or _text(fields.get("Message"))
    original = _text(fields.get("originalMessage"))
    if original and original not in message:
        message = f"{message}: {original}" if message else original
    message = _SIGNED_TEXT.sub("", message[:_MAX_READ_CHARS])
    reason = _classify(name, message, http_status)
    return UpstreamStatus(
        public_text(message) or f"the provider answered with {public_text(name) or 'an error'}",
        reason=reason,
        http_status=http_status,
        provider_type=public_text(name)[:MAX_ID_CHARS],
        retry_after_s=retry_after_s(headers, message) if reason in WORTH_WAITING else None,
    )


def _classify(name: str, message: str, status: int) -> Reason:
    kind = _KIND_AT_END.sub("", name.lower())
    for pattern, kinds, reason in _BY_PHRASE:
        if kind in kinds and pattern.search(message):
            return reason
    if kind in _BY_NAME:
        return _BY_NAME[kind]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Reason.UPSTREAM_REJECTED if 400 <= status < 500 else Reason.UPSTREAM_FAILED


def _text(value: object) -> str:
    return value if type(value) is str else ""
