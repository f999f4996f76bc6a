"""Where a connection to an origin may go, and a socket there for what is no engine's."""

from __future__ import annotations

import asyncio
import socket

from relay.errors import ConnectError
from relay.resolving import NotAllowed, NotFound, Resolver
from relay.transport.base import Origin
from relay.transport.engine import NOT_ALLOWED


async def addresses_of(origin: Origin, resolver: Resolver) -> tuple[str, ...]:
    """The only addresses that a connection may go to, best first.

    Raises:
        ConnectError: there are none, or there may be none.

    Cancelled: see `Resolver.addresses`.
    """
    try:
        return await resolver.addresses(origin.host, origin.private)
    except NotFound:
        raise ConnectError("the provider's name does not resolve") from None
    except NotAllowed:
        raise ConnectError(NOT_ALLOWED) from None


async def connected(origin: Origin, resolver: Resolver) -> socket.socket:
    """A socket at the first of its addresses that takes one; the caller closes it.

    Raises:
        ConnectError: of the name.
        OSError: of the last address.

    Cancelled: there is no socket.
    """
    loop = asyncio.get_running_loop()
    failure = OSError("no address")
    for address in await addresses_of(origin, resolver):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await loop.sock_connect(sock, (address, origin.port))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure
