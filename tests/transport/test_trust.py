"""Where roots are looked for, and in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.errors import ConnectError
from relay.transport.trust import roots_of, system_roots
from tests.fakes.tls import Machine


def pem(word: str) -> str:
    """What passes for a certificate here; its bytes are not looked at."""
    return f"-----BEGIN CERTIFICATE-----\n{word}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def found() -> tuple[list[str], str] | None:
    """The words of the certificates found, and the variable that named them."""
    roots = system_roots()
    if roots is None:
        return None
    lines = roots.pem.decode().splitlines()
    assert len(lines) == 3 * lines.count("-----BEGIN CERTIFICATE-----")
    return lines[1::3], roots.variable


def filled(directory: Path, **files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text)
    return directory


def test_machine_without_roots(machine: Machine) -> None:
    assert found() is None
    machine.file.write_text("# nothing yet\n")
    filled(machine.directory)
    assert found() is None


def test_bundle_goes_before_the_directory(machine: Machine) -> None:
    filled(machine.directory, a0b1c2d3_0=pem("c"))
    assert found() == (["c"], "")
    machine.file.write_text(f"# two\n{pem('a')}\nsubject: b\n{pem('b')}")
    assert found() == (["a", "b"], "")


def test_directory_holds_certificates_by_their_hash(machine: Machine) -> None:
    filled(
        machine.directory,
        bbbbbbbb_1=pem("b1"),
        bbbbbbbb_0=pem("b0"),
        aaaaaaaa_0=pem("a"),
        README_0=pem("not a hash"),
        bundle_crt=pem("nor this"),
    )
    (machine.directory / "cccccccc.0").symlink_to("gone.pem")
    assert found() == (["a", "b0", "b1"], "")


def test_variables_go_first_and_are_the_only_ones(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.file.write_text(pem("machine"))
    one = filled(tmp_path / "one", aaaaaaaa_0=pem("one"))
    two = filled(tmp_path / "two", aaaaaaaa_0=pem("two"))
    monkeypatch.setenv("SSL_CERT_DIR", os.pathsep.join([str(one), str(tmp_path / "no"), str(two)]))
    assert found() == (["one", "two"], "SSL_CERT_DIR")
    (tmp_path / "own.pem").write_text(pem("own"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
    assert found() == (["own"], "SSL_CERT_FILE")
    # An empty variable is as good as none.
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("SSL_CERT_DIR", "")
    assert found() == (["machine"], "")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_variable_that_leads_nowhere_is_no_reason_to_trust_others(
    variable: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.file.write_text(pem("machine"))
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(ConnectError, match=variable) as caught:
        system_roots()
    assert str(tmp_path) not in caught.value.public_message


def test_file_of_an_origin(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(f"text\n{pem('a')}text\n{pem('b')}")
    assert roots_of(str(path)).decode() == (pem("a") + pem("b")).rstrip()
    path.write_bytes(b"\x30\x82\x01 DER is not read")
    with pytest.raises(ConnectError, match="no certificate"):
        roots_of(str(path))
    with pytest.raises(OSError):
        roots_of(str(tmp_path / "none.pem"))
