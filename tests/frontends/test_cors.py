"""Which pages may ask, and by which names of this machine."""

from __future__ import annotations

from typing import Any

import pytest

from relay.errors import PermissionDenied
from relay.frontends.asgi import TLS
from relay.frontends.cors import check_host


def scope(host: str | None, **more: Any) -> dict[str, Any]:
    return {"headers": [] if host is None else [(b"host", host.encode("latin-1"))], **more}


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", "127.0.0.1", "127.0.0.1:8081", "[::1]:8081", "10.0.0.7", "localhost"),
        *("LocalHost:8081", "a.localhost:1", "known.test", "known.test:8080"),
    ],
)
def test_names_that_no_page_can_have(host: str | None) -> None:
    check_host(scope(host), ("http://known.test", "https://known.test:8080"))


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.test",
            "evil.test:8081",
            "127.0.0.1.evil.test",
            "localhost.evil.test",
            "0x7f000001",
        ),
        *("notlocalhost", "127.1", "2130706433", "[::1", "a@127.0.0.1.evil.test", "\xe9vil.test"),
        *("a[::1]", "known.test:1", "evil.test/127.0.0.1", "known.test.evil.test"),
    ],
)
def test_names_that_a_page_can_have(host: str) -> None:
    with pytest.raises(PermissionDenied):
        check_host(scope(host), ("http://known.test",))
    check_host(scope(host), ("*",))
    check_host(scope(host, extensions={TLS: {"names": ()}}))
