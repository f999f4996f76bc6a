"""Credentials by their form: keys of known services, tokens, private keys, passwords in addresses,
and what is assigned to a word such as `password`.

Forms are those that the services document, in 2026; detect-secrets 1.5 and gitleaks know most of
them too. Of most forms, no letter or digit may stand in front; those of AWS and Google are found
inside of longer runs too. A token that is
longer than its form allows is taken for as far as the form goes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import log2
from typing import Final, NamedTuple

from relay.guardrails.regex_scanner import Check, RegexScanner, Span

_BODY: Final = "[A-Za-z0-9_-]"
_ALONE: Final = r"(?<![A-Za-z0-9])"
_LONGEST: Final = 1024


class _Form(NamedTuple):
    pattern: str
    window_chars: int
    context_chars: int = 1
    ignore_case: bool = False
    check: Check | None = None
    shape: str = ""


def entropy_bits(text: str) -> float:
    """Of one character, after Shannon, by how often each is in the text."""
    counts = [text.count(one) for one in set(text)]
    return -sum(count / len(text) * log2(count / len(text)) for count in counts)


_PLACEHOLDER: Final = re.compile(
    r"(?i)(.)\1*$|[x*.<>{}$%_-]+$|<.*|\$\{?.*|%.*%$|\{\{?.*|your[_-]?|example|changeme|redacted"
    r"|(?:os\.environ|process\.env|env[./])"
)


def _check_no_placeholder(match: re.Match[str]) -> Span | None:
    return None if _PLACEHOLDER.match(match["held"]) else match.span("held")


def _check_assigned(match: re.Match[str]) -> Span | None:
    """A value that looks made by chance, or mixes kinds of characters as passwords do."""
    value = match["held"]
    if _PLACEHOLDER.match(value):
        return None
    kinds = (
        any(one.isdigit() for one in value)
        + any(one.islower() for one in value)
        + any(one.isupper() for one in value)
        + any(not one.isalnum() for one in value)
    )
    if kinds < 2 or entropy_bits(value) < 2.5:
        return None
    if kinds == 2 and not any(one.isdigit() for one in value):
        return None  # two words with a dash, or one that begins with a capital
    return match.span("held")


_NAMED: Final = (
    r"(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|credentials?"
    r"|(?:api|access|auth|account|client|private|secret|shared|signing|encryption|master|storage)"
    r"[ _-]?(?:key|token|secret)(?:[ _-]?(?:key|id))?"
    r"|passwort|kennwort|contrase[nñ]a|clave|mot de passe|senha)"
)
_ASSIGNED: Final = (
    rf"{_NAMED}[\"'`]?[ \t]{{0,3}}(?::=|=>|[:=]|is|ist|est|es)[ \t]{{0,3}}[\"'`]?"
    r"(?P<held>[^\s\"'`,;<>]{8,128})"
)

_FORMS: Final[dict[str, _Form]] = {
    "aws_access_key": _Form(r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}", 20),
    "aws_secret_key": _Form(
        r"(?:aws|amazon)[\w .\-]{0,24}?(?:secret|key)[\w \-]{0,24}?[\"'`]?[ \t]{0,3}"
        r"(?::=|=>|[:=]|is)[ \t]{0,3}[\"'`]?(?P<held>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
        40,
        80,
        ignore_case=True,
    ),
    "gcp_api_key": _Form(r"AIza[A-Za-z0-9_-]{35}", 39),
    "gcp_oauth": _Form(rf"{_ALONE}(?:ya29\.|GOCSPX-)[A-Za-z0-9_-]{{24,1000}}", _LONGEST),
    "github": _Form(
        rf"{_ALONE}(?:gh[pousr]_[A-Za-z0-9]{{36,255}}|github_pat_[A-Za-z0-9_]{{22,255}})", 11 + 255
    ),
    "gitlab": _Form(
        rf"{_ALONE}gl(?:pat|dt|rt|cbt|ptt|ft|soat|imt|agent)-[A-Za-z0-9_.-]{{20,255}}", 263
    ),
    "slack": _Form(
        rf"{_ALONE}(?:xox[abeoprs]-[A-Za-z0-9-]{{10,250}}|xapp-\d-[A-Za-z0-9-]{{10,250}}"
        r"|hooks\.slack\.com/(?:services|workflows)/[A-Za-z0-9/+_-]{20,200})",
        260,
    ),
    "stripe": _Form(rf"{_ALONE}(?:[rs]k_(?:live|test)|whsec)_[A-Za-z0-9]{{16,250}}", 260),
    "anthropic": _Form(rf"{_ALONE}sk-ant-{_BODY}{{20,{_LONGEST - 7}}}", _LONGEST),
    "openai": _Form(
        rf"{_ALONE}sk-(?!ant-)(?:proj-|svcacct-|admin-|or-v1-)?{_BODY}{{20,{_LONGEST - 11}}}",
        _LONGEST,
        shape=rf"{_ALONE}sk-{_BODY}{{20,{_LONGEST - 3}}}",
    ),
    "xai": _Form(rf"{_ALONE}xai-[A-Za-z0-9]{{40,200}}", 204),
    "groq": _Form(rf"{_ALONE}gsk_[A-Za-z0-9]{{40,200}}", 204),
    "huggingface": _Form(rf"{_ALONE}hf_[A-Za-z0-9]{{30,100}}", 103),
    "replicate": _Form(rf"{_ALONE}r8_[A-Za-z0-9]{{30,100}}", 103),
    "perplexity": _Form(rf"{_ALONE}pplx-[A-Za-z0-9]{{40,100}}", 105),
    "sendgrid": _Form(rf"{_ALONE}SG\.{_BODY}{{16,64}}\.{_BODY}{{16,64}}", 132),
    "twilio": _Form(rf"{_ALONE}(?:AC|SK)[0-9a-f]{{32}}(?![A-Za-z0-9])", 34),
    "npm": _Form(rf"{_ALONE}npm_[A-Za-z0-9]{{36}}", 40),
    "pypi": _Form(rf"{_ALONE}pypi-AgE{_BODY}{{50,1000}}", _LONGEST),
    "discord": _Form(
        rf"{_ALONE}[MNO][DTjz][AEIMQUYcgk]{_BODY}{{21,23}}\.[A-Za-z0-9_-]{{6}}\.[A-Za-z0-9_-]{{27,38}}",
        72,
    ),
    "telegram": _Form(r"(?<!\w)\d{8,10}:AA[A-Za-z0-9_-]{33}", 46),
    "azure_storage": _Form(r"AccountKey=(?P<held>[A-Za-z0-9/+]{86}==)", 88, 12),
    "digitalocean": _Form(rf"{_ALONE}do[opr]_v1_[0-9a-f]{{64}}", 71),
    "shopify": _Form(rf"{_ALONE}shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{{32}}", 38),
    "relay": _Form(rf"{_ALONE}rt[ka]_[A-Za-z0-9]{{1,32}}[._][A-Za-z0-9]{{6,200}}", 237),
    "jwt": _Form(
        r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{4,4000}"
        r"(?:\.[A-Za-z0-9_-]{0,1000})?",
        6005,
    ),
    "bearer": _Form(
        r"(?<!\w)(?:bearer|basic)[ \t]{1,3}(?P<held>[A-Za-z0-9_.~+/=-]{16,1024})",
        1024,
        12,
        ignore_case=True,
        check=lambda match: (
            match.span("held")
            if any(one.isdigit() for one in match["held"]) and entropy_bits(match["held"]) > 3
            else None
        ),
    ),
    "private_key": _Form(
        r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:[^-]|-(?!----)){0,8000}(?:-----END [A-Z0-9 ]{1,60}-----)?",
        8200,
        # Five dashes end the body: what is behind the end is not held back.
        shape=r"-----BEGIN [A-Z0-9 ]{0,60}PRIVATE KEY(?: BLOCK)?-----"
        r"(?:-{0,4}[^-]){0,8000}(?:-----END [A-Z0-9 ]{1,60}-----)?",
    ),
    "url_password": _Form(
        r"://[^\s/:@\"']{0,64}:(?P<held>[^\s/@\"']{1,128})(?=@)",
        128,
        3 + 64 + 1,
        check=_check_no_placeholder,
    ),
    "assigned": _Form(_ASSIGNED, 128, 64, ignore_case=True, check=_check_assigned),
}

SECRET_KINDS: Final = tuple(_FORMS)
"""Every kind; its label is `secret.` and the kind."""


def secret_scanners(kinds: Sequence[str] | None = None) -> list[RegexScanner]:
    """One scanner a kind.

    Args:
        kinds: of `SECRET_KINDS`; None: all.

    Raises:
        KeyError: there is no such kind.
    """
    return [_scanner(kind) for kind in (SECRET_KINDS if kinds is None else kinds)]


def _scanner(kind: str) -> RegexScanner:
    form = _FORMS[kind]
    return RegexScanner(
        f"secret.{kind}",
        form.pattern,
        form.window_chars,
        context_chars=form.context_chars,
        check=form.check,
        shape=form.shape,
        ignore_case=form.ignore_case,
    )
