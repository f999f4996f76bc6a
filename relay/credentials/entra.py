"""`kind: azure_entra`: access tokens of Microsoft Entra, by flows of one request each.

Source: azure-identity 1.27, `_credentials/{client_secret,workload_identity,imds,app_service}.py`,
and msal 1.39, `oauth2cli/assertion.py`, pointed at a loopback server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlencode

from relay.credentials import entra_certificate
from relay.credentials.ask import Ask
from relay.credentials.google_file import is_address, is_token_address
from relay.credentials.jwt import BEARER_ASSERTION
from relay.credentials.token import FORM_HEADERS, AccessToken, TokenCredential, token_in
from relay.errors import CredentialUnavailable

if TYPE_CHECKING:
    from relay.config.credentials import AzureEntraConfig
    from relay.config.providers import ProviderConfig

IMDS_URL = "http://169.254.169.254/metadata/identity/oauth2/token"
IMDS_VERSION = "2018-02-01"
APP_SERVICE_VERSION = "2019-08-01"


class ClientSecretCredential(TokenCredential):
    """An app registration with a secret."""

    kind: ClassVar[str] = "azure_entra"

    def __init__(self, url: str, client_id: str, client_secret: str, scope: str) -> None:
        super().__init__("client_secret", secrets=(client_secret,))
        self._url = url
        self._form = {
            "client_id": client_id,
            "client_secret": client_secret,
            "grant_type": "client_credentials",
            "scope": scope,
        }

    async def _fetch(self, ask: Ask) -> AccessToken:
        answer = await ask("POST", self._url, FORM_HEADERS, urlencode(self._form).encode())
        return token_in(answer, ask.wall_s())


class WorkloadCredential(TokenCredential):
    """A federated token in a file, which Kubernetes writes anew every hour: read each time."""

    kind: ClassVar[str] = "azure_entra"

    def __init__(self, url: str, client_id: str, token_file: str, scope: str) -> None:
        super().__init__("workload")
        self._url = url
        self._file = token_file
        self._form = {
            "client_id": client_id,
            "client_assertion_type": BEARER_ASSERTION,
            "grant_type": "client_credentials",
            "scope": scope,
        }

    async def _fetch(self, ask: Ask) -> AccessToken:
        try:
            assertion = (await ask.file(self._file)).decode("ascii").strip()
        except UnicodeDecodeError:
            assertion = ""
        if not assertion:
            raise CredentialUnavailable(f"{self._file}: this is no token")
        self._secrets = (assertion,)
        form = {**self._form, "client_assertion": assertion}
        answer = await ask("POST", self._url, FORM_HEADERS, urlencode(form).encode())
        return token_in(answer, ask.wall_s())


class ManagedIdentityCredential(TokenCredential):
    """Of the machine (IMDS), or of App Service, Functions and Container Apps, which say where to
    ask. Through no proxy. The same token comes for hours: Azure keeps it, too.

    Args:
        client_id: of a user-assigned identity; None for the system's.
        endpoint: App Service's; None for the machine's.
        header: App Service's secret for the endpoint.
    """

    kind: ClassVar[str] = "azure_entra"

    def __init__(
        self, scope: str, client_id: str | None, endpoint: str | None, header: str
    ) -> None:
        super().__init__("managed_identity", secrets=(header,) if header else ())
        query = {"resource": scope.removesuffix("/.default")}
        if client_id:
            query["client_id"] = client_id
        if endpoint is None:
            self._headers = [("metadata", "true")]
            query = {"api-version": IMDS_VERSION, **query}
            self._url = f"{IMDS_URL}?{urlencode(query)}"
        else:
            self._headers = [("x-identity-header", header)]
            query = {"api-version": APP_SERVICE_VERSION, **query}
            self._url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"

    async def _fetch(self, ask: Ask) -> AccessToken:
        answer = await ask("GET", self._url, self._headers, is_local=True)
        return token_in(answer, ask.wall_s())


def build(config: AzureEntraConfig, row: ProviderConfig) -> TokenCredential:
    """
    Raises:
        ValueError: an address is none.
    """
    if config.source == "managed_identity":
        endpoint = config.identity_endpoint
        if endpoint is not None and not is_address(endpoint):
            raise ValueError("credential.identity_endpoint: an http:// address is expected")
        header = config.identity_header
        return ManagedIdentityCredential(
            config.scope,
            config.client_id,
            endpoint,
            "" if header is None else header.get_secret_value(),
        )
    authority = config.authority if "://" in config.authority else f"https://{config.authority}"
    if not is_token_address(authority):
        raise ValueError("credential.authority: an https:// address is expected")
    tenant = quote(config.tenant_id or "", safe="")
    url = f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token"
    client_id = config.client_id or ""
    if config.source == "workload":
        return WorkloadCredential(url, client_id, config.token_file or "", config.scope)
    if config.source == "client_certificate":
        return entra_certificate.build(config, url, client_id)
    secret = config.client_secret
    text = "" if secret is None else secret.get_secret_value()
    return ClientSecretCredential(url, client_id, text, config.scope)
