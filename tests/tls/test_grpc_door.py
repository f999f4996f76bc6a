"""What is looked at when a call comes, since gRPC's library does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relay.config import parse
from relay.tls import grpc_door
from relay.tls.door import Door
from relay.tls.grpc_door import EXPIRED, TOO_OLD, looks_at_calls, refusal
from relay.tls.revocation import REVOKED
from tests.fakes.tls_files import TlsFiles, at

SSL = {"transport_security_type": [b"ssl"]}


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def door(files: TlsFiles, **settings: Any) -> Door:
    tls = parse({"tls": files.settings(**settings)}, folder=files.folder).tls
    assert tls is not None
    return Door("grpc", tls)


def test_plain_sockets_and_good_calls_pass(files: TlsFiles) -> None:
    files.revoke()
    strict = door(files, clients="required", crl=True, min_version="1.3")
    assert refusal(strict, {}) == ""
    good = {**SSL, "ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [files.client().chain]}
    assert refusal(strict, good) == ""
    assert refusal(door(files), SSL) == ""


@pytest.mark.parametrize("version", [{}, {"ssl_tls_version": [b"TLSv1.2"]}])
def test_older_version_or_an_unknown_one_is_refused(
    files: TlsFiles, version: Mapping[str, list[bytes]]
) -> None:
    assert refusal(door(files, min_version="1.3"), {**SSL, **version}) == TOO_OLD


def test_revoked_client_is_refused(files: TlsFiles) -> None:
    bad = files.client()
    files.revoke(bad)
    listed = door(files, clients="required", crl=True)
    assert refusal(listed, {**SSL, "x509_pem_cert": [bad.chain]}) == REVOKED


def test_session_does_not_outlive_the_certificate(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {**SSL, "x509_pem_cert": [files.client().chain]}
    resumed = {**shown, "ssl_session_reused": [b"true"]}
    mutual = door(files, clients="required")
    assert refusal(mutual, resumed) == ""
    monkeypatch.setattr(grpc_door, "now", lambda: at(days=-3))
    assert refusal(mutual, resumed) == EXPIRED
    assert refusal(mutual, shown) == "", "a connection that is open stays so"


def test_nothing_is_looked_at_where_nothing_could_be_found(files: TlsFiles) -> None:
    assert not looks_at_calls(door(files))
    assert looks_at_calls(door(files, min_version="1.3"))
    assert looks_at_calls(door(files, clients="required"))
