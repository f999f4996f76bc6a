"""`allow_private`: where a host of the file may lead, beside the public internet."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from relay.addresses import PRIVATE, Kind, kind_of, literal_of, require_host, require_private


def private_networks(value: object) -> object:
    """`allow_private` as networks: true stands for every private one, false for none.

    Raises:
        ValueError: what is no private network.
    """
    if value is True:
        return PRIVATE
    if value is False:
        return ()
    if isinstance(value, list | tuple):
        for network in value:
            if not isinstance(network, str):
                raise ValueError("networks such as 10.0.0.0/8 are expected")  # noqa: TRY004
            try:
                require_private(network)
            except ValueError as error:
                raise ValueError(f"{network!r}: {error}") from None
        return tuple(value)
    if value is None:
        return None
    raise ValueError("true, false or a list of networks is expected")


def require_reachable(host: str, private: tuple[str, ...] | None) -> None:
    """That a host may be asked for as it is written; names are judged when they are looked up.

    Raises:
        ValueError: different programs read different things of it, no provider can have it, or
            `private` leaves it out.
    """
    require_host(host)
    address = literal_of(host)
    if address is None:
        return
    kind = kind_of(address)
    if kind is Kind.NEVER:
        raise ValueError(
            "no provider has such an address: it is of the link (where clouds keep credentials),"
            " of many, or of nobody"
        )
    if kind is Kind.PRIVATE and private == ():
        raise ValueError("the address is private, and allow_private is false")


AllowPrivate = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(private_networks),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "boolean"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "null"},
            ]
        }
    ),
    Field(
        description="networks of yours (true: every private one) that the name in the address may"
        " lead to; unset: public ones alone, unless the address is an IP address or a name that"
        " the public DNS has not (`localhost`, `vllm`, `vllm.ns.svc`, `x.internal`, ...)"
    ),
]
