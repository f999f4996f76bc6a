"""Which targets and hosts of requests are taken."""

from __future__ import annotations

import pytest

from relay.frontends.http_target import check_target

GOOD = (b"relay", b"relay:8080", b"127.0.0.1:1", b"[::1]", b"[::1]:8080", b"a_b.test", b"", b" r ")
BAD = (b"x/?", b"x?", b"x#", b"a@b", b"x\\y", b"a b", b"x/..", b"[::1", b"r:x", b"r\t1", b"\xff")


@pytest.mark.parametrize("host", GOOD)
def test_hosts(host: bytes) -> None:
    check_target(b"/v1/models", [(b"accept", b"x"), (b"host", host)])


@pytest.mark.parametrize("host", BAD)
def test_what_is_no_host(host: bytes) -> None:
    with pytest.raises(ValueError, match="host"):
        check_target(b"/v1/models", [(b"host", host)])


def test_there_is_one_or_none() -> None:
    check_target(b"/", [])
    with pytest.raises(ValueError, match="more than one host"):
        check_target(b"/", [(b"host", b"relay")] * 2)


@pytest.mark.parametrize("url", [b"http://inside/v1/models", b"v1/models", b"*", b"", b"?x=1"])
def test_a_target_is_a_path(url: bytes) -> None:
    with pytest.raises(ValueError, match="path"):
        check_target(url, [(b"host", b"relay")])
