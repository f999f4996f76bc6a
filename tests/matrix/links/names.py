"""A name server on loopback that does as it is told.

async with NameServer() as names:
    names.answers["lab.example"] = ("127.0.0.1",)
    names.answers["gone.example"] = NXDOMAIN
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self, cast

PORT: Final = 53
"""A resolv.conf knows no other."""
SERVFAIL, NXDOMAIN = 2, 3
SILENCE: Final = -1
"""No answer, as of one that comes after everybody has gone."""
TTL_S: Final = 1

Answer = int | tuple[str, ...]
"""An RCODE, `SILENCE`, or IPv4 addresses."""


class NameServer(asyncio.DatagramProtocol):
    """UDP only, A records only; other kinds of records are there and empty."""

    def __init__(self) -> None:
        self.address = ""
        """Where it listens: of loopback, drawn, since several run at once."""
        self.answers: dict[str, Answer] = {}
        """By name; others do not exist."""
        self.asked: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        octets = (127, *(1 + secrets.randbelow(254) for _ in range(3)))
        self.address = ".".join(map(str, octets))
        await loop.create_datagram_endpoint(lambda: self, (self.address, PORT))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        labels: list[str] = []
        at = 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        (kind,) = struct.unpack_from(">H", data, at + 1)
        name = ".".join(labels)
        self.asked.append(name)
        answer = self.answers.get(name, NXDOMAIN)
        if answer == SILENCE:
            return
        rcode, addresses = (answer, ()) if isinstance(answer, int) else (0, answer)
        is_a = kind == 1
        records = b"".join(
            b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, TTL_S, 4) + ip_address(address).packed
            for address in (addresses if is_a else ())
        )
        count = len(addresses) if is_a else 0
        head = data[:2] + struct.pack(">HHHHH", 0x8180 | rcode, 1, count, 0, 0)
        assert self._transport is not None
        self._transport.sendto(head + data[12 : at + 5] + records, addr)
