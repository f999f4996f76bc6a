"""The emulator as a process: ready line, certificates, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import h2.connection
import httpx2
import pytest

from relay.emulator.certs import CertFiles, make_certs
from relay.emulator.main import EmulatorConfig, load_config
from tests.emulator.calls import chat, chat_text, plain_client, post
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets


def test_ready_line_names_what_a_relay_needs(emulator: EmulatorProcess) -> None:
    assert emulator.ready["ready"] is True
    assert emulator.ready["tls_port"] != emulator.ready["plain_port"]
    assert emulator.ready["pid"] == emulator.process.pid
    assert Path(emulator.ca_file).read_text().startswith("-----BEGIN CERTIFICATE-----")


def test_certificate_is_trusted_by_its_own_ca_only(emulator: EmulatorProcess) -> None:
    url = f"{emulator.base_url_tls}/v1/models"
    trusting = ssl.create_default_context(cafile=emulator.ca_file)
    with httpx2.Client(verify=trusting, trust_env=False) as client:
        assert client.get(url).status_code == 200
    stranger = ssl.create_default_context()
    with (
        httpx2.Client(verify=stranger, trust_env=False) as client,
        pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(url)


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ("names: [other.example]", "IP address mismatch"),
        ("is_expired: true", "certificate has expired"),
    ],
)
def test_certificate_can_be_a_fault(tmp_path: Path, setting: str, why: str) -> None:
    config = tmp_path / "emulator.yaml"
    config.write_text(setting)
    with EmulatorProcess("-c", str(config), cert_dir=tmp_path / "certs") as own:
        trusting = ssl.create_default_context(cafile=own.ca_file)
        with (
            httpx2.Client(verify=trusting, trust_env=False) as client,
            pytest.raises(httpx2.ConnectError, match=why),
        ):
            client.get(f"{own.base_url_tls}/v1/models")
        assert post(own, "/v1/chat/completions", chat("emu-instant")).status_code == 200


def test_streams_of_a_connection_can_be_few(tmp_path: Path) -> None:
    config = tmp_path / "emulator.yaml"
    config.write_text("max_concurrent_streams: 3")
    with EmulatorProcess("-c", str(config), cert_dir=tmp_path / "certs") as own:
        client = h2.connection.H2Connection()
        client.initiate_connection()
        with socket.create_connection(("127.0.0.1", own.ready["plain_port"]), 5) as link:
            link.sendall(client.data_to_send())
            while client.remote_settings.max_concurrent_streams != 3:
                data = link.recv(4096)
                assert data, "closed before its SETTINGS said so"
                client.receive_data(data)


def test_private_key_is_for_the_owner_alone(tmp_path: Path) -> None:
    files = make_certs(tmp_path / "new")
    assert files.key.stat().st_mode & 0o077 == 0
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)


def test_certificates_are_kept_for_clients_that_know_them(tmp_path: Path) -> None:
    with EmulatorProcess(cert_dir=tmp_path) as own:
        trusting = ssl.create_default_context(cafile=own.ca_file)
    with (
        EmulatorProcess(cert_dir=tmp_path) as own,
        httpx2.Client(verify=trusting, trust_env=False) as client,
    ):
        assert client.get(f"{own.base_url_tls}/v1/models").status_code == 200


def contents(files: CertFiles) -> list[bytes]:
    return [path.read_bytes() for path in (files.ca, files.chain, files.key)]


@pytest.mark.parametrize("change", ["ca", "chain", "key", "names", "date"])
def test_certificates_that_are_of_no_use_are_made_anew(tmp_path: Path, change: str) -> None:
    files = make_certs(tmp_path)
    before = contents(files)
    assert contents(make_certs(tmp_path)) == before
    wanted: dict[str, Any] = {"names": ("other.example",)} if change == "names" else {}
    if change == "date":
        make_certs(tmp_path, is_expired=True)
        before = contents(make_certs(tmp_path, is_expired=True))
    elif change in ("ca", "chain", "key"):
        other = make_certs(tmp_path / "other")
        getattr(files, change).write_bytes(getattr(other, change).read_bytes())
        before = contents(files)
    after = make_certs(tmp_path, **wanted)
    assert not set(contents(after)) & set(before)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(after.chain, after.key)


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_files_that_are_none_are_written_anew(tmp_path: Path, text: str) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text(text)
    files = make_certs(tmp_path)
    assert all(b"-----BEGIN" in data for data in contents(files))


def test_configuration_file(tmp_path: Path) -> None:
    config = tmp_path / "emulator.yaml"
    config.write_text(
        "distributions: {quick: '1..2'}\n"
        "models:\n"
        "  greeter: {ttft: '@quick', itl: 0, text: 'Good morning, all.'}\n"
        "  shorter: 'emu:ttft=1,itl=0,tokens=2'\n"
    )
    ready_file = tmp_path / "ready.json"
    arguments = ("-c", str(config), "--ready-file", str(ready_file))
    with EmulatorProcess(*arguments, cert_dir=tmp_path / "certs") as own:
        assert json.loads(ready_file.read_text()) == own.ready
        text = chat_text(post(own, "/v1/chat/completions", chat("greeter")).content)
        assert text == "Good morning, all."
        assert (
            post(own, "/v1/chat/completions", chat("shorter", stream=False)).json()["usage"][
                "completion_tokens"
            ]
            == 2
        )


def test_configuration_refuses_unknown_keys(tmp_path: Path) -> None:
    config = tmp_path / "emulator.yaml"
    config.write_text("prot: 1\n")
    with pytest.raises(ValueError, match="prot"):
        load_config(config)
    assert load_config(None) == EmulatorConfig()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_with_streams_hanging(tmp_path: Path, number: int) -> None:
    with EmulatorProcess(cert_dir=tmp_path) as own:
        with (
            plain_client(0.2) as client,
            pytest.raises(httpx2.ReadTimeout),
        ):
            client.post(f"{own.base_url_plain}/v1/chat/completions", json=chat("emu-mute"))
        own.process.send_signal(number)
        assert own.process.wait(timeout=5) == 0


def test_resets_leave_one_alive_that_was_started_as_a_service(tmp_path: Path) -> None:
    with EmulatorProcess(cert_dir=tmp_path, is_session_leader=True) as own:
        for number in range(2):
            model = f"emu:ttft=5,itl=1,tokens=6,seed={number},fault=reset@2"
            with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):
                post(own, "/v1/chat/completions", chat(model))
        assert chat_text(post(own, "/v1/chat/completions", chat("emu:ttft=1,itl=1")).content)
        assert own.process.poll() is None


def test_end_of_standard_input_ends_it(tmp_path: Path) -> None:
    with EmulatorProcess(cert_dir=tmp_path) as own:
        assert own.process.stdin is not None
        own.process.stdin.close()
        assert own.process.wait(timeout=5) == 0


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """The parent is killed, so it can close nothing itself."""
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "child = subprocess.Popen(\n"
            "    [sys.executable, '-m', 'relay.emulator', '--port', '0', '--cert-dir',\n"
            "     sys.argv[1], '--exit-with-parent'], stdin=subprocess.PIPE)\n"
            "time.sleep(60)\n",
            str(tmp_path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout as output:
        child = int(json.loads(output.readline())["pid"])
        os.kill(child, 0)  # it is there
        parent.kill()
        parent.wait()
        # The child holds the other end of this pipe: its end is the pipe's end.
        assert output.read() == ""
