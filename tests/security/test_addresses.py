"""Kinds of addresses, in every form that a filter has been passed by, and who may reach which."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.addresses import (
    ANYWHERE,
    PRIVATE,
    Kind,
    faces,
    is_local_name,
    kind_of,
    may_connect,
    require_host,
    require_private,
)

NEVER = (
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",  # metadata of AWS, Google, Azure, ...
    "169.254.170.2",  # of AWS' containers
    "100.100.100.200",  # Alibaba's
    "168.63.129.16",  # Azure's host
    "192.0.0.192",  # Oracle's
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "::169.254.169.254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",  # RFC 6052 2.2, a prefix of 48 bits
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",  # Teredo's server
    "2001:0:808:808::5601:5601",  # and its client, inverted
    "2600::5efe:a9fe:a9fe",  # ISATAP
    "2600::200:5efe:a9fe:a9fe",
)
INSIDE = (
    "10.0.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",  # CGNAT: CVE-2026-55245
    "100.127.255.255",
    "198.18.0.1",
    "192.0.2.1",
    "203.0.113.7",
    "::1",
    "fc00::1",
    "fd12:3456::1",
    "fec0::1",  # site-local: CVE-2026-55245
    "2001:db8::1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::10.0.0.1",
    "2002:7f00:1::",
    "2002:0a00:0001::1",
    "2600::5efe:10.0.0.1",
    "4000::1",  # nobody has given it out yet
)
OUTSIDE = (
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.128.0.1",
    "192.0.1.1",
    "199.36.153.4",  # Google's private access
    "2606:4700::1111",
    "2a00:1450:4001:80b::200a",
    "64:ff9b::808:808",  # where there is IPv6 alone (DNS64)
    "::ffff:8.8.8.8",
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        *((text, Kind.NEVER) for text in NEVER),
        *((text, Kind.PRIVATE) for text in INSIDE),
        *((text, Kind.GLOBAL) for text in OUTSIDE),
    ],
)
def test_kinds(text: str, kind: Kind) -> None:
    assert kind_of(ip_address(text)) is kind


def forms(address: IPv4Address) -> list[IPv6Address]:
    """Ways to write an IPv4 address in IPv6, and to reach it by it."""
    number = int(address)
    prefix = 0x2600 << 112
    return [
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x64FF9B0001 << 80 | number),
        IPv6Address(0x2002 << 112 | number << 80 | 1),
        IPv6Address(0x20010000 << 96 | number << 64 | 0x1234),
        IPv6Address(0x20010000 << 96 | 0x08080808 << 64 | (~number & 0xFFFFFFFF)),
        IPv6Address(prefix | 0x5EFE << 32 | number),
        IPv6Address(prefix | 0x02005EFE << 32 | number),
    ]


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
@example(IPv4Address("127.0.0.1"))
@example(IPv4Address("169.254.169.254"))
def test_no_form_of_an_address_is_freer_than_itself(address: IPv4Address) -> None:
    order = [Kind.GLOBAL, Kind.PRIVATE, Kind.NEVER]
    for form in forms(address):
        assert address in faces(form), form
        assert order.index(kind_of(form)) >= order.index(kind_of(address)), form
        for host in ("api.example.com", "vllm", str(address)):
            if may_connect(host, form, None):
                assert may_connect(host, address, None), form


@given(st.integers(0, 2**128 - 1).map(IPv6Address))
def test_what_python_knows_to_be_private_is_so_here(address: IPv6Address) -> None:
    if kind_of(address) is Kind.GLOBAL:
        assert not address.is_private
        assert not address.is_loopback
        assert not address.is_multicast
        assert not address.is_reserved or address in ip_network("64:ff9b::/96")


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_what_python_knows_to_be_private_is_so_here_of_ipv4_too(address: IPv4Address) -> None:
    if kind_of(address) is Kind.GLOBAL:
        assert address.is_global


PUBLIC_NAMES = ("api.openai.com", "vllm.corp.example.com", "localhost.evil.example", "vllm.default")
LOCAL_NAMES = (
    *("localhost", "LOCALHOST.", "vllm", "host.docker.internal", "x.home.arpa", "a.b.local"),
    *("vllm.default.svc", "vllm.default.svc.cluster.local", "gpu.lan", "llm.corp", "x.test"),
)


@pytest.mark.parametrize("host", PUBLIC_NAMES)
def test_a_name_of_the_public_dns_leads_to_public_addresses_alone(host: str) -> None:
    assert not is_local_name(host)
    for text in OUTSIDE:
        assert may_connect(host, ip_address(text), None)
    for text in (*INSIDE, *NEVER):
        assert not may_connect(host, ip_address(text), None), text


@pytest.mark.parametrize("host", LOCAL_NAMES)
def test_a_name_of_ones_own_network_leads_there(host: str) -> None:
    for text in (*INSIDE, *OUTSIDE):
        assert may_connect(host, ip_address(text), None), text
    for text in NEVER:
        assert not may_connect(host, ip_address(text), None), text


def test_an_address_that_was_written_is_meant_and_no_other() -> None:
    assert may_connect("10.0.0.7", ip_address("10.0.0.7"), None)
    assert may_connect("::1", ip_address("::1"), None)
    assert may_connect("::ffff:10.0.0.7", ip_address("10.0.0.7"), None)
    assert not may_connect("10.0.0.7", ip_address("10.0.0.8"), None)
    assert not may_connect("169.254.169.254", ip_address("169.254.169.254"), None)
    assert not may_connect("0.0.0.0", ip_address("0.0.0.0"), None)


def test_networks_that_are_named_are_the_only_private_ones() -> None:
    ten = ("10.0.0.0/8",)
    for host in ("llm.example.com", "vllm"):
        assert may_connect(host, ip_address("10.1.2.3"), ten)
        assert may_connect(host, ip_address("64:ff9b::10.1.2.3"), ten)
        assert may_connect(host, ip_address("8.8.8.8"), ten)
        assert not may_connect(host, ip_address("192.168.1.1"), ten)
        assert not may_connect(host, ip_address("127.0.0.1"), ten)
        assert not may_connect(host, ip_address("10.1.2.3"), ()), "an empty list allows nothing"


def test_every_private_network_has_no_metadata_in_it() -> None:
    for text in NEVER:
        assert not may_connect("x.example.com", ip_address(text), PRIVATE), text
    for text in INSIDE[:-1]:
        assert may_connect("x.example.com", ip_address(text), PRIVATE), text


def test_what_the_machine_itself_is_asked_may_be_anywhere() -> None:
    for text in (*NEVER, *INSIDE, *OUTSIDE):
        assert may_connect("metadata.google.internal", ip_address(text), ANYWHERE), text


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "0x7f000001",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "127.0.0.01",
        "1.2.3.256",
        "1.2.3.4.5",
        "a.0x7f",
        "a.1.",
        "127。0。0。1",
        "ⓛocalhost",
        "%31%32%37.0.0.1",
        "a..b",
        ".a",
        "-a",
        "a b",
        "a\nb",
        "a/b",
        "a@b",
        "",
        "[::1]x",
        "1::2::3",
    ],
)
def test_hosts_that_are_read_in_two_ways_are_refused(host: str) -> None:
    with pytest.raises(ValueError, match="the host is"):
        require_host(host)


@pytest.mark.parametrize(
    "host",
    ["api.openai.com", "a_b.svc", "x1.example", "10.0.0.1", "::1", "xn--mnchen-3ya.de", "a."],
)
def test_hosts_that_are_read_in_one_way_are_taken(host: str) -> None:
    require_host(host)


NOBODYS = (
    *("0.0.0.0/0", "::/0", "8.8.8.0/24", "10.0.0.0/7", "169.254.0.0/16", "fe80::/10"),
    *("10.0.0.1/8", "x", "", "100.100.100.200/32", "224.0.0.0/4"),
)


@pytest.mark.parametrize("text", NOBODYS)
def test_networks_that_nobody_may_open(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|no private network|no provider"):
        require_private(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "127.0.0.1", "::1/128"])
def test_networks_that_one_may_open(text: str) -> None:
    require_private(text)
