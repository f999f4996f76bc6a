"""Who may spend where nobody is told from anybody."""

from __future__ import annotations

from typing import Any

import pytest

from relay.frontends.admin.problems import Problem
from relay.frontends.asgi import TLS
from relay.observability.pages.guard import LOOK, SPEND, Guard


def scope(*headers: tuple[bytes, bytes], client: str = "127.0.0.1", **more: Any) -> dict[str, Any]:
    return {"headers": [(b"host", b"127.0.0.1:8081"), *headers], "client": (client, 9), **more}


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_may(client: str) -> None:
    asked = scope(client=client)
    assert (await Guard(None).access(asked)).may_spend
    assert await Guard(None).require(asked, SPEND) is None


@pytest.mark.parametrize("client", ["10.0.0.7", "::ffff:10.0.0.7", "fe80::1", "nonsense"])
async def test_others_may_not(client: str) -> None:
    with pytest.raises(Problem, match="this machine"):
        await Guard(None).require(scope(client=client), SPEND)


@pytest.mark.parametrize(
    "header",
    [
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"forwarded", b"for=203.0.113.9"),
        (b"x-real-ip", b"203.0.113.9"),
        (b"via", b"1.1 proxy"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b""),
    ],
)
async def test_a_proxy_on_this_machine_spends_for_nobody(header: tuple[bytes, bytes]) -> None:
    asked = scope(header)
    access = await Guard(None).access(asked)
    assert (access.may_look, access.may_spend) == (True, False)
    assert "proxy" in access.why_not
    assert await Guard(None).require(asked, LOOK) is None
    with pytest.raises(Problem, match="proxy"):
        await Guard(None).require(asked, SPEND)


async def test_a_verified_certificate_may_through_a_proxy() -> None:
    asked = scope(
        (b"via", b"1.1 proxy"), client="10.0.0.7", extensions={TLS: {"names": ["oncall"]}}
    )
    assert await Guard(None).require(asked, SPEND) is None
