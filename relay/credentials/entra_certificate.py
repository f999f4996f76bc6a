"""An app registration with a certificate: a signed assertion in the place of a secret (RFC 7523).

Source: msal 1.39, `application.py` (`_build_client`) and `oauth2cli/assertion.py`: PS256 with the
SHA-256 of the certificate. azure-identity 1.27 still has it sign RS256 with the SHA-1 one.
"""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from relay.config.client_certificate import (
    FILE,
    ClientCertificate,
    client_certificate,
    fault_of_days,
)
from relay.credentials.ask import Answer, Ask
from relay.credentials.clock_offset import ClockOffset
from relay.credentials.jwt import BEARER_ASSERTION, encoded, signed_ps256
from relay.credentials.token import FORM_HEADERS, AccessToken, TokenCredential, token_in
from relay.errors import CredentialUnavailable

if TYPE_CHECKING:
    from relay.config.credentials import AzureEntraConfig

LIFE_S = 600
"""Of an assertion; Microsoft's page asks for five to ten minutes."""


class CertificateCredential(TokenCredential):
    """Reads its file anew for every token, so that the certificate may be exchanged under it.

    A machine's clock that is off is found by the Date header of a refusal, and the assertion is
    signed once more by Entra's clock. A certificate that has ended is sent all the same, since the
    clock may be the one that is wrong; the refusal is told with the day of its end.
    """

    kind: ClassVar[str] = "azure_entra"

    def __init__(
        self,
        url: str,
        client_id: str,
        scope: str,
        path: str,
        password: str | None,
        *,
        sends_chain: bool,
    ) -> None:
        """
        Args:
            url: the token endpoint, which assertions are for.
            sends_chain: the file's certificates go into the head, the key's own first.

        Raises:
            ValueError: the file cannot be read, or used; begins with the field.
        """
        self._passwords = () if password is None else (password,)
        super().__init__("client_certificate", secrets=self._passwords)
        self._url = url
        self._client_id = client_id
        self._scope = scope
        self._path = path
        self._password = password
        self._sends_chain = sends_chain
        self._clock = ClockOffset()
        try:
            self._content = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{FILE}: cannot read {path}: {error.strerror}") from error
        self._signer = self._signer_of(self._content)

    def _signer_of(self, content: bytes) -> _Signer:
        certificate = client_certificate(content, self._path, self._password)
        return _Signer(certificate, sends_chain=self._sends_chain)

    async def _fetch(self, ask: Ask) -> AccessToken:
        content = await ask.file(self._path)
        if content != self._content:
            try:
                self._signer = await ask.work(lambda: self._signer_of(content))
            except ValueError as error:
                raise CredentialUnavailable(str(error)) from None
            self._content = content
        answer = await self._ask_once(ask)
        is_elsewhere = self._clock.observe(answer.headers, ask.wall_s())
        if is_elsewhere and answer.status in (400, 401):
            answer = await self._ask_once(ask)  # by Entra's clock
        try:
            return token_in(answer, ask.wall_s())
        except CredentialUnavailable as error:
            fault = self._signer.fault(self._clock.now_s(ask.wall_s()))
            if not fault:
                raise
            raise CredentialUnavailable(
                f"{error.public_message}; {FILE}: {fault}", metadata=error.metadata
            ) from None

    async def _ask_once(self, ask: Ask) -> Answer:
        now_s = int(self._clock.now_s(ask.wall_s()))
        claims = {
            "aud": self._url,
            "iss": self._client_id,
            "sub": self._client_id,
            "jti": str(uuid.uuid4()),
            "iat": now_s,
            "nbf": now_s,
            "exp": now_s + LIFE_S,
        }
        signer = self._signer
        assertion = await ask.work(lambda: signer.signed(claims))
        self._secrets = (*self._passwords, assertion)
        form = {
            "client_id": self._client_id,
            "client_assertion_type": BEARER_ASSERTION,
            "client_assertion": assertion,
            "grant_type": "client_credentials",
            "scope": self._scope,
        }
        return await ask("POST", self._url, FORM_HEADERS, urlencode(form).encode())


class _Signer:
    """Who signs, and the head that says by which certificate."""

    __slots__ = ("_certificate", "_head")

    def __init__(self, certificate: ClientCertificate, *, sends_chain: bool) -> None:
        self._certificate = certificate
        # RFC 7515: the digest in base64url (4.1.8), certificates in plain base64 (4.1.6).
        self._head: dict[str, Any] = {
            "x5t#S256": encoded(certificate.leaf.fingerprint(SHA256())).decode()
        }
        if sends_chain:
            self._head["x5c"] = [
                base64.b64encode(each.public_bytes(Encoding.DER)).decode()
                for each in certificate.chain
            ]

    def signed(self, claims: dict[str, Any]) -> str:
        """Takes milliseconds."""
        return signed_ps256(self._certificate.key, self._head, claims)

    def fault(self, wall_s: float) -> str:
        """What is wrong with the days of the certificate; empty if nothing is."""
        return fault_of_days(self._certificate.leaf, datetime.fromtimestamp(wall_s, UTC))


def build(config: AzureEntraConfig, url: str, client_id: str) -> CertificateCredential:
    """
    Raises:
        ValueError: as of the credential.
    """
    password = config.certificate_password
    try:
        return CertificateCredential(
            url,
            client_id,
            config.scope,
            config.certificate_file or "",
            None if password is None else password.get_secret_value(),
            sends_chain=config.send_chain,
        )
    except ValueError as error:
        raise ValueError(f"credential.{error}") from None
