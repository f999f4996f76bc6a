"""Who may look, and who may spend.

Where there are administrators, their tokens and roles hold, as for `/admin/v1`: a header that no
other site can send. Without them the pages are what `/admin/state` is: open to who can reach the
listener by an address or `localhost`, so that a page whose name was made to mean this machine (DNS
rebinding) sees nothing; and what costs money is for this machine alone, or a verified certificate.
A proxy on this machine has this machine's address whoever it asks for: what says that it was
forwarded is nobody's of here.

What changes something takes a header of ours besides. A foreign site cannot send it without asking
first (CORS), and is told no.
"""

from __future__ import annotations

import ipaddress
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from relay.administration.roles import Actor
from relay.errors import PermissionDenied
from relay.frontends.admin.problems import Problem
from relay.frontends.asgi import TLS, Scope, header
from relay.frontends.cors import check_host

LOOK: Final = "state.read"
SPEND: Final = "playground.use"
PAGE_HEADER: Final = b"x-rtrelay-page"
_HERE_ALONE: Final = "without administrators the playground is for callers on this machine"
_FORWARDED: Final = frozenset(
    {
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
    }
)
"""What proxies add (RFC 7239; RFC 9110, 7.6.3; and custom). A page cannot make a browser leave them
out, and a browser by itself sends none."""


class Access(NamedTuple):
    """What whoever asks may do."""

    needs_token: bool
    may_look: bool
    may_spend: bool
    role: str
    why_not: str = ""
    """He may not spend, in words."""


class Admission(Protocol):
    """`relay.frontends.admin.api.AdminApi` is one."""

    async def admitted(self, scope: Scope, permission: str) -> Actor: ...


class Guard:
    """Of one admin listener.

    Args:
        admission: who knows administrators; None where there are none.
    """

    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission

    @property
    def needs_token(self) -> bool:
        """Whether there are administrators."""
        return self._admission is not None

    async def access(self, scope: Scope) -> Access:
        """
        Raises:
            Problem: a token that is none; or the page's name could be anybody's.
            StoreUnavailable
        """
        self.check_site(scope)
        if self._admission is None:
            why_not = _why_not_spend(scope)
            return Access(False, True, not why_not, "", why_not)
        if not header(scope, b"authorization"):
            return Access(True, False, False, "")
        actor = await self._admission.admitted(scope, "self.read")
        may_spend = actor.may(SPEND)
        why_not = "" if may_spend else f"the role {actor.role}, bound as it is, may not spend"
        return Access(True, actor.may(LOOK), may_spend, actor.role, why_not)

    async def require(self, scope: Scope, permission: str) -> Actor | None:
        """
        Returns:
            Who asks; None where nobody is told from anybody.

        Raises:
            Problem: he may not.
            StoreUnavailable: that cannot be told now.
        """
        self.check_site(scope)
        if self._admission is not None:
            return await self._admission.admitted(scope, permission)
        if permission == SPEND and (why_not := _why_not_spend(scope)):
            raise Problem("permission_denied", why_not)
        return None

    def check_site(self, scope: Scope) -> None:
        """
        Raises:
            Problem: without tokens, the name that was asked by could be anybody's.
        """
        if self._admission is None:
            try:
                check_host(scope)
            except PermissionDenied as error:
                raise Problem("permission_denied", error.public_message) from None


def check_own_page(scope: Scope) -> None:
    """Of what changes something: it must come from a page of ours, or from no page.

    Raises:
        Problem
    """
    if not header(scope, PAGE_HEADER):
        words = f"the header {PAGE_HEADER.decode()} is missing: another site may have sent this"
        raise Problem("permission_denied", words)
    origin, site = header(scope, b"origin"), header(scope, b"sec-fetch-site")
    try:
        is_ours = not origin or urlsplit(origin).netloc.lower() == header(scope, b"host").lower()
    except ValueError:  # half an IPv6 address
        is_ours = False
    if not is_ours or site not in ("", "same-origin", "none"):
        raise Problem("permission_denied", "another site sent this")


def _why_not_spend(scope: Scope) -> str:
    if scope.get("extensions", {}).get(TLS, {}).get("names"):
        return ""
    if any(name.lower() in _FORWARDED for name, _ in scope["headers"]):
        return f"{_HERE_ALONE}; this came by a proxy"
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
        mapped = getattr(address, "ipv4_mapped", None)
        if (mapped or address).is_loopback:
            return ""
    except ValueError:
        pass
    return _HERE_ALONE
