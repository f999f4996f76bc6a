"""What is taken for no secret: placeholders, prose, identifiers."""

from __future__ import annotations

import pytest

from relay.guardrails.secrets import SECRET_KINDS, entropy_bits, secret_scanners


def found(text: str) -> list[str]:
    return [
        text[one.start : one.end] for scanner in secret_scanners() for one in scanner.find(text)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "password = ********",
        "api_key: <your key here>",
        "token = ${API_TOKEN}",
        "password: changeme123",
        "secret: your-secret-key-1",
        "api_key: os.environ/OPENAI_API_KEY",
        "postgres://user:${DB_PASSWORD}@host/db",
        "postgres://user:...@host/db",
        "The password is required, and the token is refreshed.",
        "Basic information about risk-management and desk-research.",
        "ask-me-anything-about-the-new-product-line",
        "sk-1234",
        "AKIA is a prefix",
        "eyJ is how a token begins",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "commit 4b825dc642cb6eb9a060e54bf8d69288fbee4904",
        "123e4567-e89b-12d3-a456-426614174000",
        "-----BEGIN PUBLIC KEY-----",
        "see http://localhost:8080/path and user@host",
    ],
)
def test_none(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password = 'Tr0ub4dor&3'", "Tr0ub4dor&3"),
        ('"api_key": "a1b2c3d4e5f6"', "a1b2c3d4e5f6"),
        ("client_secret=Zx8-kk2_Qw", "Zx8-kk2_Qw"),
        ("my password is hunter2hunter7", "hunter2hunter7"),
        ("Passwort: Geheim123!x", "Geheim123!x"),
        ("redis://:s3cr3t@cache:6379", "s3cr3t"),
    ],
)
def test_assigned(text: str, secret: str) -> None:
    assert found(text) == [secret]


def test_unknown_kind() -> None:
    with pytest.raises(KeyError):
        secret_scanners(["nose"])
    assert len(secret_scanners()) == len(SECRET_KINDS) == 30


def test_entropy() -> None:
    assert entropy_bits("aaaa") == 0
    assert entropy_bits("abcd") == 2
