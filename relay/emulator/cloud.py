"""The emulated clouds as one: keys, token endpoints, doors, and what tests order.

POST /emulator/cloud/script     how token endpoints behave: {"endpoint": NAME or "*", "next"?: k,
                                "expires_in_s", "delay_ms", "status", "error", "is_same"};
                                what is not named goes back to its default
POST /emulator/cloud/clock      {"skew_s": s}: the clouds' clock, in Date headers and in judging
POST /emulator/cloud/token      {"kind": google|entra, "expires_in_s"?, "audience"?}: a new token
POST /emulator/cloud/keys       {"expires_in_s"?}: a new AWS pair; without it a user's own
POST /emulator/cloud/revoke     {"value": TOKEN, KEY ID or API KEY} or {"kind": google|entra|aws|*}
POST /emulator/cloud/rotate     {"endpoint": NAME or "*"}: machines get something new, old counts on
GET  /emulator/cloud/report     what was asked of token endpoints
GET  /emulator/cloud/certificate         {"pem", "certificate"}: a registered one of an Entra app
POST /emulator/cloud/certificate         {"certificate": PEM, "alone"?}: one more; alone: no other
GET  /emulator/cloud/service_account, /emulator/cloud/user     Google's two files
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from email.utils import formatdate

from relay.emulator.cloud_doors import Door
from relay.emulator.cloud_gate import Denial, Visitor, refuse
from relay.emulator.cloud_keys import ACCESS_KEY_ID, SECRET_ACCESS_KEY, CloudClock, CloudKeys, Kind
from relay.emulator.google_account import user_file
from relay.emulator.token_endpoints import PREFIX, Question, Reply, TokenEndpoints
from relay.emulator.token_script import ENDPOINTS, TokenScript, TokenScriptError

KINDS: tuple[Kind, ...] = ("google", "entra")
_HOUR_S = 3600.0


class Cloud:
    """What all doors and endpoints of one emulator share."""

    def __init__(self) -> None:
        self.clock = CloudClock()
        self.keys = CloudKeys(self.clock)
        self._script = TokenScript()
        self._endpoints = TokenEndpoints(self.keys, self._script)

    def reset(self) -> None:
        """As at the start; keys of accounts stay, for files that were handed out."""
        self.clock.skew_s = 0.0
        self.keys.reset()
        self._script.reset()
        self._endpoints.reset()

    def date_headers(self) -> list[tuple[str, str]]:
        """`date`, where the clouds' clock is not this machine's: else the server says it."""
        if not self.clock.skew_s:
            return []
        return [("date", formatdate(self.clock.wall_s(), usegmt=True))]

    def refuse(self, door: Door, visitor: Visitor) -> Denial | None:
        """None if the door opens."""
        return refuse(door, visitor, self.keys)

    async def answer(self, asked: Question) -> Reply:
        """What a token endpoint says, when it says it."""
        return await self._endpoints.answer(asked)

    async def control(
        self, method: str, path: str, order: Mapping[str, object], base_url: str
    ) -> tuple[int, object]:
        """An order of a test.

        Args:
            base_url: of this emulator as the test sees it.

        Raises:
            TokenScriptError: the order cannot be read.
        """
        name = path.removeprefix(PREFIX)
        match method, name:
            case "GET", "report":
                return 200, {"asks": self._script.asks(), "known": self.keys.summary()}
            case "GET", "service_account":
                uri = f"{base_url}{PREFIX}google_token/token"
                return 200, await asyncio.to_thread(self._endpoints.account.key_file, uri)
            case "GET", "certificate":
                return 200, await asyncio.to_thread(self._endpoints.certificates.own)
            case "POST", "certificate":
                return 200, {"x5t#S256": self._register(order)}
            case "GET", "user":
                return 200, user_file(f"{base_url}{PREFIX}google_token/token")
            case "POST", "script":
                self._script.set(order)
                return 200, {"endpoint": order.get("endpoint", "*")}
            case "POST", "clock":
                self.clock.skew_s = _number(order, "skew_s", 0.0)
                return 200, {"skew_s": self.clock.skew_s}
            case "POST", "token":
                kind = next((each for each in KINDS if each == order.get("kind")), None)
                if kind is None:
                    raise TokenScriptError(f"kind must be one of {', '.join(KINDS)}")
                audience = str(order.get("audience", "https://cognitiveservices.azure.com"))
                life_s = _number(order, "expires_in_s", _HOUR_S)
                return 200, {"access_token": self.keys.issue(kind, life_s, audience).value}
            case "POST", "keys":
                return 200, self._new_keys(order)
            case "POST", "revoke":
                return 200, {"revoked": self._revoke(order)}
            case "POST", "rotate":
                endpoint = order.get("endpoint", "*")
                if endpoint != "*" and endpoint not in ENDPOINTS:
                    raise TokenScriptError(f"endpoint must be * or one of {', '.join(ENDPOINTS)}")
                self._endpoints.rotate(str(endpoint))
                return 200, {"endpoint": endpoint}
            case _:
                return 404, {"error": "no such path"}

    def _new_keys(self, order: Mapping[str, object]) -> dict[str, str]:
        if order.get("kind") == "static":
            return {"access_key_id": ACCESS_KEY_ID, "secret_access_key": SECRET_ACCESS_KEY}
        is_session = "expires_in_s" in order
        life_s = _number(order, "expires_in_s", _HOUR_S) if is_session else None
        keys = self.keys.issue_pair(life_s)
        return {
            "access_key_id": keys.access_key_id,
            "secret_access_key": keys.secret_access_key,
            "session_token": keys.session_token,
        }

    def _register(self, order: Mapping[str, object]) -> str:
        try:
            return self._endpoints.certificates.register(
                str(order.get("certificate", "")), alone=order.get("alone") is True
            )
        except ValueError:
            raise TokenScriptError("certificate must be one of an RSA key, in PEM") from None

    def _revoke(self, order: Mapping[str, object]) -> int:
        value, kind = order.get("value"), order.get("kind")
        if isinstance(value, str) and value:
            return self.keys.revoke(value)
        if isinstance(kind, str) and kind in (*KINDS, "aws", "*"):
            return self.keys.revoke_all(kind)
        raise TokenScriptError("a value, or a kind of google, entra, aws or * was expected")


def _number(order: Mapping[str, object], name: str, default: float) -> float:
    value = order.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TokenScriptError(f"{name} must be a number")
    return float(value)
