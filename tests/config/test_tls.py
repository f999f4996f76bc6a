"""`tls`: what is refused and how it is named, which listener does what, who may be reached."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from relay.config import Config, ConfigError, json_schema, parse, tls_warnings
from relay.config.pem_files import now
from relay.config.tls import TlsConfig
from relay.tls.doors import Doors
from tests.fakes.json_schema import faults
from tests.fakes.tls_files import TlsFiles, at, revocation_list

LISTENERS = ("grpc", "http", "admin")


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def read(files: TlsFiles, document: dict[str, Any]) -> Config:
    return parse(document, folder=files.folder)


def fault_of(files: TlsFiles, document: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        read(files, document)
    said = str(caught.value)
    assert "PRIVATE" not in said
    assert "MII" not in said, "nothing of a file is shown"
    return said


# --- files ------------------------------------------------------------------------------------


def test_paths_start_in_the_files_folder(files: TlsFiles) -> None:
    files.revoke()
    tls = read(files, {"tls": files.settings(clients="required", crl=True)}).tls
    assert tls is not None
    paths = [tls.cert_file, tls.key_file, tls.client_ca_file, tls.crl_file]
    names = ["server.pem", "server.key", "clients.pem", "clients.crl"]
    assert paths == [str(files.folder / name) for name in names]


def encrypted() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
BROKEN_KEY = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
BROKEN_LIST = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"


@pytest.mark.parametrize(
    ("field", "data", "said"),
    [
        ("cert_file", None, "cannot read"),
        ("cert_file", b"", "no readable certificates"),
        ("cert_file", BROKEN, "no readable certificates"),
        ("key_file", None, "cannot read"),
        ("key_file", b"", "holds no private key"),
        ("key_file", BROKEN_KEY, "cannot be read"),
        ("key_file", encrypted(), "is encrypted"),
        ("client_ca_file", None, "cannot read"),
        ("client_ca_file", BROKEN, "no readable certificates"),
        ("crl_file", None, "cannot read"),
        ("crl_file", b"", "holds no revocation list"),
        ("crl_file", BROKEN_LIST, "cannot be read"),
        ("crl_file", revocation_list(trustme.CA()), "is signed by no certificate in"),
    ],
)
def test_file_of_no_use_is_named_with_its_field(
    files: TlsFiles, field: str, data: bytes | None, said: str
) -> None:
    files.revoke()
    settings = files.settings(clients="required", crl=True)
    settings[field] = f"other-{field}"
    if data is not None:
        files.put(settings[field], data)
    for document, path in (
        ({"tls": settings}, "tls"),
        ({"server": {"http": {"tls": settings}}}, "server.http.tls"),
    ):
        (line,) = fault_of(files, document).splitlines()
        assert line.startswith(f"{path}.{field}: ")
        assert said in line


def test_key_of_another_certificate_is_refused(files: TlsFiles) -> None:
    other = files.client()
    said = fault_of(files, {"tls": files.settings(key_file=other.key_file)})
    assert said.startswith("tls.key_file: ")
    assert "is not the key of the first certificate in" in said


def test_key_and_certificates_may_share_a_file(files: TlsFiles) -> None:
    both = (files.folder / "server.pem").read_bytes() + (files.folder / "server.key").read_bytes()
    files.put("both.pem", both)
    assert read(files, {"tls": files.settings(cert_file="both.pem", key_file="both.pem")}).tls


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"client_certificates": "required"}, "tls.client_certificates"),
        ({"client_certificates": "maybe", "client_ca_file": "clients.pem"}, "tls.client_certif"),
        ({"crl_file": "clients.crl"}, "tls.crl_file"),
        ({"min_version": "1.1"}, "tls.min_version"),
        ({"handshake_timeout_ms": 0}, "tls.handshake_timeout_ms"),
        ({"cert": "x"}, "tls.cert: unknown key; did you mean 'cert_file'?"),
    ],
)
def test_wrong_settings_are_named(files: TlsFiles, more: dict[str, Any], path: str) -> None:
    files.revoke()
    assert fault_of(files, {"tls": files.settings(**more)}).startswith(path)


@pytest.mark.parametrize("value", [True, "yes", 1])
def test_listener_takes_a_section_or_false(files: TlsFiles, value: object) -> None:
    said = fault_of(files, {"server": {"http": {"tls": value}}})
    assert said == "server.http.tls: must be a mapping"


@pytest.mark.parametrize("version", [1.2, 1.3, "1.2", "1.3"])
def test_version_may_look_like_a_number(files: TlsFiles, version: object) -> None:
    tls = read(files, {"tls": files.settings(min_version=version)}).tls
    assert tls is not None
    assert tls.min_version == str(version)


def test_schema_knows_what_a_listener_may_say(files: TlsFiles) -> None:
    schema = json_schema()
    settings = files.settings(clients="optional", min_version="1.3")
    for value in (settings, {**settings, "min_version": 1.3}, False, None):
        assert not faults(schema, {"server": {"http": {"tls": value}}})
    for wrong in (True, {"cert_file": "x"}):
        assert faults(schema, {"server": {"http": {"tls": wrong}}})


# --- which listener does what -----------------------------------------------------------------


def test_listeners_own_section_goes_before(files: TlsFiles) -> None:
    own = files.settings(clients="required")
    config = read(
        files,
        {"tls": files.settings(), "server": {"http": {"tls": own}, "admin": {"tls": False}}},
    )
    http, grpc = config.tls_of("http"), config.tls_of("grpc")
    assert http is not None
    assert grpc is config.tls
    assert (http.requires_clients, config.tls_of("admin")) == (True, None)
    assert Config().tls_of("grpc") is None


def test_grpc_cannot_take_both_sorts_of_clients(files: TlsFiles) -> None:
    both = files.settings(clients="optional")
    assert fault_of(files, {"tls": both}).startswith("server.grpc.tls: gRPC can require")
    for own in (False, files.settings(), files.settings(clients="required")):
        read(files, {"tls": both, "server": {"grpc": {"tls": own}}})


# --- reload -----------------------------------------------------------------------------------


def test_only_files_may_change_while_it_serves(files: TlsFiles) -> None:
    files.client("agent")
    files.revoke()
    for name in ("pem", "key"):
        files.put(f"moved.{name}", (files.folder / f"server.{name}").read_bytes())
    moved: dict[str, Any] = {"cert_file": "moved.pem", "key_file": "moved.key"}

    def waiting(before: Any, after: Any) -> list[str]:
        return read(files, before).needing_restart(read(files, after))

    mutual = files.settings(clients="required")
    assert waiting({"tls": files.settings()}, {"tls": files.settings(**moved)}) == []
    assert waiting({"tls": mutual}, {"tls": {**mutual, "crl_file": "clients.crl"}}) == []
    of_all = [f"server.{name}.tls" for name in LISTENERS]
    assert waiting({"tls": files.settings()}, {"tls": mutual}) == of_all
    assert waiting({}, {"tls": files.settings()}) == of_all
    assert waiting(
        {"tls": files.settings()},
        {"tls": files.settings(), "server": {"http": {"tls": False}}},
    ) == ["server.http.tls"]
    same = {"server": {name: {"tls": files.settings()} for name in LISTENERS}}
    assert waiting({"tls": files.settings()}, same) == [], "it is written elsewhere, no more"


# --- who may be reached from outside ----------------------------------------------------------

OUTSIDE = "0.0.0.0:1"


def exposed(files: TlsFiles, server: dict[str, Any], *, has_keys: bool, **more: Any) -> list[str]:
    config = read(files, {"server": server, **more})
    return config.server.exposed(config.tls, has_keys=has_keys)


@pytest.mark.parametrize("name", ["grpc", "http"])
@pytest.mark.parametrize(
    ("settings", "has_tls"),
    [("none", False), ("all", True), ("own", True), ("off", False), ("proxy", True)],
)
@pytest.mark.parametrize("has_keys", [True, False])
def test_callers_come_from_outside_with_tls_and_keys_only(
    files: TlsFiles, name: str, settings: str, has_tls: bool, has_keys: bool
) -> None:
    listener: dict[str, Any] = {"address": OUTSIDE}
    more: dict[str, Any] = {"tls": files.settings()} if settings in ("all", "off") else {}
    own: dict[str, dict[str, Any]] = {
        "own": {"tls": files.settings()},
        "off": {"tls": False},
        "proxy": {"proxy_terminates_tls": True},
    }
    listener |= own.get(settings, {})
    lines = exposed(files, {name: listener}, has_keys=has_keys, **more)
    if has_tls and has_keys:
        assert lines == []
        return
    (line,) = lines
    assert line.startswith(f"server.{name}.address {OUTSIDE} is reachable from outside")
    assert ("proxy_terminates_tls" in line) == (not has_tls)
    assert ("(auth)" in line) == (not has_keys)


def test_admin_comes_from_outside_with_certificates_or_tokens_only(files: TlsFiles) -> None:
    def lines(*, has_keys: bool, **admin: Any) -> list[str]:
        return exposed(files, {"admin": {"address": OUTSIDE, **admin}}, has_keys=has_keys)

    plain: tuple[dict[str, Any], ...] = ({}, {"proxy_terminates_tls": True})
    some: tuple[dict[str, Any], ...] = (
        {"tls": files.settings()},
        {"tls": files.settings(clients="optional")},
    )
    for refused in (*plain, *some):
        (line,) = lines(has_keys=False, **refused)
        assert line.startswith("server.admin.address 0.0.0.0:1 is reachable from outside")
        assert "client_ca_file" in line
        assert "`auth`" in line
    for refused in plain:
        assert lines(has_keys=True, **refused)
    for allowed in some:
        assert lines(has_keys=True, **allowed) == []
    assert lines(has_keys=False, tls=files.settings(clients="required")) == []


def test_sockets_of_this_machine_need_nothing(files: TlsFiles) -> None:
    assert exposed(files, {"grpc": {"unix_socket": "/run/relay.sock"}}, has_keys=False) == []


# --- warnings ---------------------------------------------------------------------------------


def warned(files: TlsFiles, settings: dict[str, Any], **later: float) -> list[str]:
    return tls_warnings(read(files, {"tls": settings}), now() + timedelta(**later))


def test_good_files_are_nothing_to_warn_of(files: TlsFiles) -> None:
    files.revoke()
    assert warned(files, files.settings(clients="required", crl=True)) == []


def test_ends_are_told_once_for_all_listeners(files: TlsFiles) -> None:
    files.renew(not_after=at(days=-20))
    ends = at(days=-20)
    assert warned(files, files.settings()) == []
    (soon,) = warned(files, files.settings(), days=10)
    assert soon.startswith("tls.cert_file: the certificate expires on ")
    (over,) = warned(files, files.settings(), days=21)
    assert over.startswith(f"tls.cert_file: the certificate expired on {ends:%Y-%m-%d}")
    Doors(read(files, {"tls": files.settings()}))  # no reason to stop


def test_list_that_ran_out_is_told(files: TlsFiles) -> None:
    files.revoke()
    (line,) = warned(files, files.settings(clients="required", crl=True), days=8)
    assert line.startswith("tls.crl_file: the list of ")
    assert "no client" in line


@pytest.mark.parametrize(("mode", "is_told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_key_that_everybody_can_read_is_told(files: TlsFiles, mode: int, is_told: bool) -> None:
    os.chmod(files.folder / "server.key", mode)
    lines = warned(files, files.settings())
    assert bool(lines) == is_told
    assert all(line.startswith("tls.key_file: every user") for line in lines)


def test_settings_tell_nothing_of_the_key(files: TlsFiles) -> None:
    config = read(files, {"tls": files.settings()})
    key = (files.folder / "server.key").read_text().splitlines()[1]
    assert key not in repr(config)
    assert isinstance(config.tls, TlsConfig)
