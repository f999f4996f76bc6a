"""A service account's key file for an access token (RFC 7523).

Source: google-auth 2.63, `google/oauth2/service_account.py` and `_client.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar
from urllib.parse import urlencode

from relay.credentials.ask import Answer, Ask
from relay.credentials.clock_offset import ClockOffset
from relay.credentials.google_file import file_object, text_in, token_uri_in
from relay.credentials.jwt import rsa_key, signed_rs256
from relay.credentials.token import AccessToken, TokenCredential, token_in
from relay.errors import CredentialUnavailable
from relay.transport.base import Headers

AUDIENCE = "https://oauth2.googleapis.com/token"
"""Of assertions, wherever they are sent."""
LIFE_S = 3600

_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")
"""Ids of an organisation hold colons."""

_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class ServiceAccountCredential(TokenCredential):
    """Reads its file anew for every token, so that a key may be exchanged under it.

    A machine's clock that is off is found by the Date header of the token endpoint: Google refuses
    assertions that are not for now.
    """

    kind: ClassVar[str] = "google"

    def __init__(
        self,
        path: str,
        content: bytes,
        scopes: Sequence[str],
        token_uri: str | None,
        quota_project: str | None,
    ) -> None:
        """
        Args:
            content: of the file now.
            token_uri: in the place of the file's.

        Raises:
            ValueError: it is no key file of a service account.
        """
        self._path = path
        self._content = content
        self._account = _Account(file_object(content, path), path)
        self._scope = " ".join(scopes)
        self._token_uri = token_uri
        self._clock = ClockOffset()
        super().__init__("service_account", beside=quota_headers(quota_project))

    async def _fetch(self, ask: Ask) -> AccessToken:
        content = await ask.file(self._path)
        if content != self._content:
            try:
                self._account = _Account(file_object(content, self._path), self._path)
            except ValueError as error:
                raise CredentialUnavailable(str(error)) from None
            self._content = content
        answer = await self._ask_once(ask)
        if self._clock.observe(answer.headers, ask.wall_s()) and answer.status == 400:
            answer = await self._ask_once(ask)  # by Google's clock
        return token_in(answer, ask.wall_s())

    async def _ask_once(self, ask: Ask) -> Answer:
        account = self._account
        now_s = int(self._clock.now_s(ask.wall_s()))
        claims = {
            "iat": now_s,
            "exp": now_s + LIFE_S,
            "iss": account.email,
            "aud": AUDIENCE,
            "scope": self._scope,
        }
        head = {"kid": account.key_id} if account.key_id else {}
        form = {"assertion": signed_rs256(account.key, head, claims), "grant_type": _GRANT}
        return await ask(
            "POST",
            self._token_uri or account.token_uri,
            [("content-type", "application/x-www-form-urlencoded")],
            urlencode(form).encode(),
        )


class _Account:
    """What the file says."""

    __slots__ = ("email", "key", "key_id", "token_uri")

    def __init__(self, told: dict[str, Any], path: str) -> None:
        self.email = text_in(told, "client_email", path)
        self.token_uri = token_uri_in(told, path)
        key_id = told.get("private_key_id")
        self.key_id = key_id if isinstance(key_id, str) else ""
        try:
            self.key = rsa_key(text_in(told, "private_key", path).encode())
        except ValueError as error:
            raise ValueError(f"{path}: private_key: {error}") from None


def quota_headers(project: str | None) -> Headers:
    """Who is charged with quota, where that is another than the credential's own project.

    Raises:
        ValueError: it is no name of a project.
    """
    if not project:
        return []
    if not _PROJECT.fullmatch(project):
        raise ValueError("the quota project is no id of a project")
    return [("x-goog-user-project", project)]
