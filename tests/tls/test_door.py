"""A listener's files: taken whole or not at all, and looked at cheaply."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from relay.config import parse
from relay.config.pem_files import now
from relay.tls.door import Door
from relay.tls.doors import Doors
from relay.tls.loaded import TlsError
from tests.config.test_tls import encrypted
from tests.fakes.tls_files import TlsFiles, at


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def door_of(files: TlsFiles) -> Door:
    tls = parse({"tls": files.settings()}, folder=files.folder).tls
    assert tls is not None
    return Door("http", tls)


def test_nothing_is_read_while_nothing_changes(files: TlsFiles) -> None:
    door = door_of(files)
    before = door.loaded
    assert not door.look()
    assert door.loaded is before


def test_change_is_seen_whatever_it_is(files: TlsFiles) -> None:
    door = door_of(files)
    files.renew()
    assert door.look(), "moved into place"
    data = (files.folder / "server.pem").read_bytes()
    (files.folder / "server.pem").write_bytes(data)
    assert door.look(), "written over"
    os.chmod(files.folder / "server.key", 0o640)
    assert door.look(), "allowed to others: it could not be read before, perhaps"
    assert not door.look()


def test_links_are_followed_as_kubernetes_turns_them(files: TlsFiles) -> None:
    folder = files.folder
    for version in ("1", "2"):
        files.renew()
        (folder / version).mkdir()
        for name in ("server.pem", "server.key"):
            (folder / name).rename(folder / version / name)
    (folder / "data").symlink_to("1")
    for name in ("server.pem", "server.key"):
        (folder / name).symlink_to(f"data/{name}")
    door = door_of(files)
    before = door.loaded.key_and_chain
    (folder / "next").symlink_to("2")
    (folder / "next").replace(folder / "data")
    assert door.look()
    assert door.loaded.key_and_chain != before


def test_half_a_change_keeps_what_was_there(files: TlsFiles) -> None:
    door = door_of(files)
    before = door.loaded
    old_key = (files.folder / "server.key").read_bytes()
    files.renew()
    new_key = (files.folder / "server.key").read_bytes()
    files.put("server.key", old_key)
    with pytest.raises(TlsError, match="cannot be used together"):
        door.look()
    assert door.loaded is before
    assert not door.look(), "it is told once"
    files.put("server.key", new_key)
    assert door.look()
    assert door.loaded is not before


def test_key_that_is_encrypted_meanwhile_asks_nobody(files: TlsFiles) -> None:
    door = door_of(files)
    files.put("server.key", encrypted())
    with pytest.raises(TlsError, match="cannot be used together"):
        door.look()


def test_weak_certificate_is_refused_by_its_listener(files: TlsFiles) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(at(days=1))
        .not_valid_after(at(days=-1))
        .sign(key, hashes.SHA256())
    )
    files.put("server.pem", certificate.public_bytes(Encoding.PEM))
    files.put("server.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    config = parse({"tls": files.settings()}, folder=files.folder)
    with pytest.raises(TlsError, match=r"server\.grpc\.tls: .*KEY_TOO_SMALL"):
        Doors(config)


def test_log_is_told_of_ends_once_a_day(files: TlsFiles) -> None:
    files.renew(not_after=at(days=-20))
    document = {
        "tls": files.settings(),
        "server": {name: {"tls": False} for name in ("grpc", "http")},
    }
    doors = Doors(parse(document, folder=files.folder))
    with capture_logs() as lines:
        for hours in (0, 24 * 7, 24 * 7 + 1, 24 * 7 + 23, 24 * 8 + 1, 24 * 21):
            doors.warn(now() + timedelta(hours=hours))
    assert [line["event"] for line in lines] == [
        "tls_certificate_expires",
        "tls_certificate_expires",
        "tls_certificate_expired",
    ]
    assert {line["listener"] for line in lines} == {"admin"}
    assert lines[0]["ends_at"] == f"{at(days=-20):%Y-%m-%d}" + lines[0]["ends_at"][10:]
