"""Certificates of apps that end: told, and still served with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from relay.config import Config, credential_warnings, parse
from tests.credentials.certificates import NOW, certificate, pem, pkcs12, rsa_key

FIELD = "providers.p.credential.certificate_file"


def config(folder: Path, data: bytes, **more: str) -> Config:
    (folder / "app").write_bytes(data)
    credential = {
        "kind": "azure_entra",
        "source": "client_certificate",
        "tenant_id": "t",
        "client_id": "c",
        "certificate_file": "app",
        **more,
    }
    row = {"wire": "openai_chat", "base_url": "https://p.test", "credential": credential}
    plain = {"wire": "openai_chat", "base_url": "https://p.test", "api_key": "${WORD}"}
    return parse({"providers": {"p": row, "k": plain}}, {"WORD": "word"}, folder=folder)


@pytest.mark.parametrize(
    ("after_days", "told"),
    [
        (0, []),
        (290, [f"{FIELD}: the certificate expires on {NOW + timedelta(days=300):%Y-%m-%d}"]),
        (
            301,
            [
                f"{FIELD}: the certificate expired on {NOW + timedelta(days=300):%Y-%m-%d}:"
                " the other side will refuse it"
            ],
        ),
    ],
)
def test_days(tmp_path: Path, after_days: float, told: list[str]) -> None:
    leaf = certificate(rsa_key())
    at = NOW + timedelta(days=after_days)
    assert list(credential_warnings(config(tmp_path, pem(rsa_key(), leaf)), at)) == told
    locked = pkcs12(rsa_key(), leaf, password="word")
    found = config(tmp_path, locked, certificate_password="${WORD}")
    assert list(credential_warnings(found, at)) == told


def test_a_file_that_cannot_be_used_is_left_to_who_uses_it(tmp_path: Path) -> None:
    found = config(tmp_path, b"nothing")
    assert list(credential_warnings(found, NOW)) == []
    (tmp_path / "app").unlink()
    assert list(credential_warnings(found, NOW)) == []
