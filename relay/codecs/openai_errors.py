"""Errors of OpenAI-compatible hosts: every body shape to one `UpstreamStatus`.

Strategy: first read the facts (message, type, code, param, status) out of whichever shape came,
then class them by tables, most telling first: words that mean one thing whatever the status
(`insufficient_quota` comes as 429, 403 or inside a 200), then phrases of messages, then the
status, then vaguer words for errors that have no status. Adding a provider's word is adding a
row.

The shapes, from `wire/openai-compatible.md`: `{"error": {...}}`; `{"error": "text", "code"}`
(xAI, Ollama); flat `{"object": "error", "message", "type", "code"}` (Mistral, older vLLM);
`{"detail": ...}` (FastAPI hosts); `{"code", "message", "request_id"}` (DashScope); a list
around any of them (Google's compatible endpoint); the same as an event stream. What stands in front
of Bedrock's endpoints answers in AWS's own way (`aws_errors`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from relay.codecs import aws_errors, error_body, lenient_json
from relay.codecs.error_text import MAX_MESSAGE_CHARS, looks_like_markup, public_text
from relay.codecs.retry_hints import WORTH_WAITING, retry_after_s
from relay.errors import Reason, UpstreamError, UpstreamStatus

Headers = Iterable[tuple[str, str]]

# Type or code, in lower case without punctuation, that means one thing at any status.
_BY_WORD: Final[Mapping[str, Reason]] = {
    word: reason
    for reason, words in {
        Reason.UPSTREAM_QUOTA_EXHAUSTED: (
            "insufficientquota creditbalanceexhausted insufficientbalance insufficientcredits "
            "arrearage billingerror billinghardlimitreached billingnotactive "
            "exceededcurrentquotaerror enforcedspendlimitreached"
        ),
        Reason.UPSTREAM_MISCONFIGURED: (
            "invalidapikey apikeyinvalid authenticationerror invalidauthentication "
            "accountdeactivated expiredapikey missingapikey"
        ),
        Reason.UPSTREAM_MODEL_NOT_FOUND: (
            "modelnotfound invalidmodel deploymentnotfound modeldecommissioned "
            "modelnotavailable modelnotexist"
        ),
        Reason.UPSTREAM_CONTENT_BLOCKED: (
            "contentfilter datainspectionfailed responsibleaipolicyviolation "
            "contentpolicyviolation contentmoderation imagecontentpolicyviolation "
            # Responses: "your prompt was flagged as potentially violating our usage policy".
            "invalidprompt"
        ),
        Reason.UPSTREAM_PERMISSION_DENIED: (
            "unsupportedcountryregionterritory permissiondenied requestforbidden "
            "permissionerror modelaccessdenied"
        ),
        Reason.UPSTREAM_REJECTED: (
            "contextlengthexceeded exceedcontextsizeerror toomanyprompttokens "
            "stringabovemaxlength unsupportedparameter unsupportedvalue"
        ),
        # Groq: the model called a tool wrongly, so another try or another model can succeed.
        Reason.UPSTREAM_FAILED: "toolusefailed",
    }.items()
    for word in words.split()
}

# Phrases of messages, for hosts whose codes say nothing; with the statuses they may come with.
_BY_PHRASE: Final[tuple[tuple[re.Pattern[str], frozenset[int], Reason], ...]] = (
    (
        # OpenAI and Groq: one request above the whole limit. No wait can help.
        re.compile(r"(?i)^request too large"),
        frozenset({0, 413, 429}),
        Reason.UPSTREAM_REJECTED,
    ),
    (
        # xAI answers a wrong key with 400.
        re.compile(r"(?i)(incorrect|invalid) api key|api key (is )?(not valid|invalid|expired)"),
        frozenset({0, 400, 403}),
        Reason.UPSTREAM_MISCONFIGURED,
    ),
    (
        re.compile(r"(?i)insufficient (balance|credits?|funds|quota)|credit balance is too low"),
        frozenset({0, 400, 403, 429}),
        Reason.UPSTREAM_QUOTA_EXHAUSTED,
    ),
    (
        # OpenRouter, before it sends the request on.
        re.compile(r"(?i)requires moderation|input was flagged|content management policy"),
        frozenset({0, 400, 403}),
        Reason.UPSTREAM_CONTENT_BLOCKED,
    ),
    (
        re.compile(r"(?i)^(the )?model\b.{0,120}\b(not found|does not exist)"),
        frozenset({0, 400}),
        Reason.UPSTREAM_MODEL_NOT_FOUND,
    ),
)

_BY_STATUS: Final[Mapping[int, Reason]] = {
    401: Reason.UPSTREAM_MISCONFIGURED,
    402: Reason.UPSTREAM_QUOTA_EXHAUSTED,
    403: Reason.UPSTREAM_PERMISSION_DENIED,
    404: Reason.UPSTREAM_MODEL_NOT_FOUND,
    405: Reason.UPSTREAM_MISCONFIGURED,  # a wrong base_url, most likely
    407: Reason.UPSTREAM_MISCONFIGURED,
    408: Reason.FIRST_TOKEN_TIMEOUT,
    409: Reason.UPSTREAM_FAILED,
    410: Reason.UPSTREAM_MODEL_NOT_FOUND,
    424: Reason.UPSTREAM_FAILED,  # Groq: a remote tool server
    425: Reason.UPSTREAM_FAILED,
    429: Reason.UPSTREAM_RATE_LIMITED,
    498: Reason.UPSTREAM_RATE_LIMITED,  # Groq: no capacity left in the flex tier
    499: Reason.UPSTREAM_FAILED,
    503: Reason.UPSTREAM_OVERLOADED,
    504: Reason.FIRST_TOKEN_TIMEOUT,
    529: Reason.UPSTREAM_OVERLOADED,  # Anthropic behind a gateway
}

# Words that only say something when there is no status: DeepSeek's code is
# `invalid_request_error` for a wrong key and an empty account alike.
_BY_VAGUE_WORD: Final[tuple[tuple[str, Reason], ...]] = (
    ("overload", Reason.UPSTREAM_OVERLOADED),
    ("unavailable", Reason.UPSTREAM_OVERLOADED),
    ("capacity", Reason.UPSTREAM_OVERLOADED),
    ("ratelimit", Reason.UPSTREAM_RATE_LIMITED),
    ("throttling", Reason.UPSTREAM_RATE_LIMITED),
    ("toomanyrequests", Reason.UPSTREAM_RATE_LIMITED),
    ("slowdown", Reason.UPSTREAM_RATE_LIMITED),
    ("limitrequests", Reason.UPSTREAM_RATE_LIMITED),
    ("limitburst", Reason.UPSTREAM_RATE_LIMITED),
    ("timeout", Reason.FIRST_TOKEN_TIMEOUT),
    ("unauthorized", Reason.UPSTREAM_MISCONFIGURED),
    ("badrequest", Reason.UPSTREAM_REJECTED),
    ("image", Reason.UPSTREAM_REJECTED),  # Responses: image_too_large, image_file_not_found, ...
    ("invalid", Reason.UPSTREAM_REJECTED),
    ("notfound", Reason.UPSTREAM_MODEL_NOT_FOUND),
)


MAX_DEPTH: Final = 8
"""How far down a message is looked for: validation errors are three levels deep."""

MAX_WORD_CHARS: Final = 200
"""Of a type, a code or a parameter's name."""

