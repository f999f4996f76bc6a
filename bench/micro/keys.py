"""CPU of letting a caller in: once for a request or RPC, and once more for each generation.

    python -m bench.micro.keys

`key_mac` is a bare HMAC-SHA256 of the standard library, the floor of `key_identify`. Best of
several rounds, microseconds; a directory of ten thousand keys.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from functools import cache

import orjson

from bench.micro.codec import PAYLOAD
from relay.errors import RelayError
from relay.frontends.caller import caller_of_scope
from relay.governance.directory import Directory
from relay.governance.gate import KeyGate
from relay.governance.pepper import Pepper, Peppers
from relay.governance.token_text import Minted, mint
from relay.store.directory_rows import (
    Changes,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)

_KEYS = 10_000
_NOW_US = 1_700_000_000_000_000
_PEPPER = Pepper("pepper-of-the-bench-0123456789-abcdefghij")


def _secret(number: int) -> Minted:
    return Minted("virtual key", f"{number:016}", f"{number:043}")


@cache
def _directory() -> Directory:
    directory = Directory(Peppers(_PEPPER), lambda: 1.0)
    rows: list[Row] = [
        OrganisationRow("org_1", "{}", False, 1),
        TeamRow("team_1", "org_1", "{}", False, 1),
    ]
    for number in range(_KEYS):
        minted, key_id = _secret(number), f"key_{number}"
        mac = _PEPPER.mac("virtual key", minted.signed)
        scopes = '{"models": ["fast*", "openai/*"]}'
        rows.append(KeyRow(key_id, "team_1", scopes, '["a"]', "{}", None, False, 1))
        rows.append(CredentialRow(minted.id, key_id, mac, _PEPPER.id, None, False, 1))
    directory.apply(Changes(1, tuple(rows), is_whole=True), 1.0)
    return directory


def measure(rounds: int = 7, number: int = 2_000) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    directory, mine, stranger = _directory(), _secret(7), mint("virtual key").text
    gate = KeyGate(directory, time.monotonic, lambda: _NOW_US)
    headers = [
        (b"host", b"relay.test"),
        (b"content-type", b"application/json"),
        (b"authorization", f"Bearer {mine.text}".encode()),
    ]
    scope = {"headers": headers, "client": ("127.0.0.1", 5)}

    def of_generation() -> None:
        directory.live("key_7", _NOW_US).scopes.check_model("fast-1")

    def refuse() -> None:
        try:
            directory.identify(stranger, _NOW_US)
        except RelayError:
            pass

    work: dict[str, Callable[[], object]] = {
        "orjson_loads_reference": lambda: orjson.loads(PAYLOAD),
        "key_mac": lambda: _PEPPER.mac("virtual key", mine.signed),
        "key_identify": lambda: directory.identify(mine.text, _NOW_US),
        "key_refuse": refuse,
        "key_caller_of_request": lambda: caller_of_scope(gate, scope),
        "key_live_and_model": of_generation,
    }
    return {
        name: round(min(timeit.repeat(call, repeat=rounds, number=number)) / number * 1e6, 3)
        for name, call in work.items()
    }


if __name__ == "__main__":
    for name, value in measure().items():
        print(f"{name:28} {value:7.2f} us")
