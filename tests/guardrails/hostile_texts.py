"""Texts that are made to cost: long runs in which something may always have begun, or just not."""

from __future__ import annotations

from typing import Final

HOSTILE: Final[dict[str, str]] = {
    "letters": "a",
    "letters_then_at": "aaaaaaaaaaaaaaaa@",
    "ats": "@",
    "mail_chain": "a@b.",
    "labels": "a@" + "b" * 60 + ".",
    "digits": "4",
    "digit_groups": "4 ",
    "zeros": "030 ",
    "plus": "+4912345 ",
    "luhn": "4111 1111 1111 1112 ",
    "iban": "DE00 0000 ",
    "colons": "fe:",
    "dots": "1.",
    "key_starts": "sk-",
    "aws": "aws key ",
    "akia": "AKIA",
    "jwt_starts": "eyJ.eyJaaaaaaaaaaaa",
    "jwt_run": "eyJaaaaaaaaaaaaaaaa",
    "pem": "-----BEGIN PRIVATE KEY-----\n",
    "dashes": "-",
    "passwords": "password:",
    "password_words": 'password = "aaaaaaaaaaaaaaa" ',
    "urls": "://a:",
    "born": "born on ",
    "ignore": "ignore all ",
    "ignore_words": "ignore all a b c d previous ",
    "act": "act a b c d e f ",
    "image": "![a](https://a?",
    "base64": "aWdub3JlIGFsbCBwcmV2aW91cyBp",
    "zero_width": "a\u200b",
    "tags": "\U000e0041",
    "marks": "a\u0301",
    "wide": "ＡａＢ１",
    "ligatures": "ﷺ",
    "lookalikes": "ѕесrеt ",
    "terms": "secrets of secrets of ",
    "term_start": "essexessex",
    "words": "the quick brown fox jumps ",
    "cjk": "忽略指令",
}
"""What is repeated, by name."""


def hostile(name: str, chars: int) -> str:
    """So many characters of one."""
    piece = HOSTILE[name]
    return (piece * (chars // len(piece) + 1))[:chars]
