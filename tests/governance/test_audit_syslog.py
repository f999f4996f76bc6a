"""Anchors arrive where syslog listens, as anchors that can be read again."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from relay.governance.audit_anchor import AnchorError, from_line, to_line
from relay.governance.audit_chain import Anchor, Head
from relay.governance.audit_syslog import Syslog, parse_address
from tests.fakes.audit_logs import KEY, START_US

ANCHOR = Anchor.of(Head(3, b"m" * 32), START_US, KEY)


@pytest.fixture(params=["udp", "unix"])
def listening(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[socket.socket, str]]:
    if request.param == "udp":
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{opened.getsockname()[1]}"
    else:
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.bind(str(tmp_path / "log"))
        address = f"unix://{tmp_path / 'log'}"
    opened.settimeout(5.0)
    with closing(opened):
        yield opened, address


def test_anchor_arrives(listening: tuple[socket.socket, str]) -> None:
    opened, address = listening
    Syslog(address).send(to_line(ANCHOR))
    said = opened.recv(4096)
    assert said.startswith(b"<86>rtrelay: {")  # authpriv.info
    assert from_line(said) == ANCHOR


def test_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match="syslog"):
        Syslog(f"unix://{tmp_path / 'none'}").send(b"{}")


@pytest.mark.parametrize(
    "address", ["", "host:514", "tcp://h:514", "udp://h", "unix://host/x", "udp://h:1/x"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="udp://HOST:PORT"):
        parse_address(address)
