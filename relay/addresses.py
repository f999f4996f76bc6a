"""Which addresses the relay may connect to: kinds of addresses, and the rule for a host's answers.

A name that somebody else has in his zone may be answered with an address of ours, now or after it
was looked at (DNS rebinding), so that a relay is made to knock where its owner never sent it. So an
address is judged when it is about to be connected to, and each way to write it counts: IPv6 can
carry an IPv4 address (mapped, NAT64, 6to4, Teredo, ISATAP), and the network behind it is what is
reached.

Python's `is_global` is not enough: it differs between versions (CVE-2024-4032), and knows nothing
of what is carried within.

Sources: IANA's special-purpose registries (RFC 6890 and after), RFC 4291, 6052, 3056, 4380, 5214;
names that the public DNS has not: RFC 6761, 6762 (appendix G), 8375, ICANN's for `.internal`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Kind(enum.Enum):
    """Whose an address is."""

    GLOBAL = "global"
    """Of the public internet."""
    PRIVATE = "private"
    """Of this machine or of a network of somebody's own."""
    NEVER = "never"
    """Of no provider: this link, where clouds hand out credentials, nobody in particular."""


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


_NEVER: Final = _networks(
    "0.0.0.0/8",  # Linux takes 0.0.0.0 for itself
    "169.254.0.0/16",  # link-local; the metadata services of nearly all clouds
    "192.0.0.0/24",  # IETF's own; Oracle's metadata
    "224.0.0.0/3",  # multicast, reserved, broadcast
    "100.100.100.200/32",  # Alibaba's metadata, in what is else CGNAT
    "168.63.129.16/32",  # Azure's host, though it looks global
    "::/128",
    "fe80::/10",
    "ff00::/8",
    "100::/64",  # discarded
    "fd00:ec2::/32",  # AWS' metadata, in what is else ULA
    "fd20:ce::/32",  # Google's
)
PRIVATE: Final = (
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "172.16.0.0/12",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "::1/128",
    "64:ff9b:1::/48",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fec0::/10",
)
"""What `allow_private: true` stands for."""
_PRIVATE: Final = _networks(*PRIVATE)
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_6TO4: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)

ANYWHERE: Final = ("0.0.0.0/0", "::/0")
"""Networks that hold every address: for what a cloud says of its own machine."""

LOCAL_SUFFIXES: Final = frozenset(
    {
        "corp",
        "home",
        "home.arpa",
        "internal",
        "intranet",
        "lan",
        "local",
        "localdomain",
        "localhost",
        "private",
        "svc",  # of Kubernetes
        "test",
    }
)
"""Ends of names that the public DNS has not: whoever answers for them is of the machine's own
network."""

_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_NUMBER: Final = re.compile(r"\d+|0[xX][0-9A-Fa-f]*")


def literal_of(host: str) -> Address | None:
    """The address that a host is written as; None for a name."""
    try:
        return ip_address(host.partition("%")[0] if ":" in host else host)
    except ValueError:
        return None


def require_host(host: str) -> None:
    """That everybody who reads a host reads the same of it.

    Raises:
        ValueError: one parser takes it for a name and another for an address (`127.1`, `0x7f.1`,
            `2130706433`), or for another name (not ASCII, percent-encoded).
    """
    if literal_of(host) is not None:
        return
    if not _HOST.fullmatch(host) or ".." in host:
        raise ValueError("the host is no name in ASCII; an international one is written `xn--...`")
    if _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
        raise ValueError("the host is a number, and no address as it is written: four, with dots")


def is_local_name(host: str) -> bool:
    """Whether the public DNS cannot answer for it: one label, or below one of `LOCAL_SUFFIXES`."""
    labels = host.lower().removesuffix(".").split(".")
    return len(labels) == 1 or bool({labels[-1], ".".join(labels[-2:])} & LOCAL_SUFFIXES)


@lru_cache(maxsize=4096)
def faces(address: Address) -> frozenset[Address]:
    """What an address comes to: itself, and whatever IPv4 address it carries.

    Itself is left out where it is only another way to write the other.
    """
    if isinstance(address, IPv4Address):
        return frozenset({address})
    number = int(address)
    if address in _MAPPED or address in _NAT64:
        return frozenset({IPv4Address(number & 0xFFFFFFFF)})
    return frozenset({IPv6Address(number), *_carried(address)})


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    number = int(address)
    if address in _6TO4:
        yield IPv4Address(number >> 80 & 0xFFFFFFFF)
    if address in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFFFFFF)
        yield IPv4Address(~number & 0xFFFFFFFF)
    if address in _LOCAL_NAT64:
        yield IPv4Address(number & 0xFFFFFFFF)
        # RFC 6052 2.2, a prefix of 48 bits: 16 bits, eight that are zero, 16 bits.
        yield IPv4Address((number >> 64 & 0xFFFF) << 16 | number >> 40 & 0xFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)


def _own_kind(address: Address) -> Kind:
    if any(address in network for network in _NEVER):
        return Kind.NEVER
    if any(address in network for network in _PRIVATE):
        return Kind.PRIVATE
    if isinstance(address, IPv4Address):
        return Kind.GLOBAL if address.is_global else Kind.PRIVATE
    if address in _COMPATIBLE:
        return Kind.NEVER
    return Kind.GLOBAL if address in _GLOBAL_V6 else Kind.PRIVATE


def kind_of(address: Address) -> Kind:
    """The strictest of its faces."""
    kinds = {_own_kind(face) for face in faces(address)}
    for strict in (Kind.NEVER, Kind.PRIVATE):
        if strict in kinds:
            return strict
    return Kind.GLOBAL


def may_connect(host: str, address: Address, private: Iterable[str] | None) -> bool:
    """Whether an answer for a host may be connected to.

    Args:
        host: as the operator wrote it.
        private: networks that may be reached though they are not global, in CIDR notation, as he
            wrote them for this host. None: he said nothing. Then a private address is what he means
            where he wrote it himself, or a name that the public DNS has not.
    """
    named = None if private is None else [_network(text) for text in private]
    written = literal_of(host)
    for face in faces(address):
        kind = _own_kind(face)
        if kind is Kind.GLOBAL:
            continue
        found = [] if named is None else [network for network in named if face in network]
        # That of a machine's metadata lies within what a network of somebody's own may be.
        if found and (kind is Kind.PRIVATE or any(not network.prefixlen for network in found)):
            continue
        if kind is Kind.NEVER:
            return False
        if written is not None:
            if face not in faces(written):
                return False
        elif named is not None or not is_local_name(host):
            return False
    return True


@lru_cache(maxsize=1024)
def _network(text: str) -> Network:
    return ip_network(text)


def require_private(text: str) -> None:
    """That a network may be opened by whoever writes the configuration.

    Raises:
        ValueError: it is no network, or not within what is private.
    """
    try:
        network = ip_network(text)
    except ValueError:
        raise ValueError("a network such as 10.0.0.0/8 is expected") from None
    is_inside_one = any(
        network.version == one.version and network.subnet_of(one)  # type: ignore[arg-type]
        for one in _NEVER
    )
    if is_inside_one:
        raise ValueError("no provider has an address of it")
    if not any(
        network.version == one.version and network.subnet_of(one)  # type: ignore[arg-type]
        for one in _PRIVATE
    ):
        raise ValueError("it is no private network; public addresses need no leave")
