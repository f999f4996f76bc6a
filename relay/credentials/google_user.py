"""The file of `gcloud auth application-default login`: a refresh token for access tokens.

Source: google-auth 2.63, `google/oauth2/credentials.py` and `_client.py`.
"""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlencode

from relay.credentials.ask import Ask
from relay.credentials.google_file import file_object, text_in, token_uri_in
from relay.credentials.google_service_account import quota_headers
from relay.credentials.token import AccessToken, TokenCredential, token_in
from relay.errors import CredentialUnavailable


class UserCredential(TokenCredential):
    """Reads its file anew for every token: who logs in again is taken at the next."""

    kind: ClassVar[str] = "google"

    def __init__(
        self, path: str, content: bytes, token_uri: str | None, quota_project: str | None
    ) -> None:
        """
        Args:
            content: of the file now.
            token_uri: in the place of the file's.

        Raises:
            ValueError: it is no such file.
        """
        self._path = path
        self._token_uri = token_uri
        told = file_object(content, path)
        named = told.get("quota_project_id")
        project = quota_project or (named if isinstance(named, str) else None)
        try:
            beside = quota_headers(project)
        except ValueError as error:
            raise ValueError(f"{path}: quota_project_id: {error}") from None
        super().__init__("user", beside=beside)
        self._form, self._uri = self._read(content)

    def _read(self, content: bytes) -> tuple[dict[str, str], str]:
        told = file_object(content, self._path)
        names = ("client_id", "client_secret", "refresh_token")
        form = {name: text_in(told, name, self._path) for name in names}
        # The secrets of the file before are wanted no more: what was asked with them is answered.
        self._secrets = (form["client_secret"], form["refresh_token"])
        return form, self._token_uri or token_uri_in(told, self._path)

    async def _fetch(self, ask: Ask) -> AccessToken:
        content = await ask.file(self._path)
        try:
            self._form, self._uri = self._read(content)
        except ValueError as error:
            raise CredentialUnavailable(str(error)) from None
        answer = await ask(
            "POST",
            self._uri,
            [("content-type", "application/x-www-form-urlencoded")],
            urlencode({"grant_type": "refresh_token", **self._form}).encode(),
        )
        return token_in(answer, ask.wall_s())
