"""What holds secrets while a request is made shows none: a debugger, a task's result in a log."""

from __future__ import annotations

import pytest

from relay.config.providers import ProxyUrl
from relay.credentials.ask import Answer, Way
from relay.credentials.aws_sigv4 import AwsKeys
from relay.credentials.base import Call
from relay.credentials.token import AccessToken
from relay.routing.endpoint import Signed
from relay.transport.base import Origin, UpstreamRequest

_CANARY = "canary-1"
_HEADERS = [("authorization", f"Bearer {_CANARY}")]
_BODY = _CANARY.encode()
_PROXY = ProxyUrl(f"http://user:{_CANARY}@proxy.test")
_ORIGIN = Origin("https", "p.test", 443, egress_proxy=_PROXY)


@pytest.mark.parametrize(
    "shown",
    [
        AccessToken(_CANARY, 3600.0, 0.0),
        Answer("t.test", 200, _HEADERS, _BODY, 0.0, None),
        AwsKeys(_CANARY, _CANARY, _CANARY),
        Call("POST", _ORIGIN, f"/{_CANARY}", _HEADERS, _BODY),
        Signed(_HEADERS, _HEADERS),
        UpstreamRequest("POST", f"/{_CANARY}", _HEADERS, _BODY),
        Way(_PROXY),
        _ORIGIN,
    ],
    ids=lambda shown: type(shown).__name__,
)
def test_shows_no_secret(shown: object) -> None:
    for text in (repr(shown), str(shown), f"{shown}", repr([shown])):
        assert _CANARY not in text
