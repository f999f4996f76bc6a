"""What a provider's error says, made fit to be shown: cut, and without secrets.

Providers quote keys, account names and whole requests in their messages. Everything that looks
like one of the first two is replaced; the rest is cut. Our own key, which may look like nothing, is
known to the attempt alone (`relay.redaction`): it finds a beginning of it at the end of a text, so
whoever cuts a text adds nothing behind the cut. HTML and other text that is not the
provider's own error format is never shown at all (the caller sees to that).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

MAX_MESSAGE_CHARS: Final = 2000
MAX_ID_CHARS: Final = 200

_REQUEST_ID_HEADERS: Final = (
    "x-request-id",  # OpenAI, Groq, Mistral, xAI
    "request-id",  # Anthropic
    "apim-request-id",  # Azure
    "x-amzn-requestid",  # Bedrock
    "x-ds-trace-id",  # DeepSeek
    "mistral-correlation-id",
)
"""Where providers name the request by what their support can find it; the first one counts."""

# Checked against documented key formats: OpenAI and OpenRouter sk-, TokenMix sk-tm-, Anthropic
# sk-ant-, Groq gsk_, xAI xai-, Perplexity pplx-, Cerebras csk-, Hugging Face hf_, Google AIza,
# Bedrock ABSK.
_SECRETS: Final = (
    (re.compile(r"\b(sk|rk)-[\w\-*.…]*[\w*]"), r"\1-***"),
    (re.compile(r"\b(gsk_|xai-|pplx-|csk-|hf_|nvapi-|tgp_|r8_|AIza)[\w\-*]{6,}"), r"\1***"),
    (re.compile(r"(?i)\b(bearer\s+)[\w\-+/=.~*]{8,}"), r"\1***"),
    (re.compile(r"(?i)\b(api[-_ ]?key\s*[:=]\s*)[\"']?[^\s\"',}]+"), r"\1***"),
    (re.compile(r"(?i)([?&](?:key|api[-_]?key|token)=)[^\s&\"']+"), r"\1***"),
    (re.compile(r"\beyJ[\w\-]{8,}\.[\w\-]+(?:\.[\w\-]*)?"), "***"),  # a JSON web token
    (re.compile(r"\b(org|proj|user|acct|ws)([-_])[A-Za-z0-9]{8,}\b"), r"\1\2***"),
    # AWS: access keys, session tokens in a text that should have been signed, accounts and users.
    (re.compile(r"\b(AKIA|ASIA|AROA|AIDA|ABSK)[A-Za-z0-9+/=]{8,}"), r"\1***"),
    (re.compile(r"(?i)\b(x-amz-security-token\s*[:=]\s*)\S+"), r"\1***"),
    (re.compile(r"\b(arn:aws[\w-]*:(?:iam|sts):[\w-]*:)\S+"), r"\1***"),
    (re.compile(r"\b(arn:aws[\w-]*:[\w-]*:[\w-]*:)\d{12}\b"), r"\1***"),
    # Google names its customers' projects: `projects/name`, `project_number:123`.
    (re.compile(r"\b(projects/)[\w\-.:]+"), r"\1***"),
    (re.compile(r"\b(project(?:_number:| ))\d{6,}\b"), r"\1***"),
)


def public_text(text: str) -> str:
    """The text without what looks like a key or an account, at most 2,000 characters."""
    # Cut first with room to spare: patterns must not run over a message of a megabyte.
    text = text[: 2 * MAX_MESSAGE_CHARS].strip()
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text[:MAX_MESSAGE_CHARS]


def provider_request_id(headers: Iterable[tuple[str, str]]) -> str:
    """The provider's name for the request, from the headers of its response; empty if it has none.

    Args:
        headers: lower-case names.
    """
    found = {name: value for name, value in headers if name in _REQUEST_ID_HEADERS}
    for name in _REQUEST_ID_HEADERS:
        if (value := found.get(name, "")) and value.isprintable():
            return public_text(value)[:MAX_ID_CHARS]
    return ""


def looks_like_markup(body: bytes | bytearray) -> bool:
    """Whether a body is HTML or XML, as the edges in front of providers send on errors."""
    return body.lstrip().removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<")
