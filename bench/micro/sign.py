"""CPU of a request's credential, and of AWS's signature beside botocore's own.

    python -m bench.micro.sign

A row of `headers` is what `Endpoint.signed` asks of a credential for each request; `answered` is
what it is told of each answer; `wait_s` is asked for each candidate of a plan. Best of several
rounds, microseconds. Where botocore is not installed its column is empty.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.util
import time
from collections.abc import Callable
from typing import Any, Final

from relay.credentials.aws_keys import AwsKeysCredential
from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer
from relay.credentials.base import Call, Credential
from relay.credentials.static import StaticCredential
from relay.transport.base import Headers, Origin

SIZES: Final = (0, 1024, 8 * 1024, 60 * 1024, 500 * 1024)
_ORIGIN: Final = Origin("https", "bedrock-runtime.us-east-1.amazonaws.com", 443)
_PATH: Final = "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream"
_GIVEN: Final[Headers] = [("content-type", "application/json"), ("user-agent", "rtrelay")]
_AT_S: Final = 1_795_780_800.0


def call(size: int, session: str = "") -> Call:
    return Call("POST", _ORIGIN, _PATH, _GIVEN, bytes(size), session)


def best_us(work: Callable[[], object], *, rounds: int = 9, enough_s: float = 0.02) -> float:
    """The fastest of several rounds, each of some hundredths of a second."""
    began_s = time.perf_counter()
    work()
    calls = max(1, int(enough_s / max(time.perf_counter() - began_s, 1e-7)))
    best_s = float("inf")
    for _ in range(rounds):
        began_s = time.perf_counter()
        for _ in range(calls):
            work()
        best_s = min(best_s, (time.perf_counter() - began_s) / calls)
    return best_s * 1e6


def by_botocore(keys: AwsKeys) -> Callable[[Call], object] | None:
    """The same by botocore, of a request object as its clients make it."""
    if importlib.util.find_spec("botocore") is None:
        return None
    auth: Any = importlib.import_module("botocore.auth")
    request_of: Any = importlib.import_module("botocore.awsrequest").AWSRequest
    credentials = importlib.import_module("botocore.credentials").Credentials(
        keys.access_key_id, keys.secret_access_key, keys.session_token
    )
    signer = auth.SigV4Auth(credentials, "bedrock", "us-east-1")
    now = datetime.datetime.fromtimestamp(_AT_S, datetime.UTC)
    auth.get_current_datetime = lambda *_: now

    def sign(asked: Call) -> object:
        request = request_of(
            method=asked.method,
            url=f"{asked.origin.url}{asked.path}",
            data=asked.body,
            headers=dict(asked.headers),
        )
        signer.add_auth(request)
        return request.headers

    return sign


def credentials() -> dict[str, Credential]:
    """One of each kind that needs nothing fetched."""
    several = [f"sk-{number}" for number in range(3)]
    refused = StaticCredential(several, "bearer")
    refused.answered(401, [], [("authorization", "Bearer sk-0")], _AT_S, 0.0)
    return {
        "static": StaticCredential(several[:1], "bearer"),
        "static, spread": StaticCredential(several, "bearer", spread=True),
        "static, one refused": refused,
        "aws_sigv4": AwsKeysCredential(SigV4Signer("bedrock", "us-east-1"), _KEYS),
    }


_KEYS: Final = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG", "FwoGZXIvYXdzE" * 60)


def main() -> None:
    signer, theirs = SigV4Signer("bedrock", "us-east-1"), by_botocore(_KEYS)
    print("SigV4, us a request    body   sha256     ours   botocore")
    for size in SIZES:
        asked = call(size)
        hash_us = best_us(lambda asked=asked: hashlib.sha256(asked.body).digest())  # type: ignore[misc]
        ours_us = best_us(lambda asked=asked: signer.headers(asked, _KEYS, _AT_S))  # type: ignore[misc]
        line = f"{size / 1024:>24.0f} kB {hash_us:8.1f} {ours_us:8.1f}"
        if theirs is not None:
            line += f" {best_us(lambda asked=asked: theirs(asked)):10.1f}"  # type: ignore[misc]
        print(line)
    print("\na credential, us          headers   answered   wait_s")
    date = [("content-type", "text/event-stream"), ("date", "Fri, 27 Nov 2026 12:00:00 GMT")]
    for name, one in credentials().items():
        asked = call(1024, "session-1")
        sent = one.headers(asked, _AT_S)
        print(
            f"{name:<24}"
            f"{best_us(lambda one=one, asked=asked: one.headers(asked, _AT_S)):9.2f}"  # type: ignore[misc]
            f"{best_us(lambda one=one, sent=sent: one.answered(200, date, sent, _AT_S, 0.0)):11.2f}"  # type: ignore[misc]
            f"{best_us(lambda one=one: one.wait_s(0.0)):9.2f}"  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()