_MAX_READ_CHARS: Final = 2 * MAX_MESSAGE_CHARS
"""Of a message: the patterns must not run over a megabyte."""

_PUNCTUATION: Final = re.compile(r"[^a-z0-9]")


class ErrorFacts(NamedTuple):
    """What an error body says, each empty or 0 where it says nothing."""

    message: str
    type: str
    code: str
    param: str
    status: int
    """The status the body itself names, as gateways do inside a 200."""


def decode_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The error of a response whose status says so (300 and above), its body whole."""
    if 300 <= status < 400:
        return UpstreamStatus(
            f"the provider answered with a redirect ({status}), which is not followed",
            reason=Reason.UPSTREAM_REDIRECT,
            http_status=status,
        )
    if (of_aws := aws_errors.read_error(status, headers, body)) is not None:
        return of_aws
    document = error_body.parse(body)
    facts = read_facts(document) or ErrorFacts("", "", "", "", 0)
    return _to_error(facts, http_status=status, headers=headers)


def decode_inner_error(document: object, *, http_status: int = 200) -> UpstreamError:
    """The error reported inside a response that began as a success.

    Args:
        document: the whole object that holds the error.
    """
    facts = read_facts(document) or ErrorFacts("", "", "", "", 0)
    return _to_error(facts, http_status=http_status, headers=())


def read_facts(document: object) -> ErrorFacts | None:
    """The facts of an error body, None when it is none of the known shapes."""
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, dict):
        return _facts_of(error, outer=document)
    if isinstance(error, str) and error:
        return _facts_of({**document, "message": error}, outer=document)
    choices = document.get("choices")
    if isinstance(choices, list):
        for choice in choices:
            if isinstance(choice, dict) and (inner := choice.get("error")):
                return read_facts({"error": inner})
    if "message" in document or "detail" in document or "code" in document:
        return _facts_of(document, outer=document)
    return None


def _facts_of(error: Mapping[str, Any], outer: Mapping[str, Any]) -> ErrorFacts:
    message = _text_of(error.get("message")) or _text_of(error.get("detail"))
    metadata = error.get("metadata")
    if isinstance(metadata, dict) and (cause := _text_of_raw(metadata.get("raw"))):
        message = f"{message}: {cause}" if message else cause
    code = error.get("code")
    status = 0
    for value in (
        error.get("status_code"),
        error.get("status"),
        error.get("raw_status_code"),
        outer.get("raw_status_code"),
        code,
        outer.get("status"),
    ):
        if status := _status_of(value):
            break
    return ErrorFacts(
        message=message[:_MAX_READ_CHARS],
        type=_word_of(error.get("type")),
        code=_word_of(code) or _word_of(_innermost_code(error)),
        param=_word_of(error.get("param")),
        status=status,
    )


def classify(facts: ErrorFacts, status: int) -> Reason:
    """The class of an error; `status` is 0 when nothing says one."""
    words = [_PUNCTUATION.sub("", word.lower()) for word in (facts.code, facts.type) if word]
    for pattern, statuses, reason in _BY_PHRASE:
        if status in statuses and pattern.search(facts.message):
            return reason
    for word in words:
        if word in _BY_WORD:
            return _BY_WORD[word]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 400 <= status < 500:
        return Reason.UPSTREAM_REJECTED
    if status == 0:
        for word in words:
            for vague, reason in _BY_VAGUE_WORD:
                if vague in word:
                    return reason
    return Reason.UPSTREAM_FAILED


def _to_error(facts: ErrorFacts, *, http_status: int, headers: Headers) -> UpstreamStatus:
    status = http_status if http_status >= 400 else facts.status
    reason = classify(facts, status)
    hint = retry_after_s(headers, facts.message) if reason in WORTH_WAITING else None
    message = public_text(facts.message)
    if not message:
        said = f"status {http_status}" if http_status >= 400 else "an error inside its answer"
        message = f"the provider answered with {said}"
    return UpstreamStatus(
        message,
        reason=reason,
        http_status=http_status,
        provider_type=facts.type,
        provider_code=facts.code,
        provider_param=facts.param,
        retry_after_s=hint,
    )


def _text_of(value: object, depth: int = 0) -> str:
    """A message, which is a text or, for validation errors, a list of complaints."""
    if isinstance(value, str):
        return value
    if depth == MAX_DEPTH:
        return ""
    if isinstance(value, dict):
        if "msg" in value:
            where, said = value.get("loc"), value["msg"]
            if not isinstance(said, str):
                said = lenient_json.dumps(said).decode()
            steps = where if isinstance(where, list) else []
            path = ".".join(str(step) for step in steps if isinstance(step, str | int))
            return f"{path}: {said}" if path else said
        found = _text_of(value.get("detail"), depth + 1)
        return found or _text_of(value.get("message"), depth + 1)
    if isinstance(value, list):
        return "; ".join(filter(None, (_text_of(item, depth + 1) for item in value[:8])))
    return ""


def _text_of_raw(raw: object) -> str:
    """What OpenRouter's upstream said: its body as a text, JSON or not."""
    if (
        not isinstance(raw, str)
        or not raw
        or looks_like_markup(raw[:64].encode("utf-8", "replace"))
    ):
        return ""
    if not raw.lstrip().startswith(("{", "[")):
        return raw
    facts = read_facts(error_body.parse(raw.encode("utf-8", "replace")))
    return facts.message if facts else ""


def _innermost_code(error: Mapping[str, Any]) -> object:
    inner = error.get("innererror")
    return inner.get("code") if isinstance(inner, dict) else None


def _word_of(value: object) -> str:
    if isinstance(value, str):
        return public_text(value[: 2 * MAX_WORD_CHARS])[:MAX_WORD_CHARS]
    if type(value) is int:
        return str(value)
    return ""


def _status_of(value: object) -> int:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else 0
