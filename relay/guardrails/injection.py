"""Signs of prompt injection: a signal, never a barrier.

Phrases in some languages, text that nobody sees, and phrases in base64. Whoever wants past it gets
past it, with other words, languages or encodings. Hackett et al. (Bypassing Prompt Injection and
Jailbreak Detection in LLM Guardrails, 2025) got past six commercial guards with invisible
characters and look-alikes; those two are folded here. So what it finds is told, with a score, and
what an answer may do must not depend on it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from functools import cache
from math import prod
from typing import Final, NamedTuple

from relay.guardrails.normalise import SKELETON, folded
from relay.guardrails.regex_scanner import RegexScanner, Span
from relay.guardrails.scan import Fold

_WORDS: Final = r"(?:\w{1,20}\W{1,3})"
_NOUN: Final = (
    r"(?:instructions?|prompts?|rules?|directions?|directives?|guidelines?|context|messages?)"
)


class _Sign(NamedTuple):
    weight: float
    """How likely such text is meant so, by itself."""
    patterns: tuple[str, ...]
    window_chars: int
    fold: Fold = "skeleton"
    context_chars: int = 1


_SIGNS: Final[dict[str, _Sign]] = {
    "override": _Sign(
        0.6,
        (
            r"(?<!\w)(?:ignor(?:e|ing)|disregard|forget|override|bypass|skip)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:previous|prior|above|earlier|preceding|foregoing|all|any|your|system)"
            rf"\W{{1,3}}{_WORDS}{{0,2}}?{_NOUN}(?!\w)",
            r"(?<!\w)(?:ignorier\w{0,2}|vergiss|vergessen|missachte)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:anweisung(?:en)?|regeln|vorgaben|instruktionen)(?!\w)",
            r"(?<!\w)(?:ignor[ae]d?|olvid[ae]|descarta|omite)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:instrucciones|reglas|indicaciones|ordenes)(?!\w)",
            r"(?<!\w)(?:ignorez?|oubliez?|neglige[zr]?)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:instructions|consignes|regles|directives)(?!\w)",
            r"(?<!\w)(?:ignora(?:te)?|dimentica(?:te)?)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:istruzioni|regole|indicazioni)(?!\w)",
            r"(?<!\w)(?:ignore|esqueca|desconsidere)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:instrucoes|regras|orientacoes)(?!\w)",
            r"(?<!\w)(?:игнорируй(?:те)?|забудь(?:те)?)\W{1,3}"
            rf"{_WORDS}{{0,4}}?(?:инструкци[июя]|указани[яй]|правила)(?!\w)",
            r"(?:忽略|忘记|忘記|无视|無視)[^。\n]{0,12}(?:指令|指示|规则|規則|提示|命令)",
            r"(?:指示|命令|ルール|プロンプト)[^。\n]{0,6}(?:無視|忘れ)",
        ),
        200,
    ),
    "reveal": _Sign(
        0.4,
        (
            r"(?<!\w)(?:reveal|show|print|repeat|output|leak|dump|display|tell me)\W{1,3}"
            rf"{_WORDS}{{0,3}}?(?:system|hidden|initial|original|developer|secret)\W{{1,3}}{_NOUN}(?!\w)",
            r"(?<!\w)(?:zeige?|nenne|verrate|wiederhole)\W{1,3}"
            rf"{_WORDS}{{0,3}}?(?:system\W?prompt|systemanweisung(?:en)?)(?!\w)",
        ),
        130,
    ),
    "role": _Sign(
        0.4,
        (
            r"(?<!\w)you are now (?:dan|in developer mode|jailbroken|unrestricted|unfiltered)"
            r"(?!\w)",
            r"(?<!\w)(?:developer|god|jailbreak|debug) mode (?:enabled|activated|on)(?!\w)",
            r"(?<!\w)do anything now(?!\w)",
            r"(?<!\w)(?:pretend|act|behave|answer|respond)\W{1,3}"
            rf"{_WORDS}{{0,6}}?(?:no|without(?: any)?|free of(?: all)?) "
            r"(?:restrictions?|rules|limits|limitations|filters?|guidelines|censorship)(?!\w)",
        ),
        220,
    ),
    "delimiter": _Sign(
        0.5,
        (
            r"<\|(?:im_start|im_end|system|endoftext|eot_id|start_header_id|assistant|user)\|>",
            r"\[/?inst\]|<</?sys>>|</?(?:system|assistant)(?:_prompt)?>",
            r"#{2,4} {0,2}(?:system|assistant|instruction)s?\W",
        ),
        40,
    ),
    "exfiltrate": _Sign(
        0.5,
        (
            r"!\[[^\]\n]{0,100}\]\(https?://[^)\s]{1,200}[?&][^)\s=]{1,40}=",
            r"(?<!\w)(?:send|post|upload|forward|exfiltrate)\W{1,3}"
            rf"{_WORDS}{{1,6}}?to https?://",
            rf"(?<!\w)do not (?:tell|inform|mention|reveal)\W{{1,3}}{_WORDS}{{0,4}}?user(?!\w)",
        ),
        400,
    ),
    "tags": _Sign(
        0.9,
        ("(?<![\U0001f3f4\U000e0001-\U000e007f])[\U000e0001-\U000e007f]{1,32}",),
        32,
        "raw",
    ),
    "selectors": _Sign(0.7, ("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,32}",), 32, "raw"),
    "bidi": _Sign(0.3, ("[\u202a-\u202e\u2066-\u2069]",), 1, "raw"),
    "zero_width": _Sign(0.3, ("[\u200b-\u200d\u2060-\u2064\ufeff\u00ad]{3,32}",), 32, "raw"),
}

_ENCODED: Final = r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{24,2000}={0,2}"
_ENCODED_WEIGHT: Final = 0.8

INJECTION_KINDS: Final = (*_SIGNS, "encoded")
"""Every kind; its label is `injection.` and the kind."""


def _folded_pattern(pattern: str) -> str:
    """Letters of other scripts as the skeleton of a text has them."""
    return "".join(one if one.isascii() else SKELETON[one] for one in pattern)


def _scanner(kind: str) -> RegexScanner:
    sign = _SIGNS[kind]
    pattern = "|".join(sign.patterns)
    return RegexScanner(
        f"injection.{kind}",
        pattern if sign.fold == "raw" else _folded_pattern(pattern),
        sign.window_chars,
        context_chars=sign.context_chars,
        fold=sign.fold,
    )


@cache
def _phrases() -> tuple[re.Pattern[str], ...]:
    return tuple(
        re.compile(_folded_pattern(pattern))
        for kind in ("override", "reveal", "role", "exfiltrate")
        for pattern in _SIGNS[kind].patterns
    )


def _says_phrase(text: str) -> bool:
    skeleton = folded(text, "skeleton").text
    return any(phrase.search(skeleton) for phrase in _phrases())


def _check_encoded(match: re.Match[str]) -> Span | None:
    raw = match.group().rstrip("=").replace("-", "+").replace("_", "/")
    raw = raw[: len(raw) - (len(raw) % 4 == 1)]
    try:
        text = base64.b64decode(raw + "=" * (-len(raw) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return match.span() if _says_phrase(text) else None


def injection_scanners(kinds: Iterable[str] = INJECTION_KINDS) -> list[RegexScanner]:
    """One scanner a kind.

    Args:
        kinds: of `INJECTION_KINDS`.

    Raises:
        KeyError: there is no such kind.
    """
    return [
        RegexScanner("injection.encoded", _ENCODED, 2002, check=_check_encoded)
        if kind == "encoded"
        else _scanner(kind)
        for kind in kinds
    ]


def injection_score(labels: Iterable[str]) -> float:
    """How much the signs that were found say together, from 0 to 1: each kind counts once, as if
    independent of the others (noisy or).

    Args:
        labels: of findings; others than `injection.*` count nothing.
    """
    kinds = {label.removeprefix("injection.") for label in labels if label.startswith("injection.")}
    return 1 - prod(
        1 - (_ENCODED_WEIGHT if kind == "encoded" else _SIGNS[kind].weight) for kind in kinds
    )
