"""The access token of the machine that we run on, from Google's metadata server.

It hands out the same token until some four minutes before its end.
Source: google-auth 2.63, `google/auth/compute_engine/_metadata.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import quote, urlencode

from relay.credentials.ask import Ask
from relay.credentials.google_service_account import quota_headers
from relay.credentials.token import AccessToken, TokenCredential, token_in


class MetadataCredential(TokenCredential):
    """Asks over plain HTTP, which is how it is served, and through no proxy.

    Args:
        host: name or address, with a port where it is not 80.
        account: `default`, or the address of one of the machine's accounts.
        scopes: none for those that the machine was given.
    """

    kind: ClassVar[str] = "google"

    def __init__(
        self, host: str, account: str, scopes: Sequence[str], quota_project: str | None
    ) -> None:
        super().__init__("metadata", beside=quota_headers(quota_project))
        query = f"?{urlencode({'scopes': ','.join(scopes)})}" if scopes else ""
        self._url = (
            f"http://{host}/computeMetadata/v1/instance/service-accounts/"
            f"{quote(account, safe='@')}/token{query}"
        )

    async def _fetch(self, ask: Ask) -> AccessToken:
        headers = [("metadata-flavor", "Google")]
        answer = await ask("GET", self._url, headers, is_local=True)
        return token_in(answer, ask.wall_s())
