"""`providers.*.credential`: who the relay is at a provider, one model a kind.

References (`${ENV}`, `${file:PATH}`) and the vendors' own well-known variables are looked up here,
once, so that what is behind needs neither an environment nor a folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from relay.config.model import Model
from relay.config.references import (
    Surroundings,
    resolve_password,
    resolve_secret,
    surroundings,
)
from relay.config.secret import Secret


def _secret(value: object, info: ValidationInfo) -> object:
    return None if value is None else resolve_secret(value, surroundings(info))


def _file(value: str | None, info: ValidationInfo) -> str | None:
    """The path from here, of a file that is there. Its content is read by whoever needs it, anew
    each time where it may have changed."""
    if value is None:
        return None
    path = surroundings(info).folder / value
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return str(path)


def _fill(value: Any, info: ValidationInfo, variables: dict[str, str]) -> Any:
    """Fields that are left out, from the variables that the vendor's own tools look at."""
    if not isinstance(value, dict):
        return value
    environment = surroundings(info).environment
    found = {
        name: environment[variable]
        for name, variable in variables.items()
        if value.get(name) is None and environment.get(variable)
    }
    return {**value, **found}


class StaticConfig(Model):
    """Keys as a console gives them out."""

    kind: Literal["static"] = "static"
    api_keys: tuple[Secret, ...] = Field((), description="the first that is not refused serves")
    spread_keys: bool = Field(
        False,
        description="sessions are spread over the keys; else all use the first, which is better"
        " for the provider's prompt cache",
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, value: object, info: ValidationInfo) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError("a list of secrets is expected")  # noqa: TRY004 - pydantic's protocol
        return tuple(_secret(item, info) for item in value)


class GoogleConfig(Model):
    """Access tokens of Google Cloud, of an hour each."""

    kind: Literal["google"] = "google"
    source: Literal["default", "service_account", "user", "metadata", "library"] = Field(
        "default",
        description="default: the file of GOOGLE_APPLICATION_CREDENTIALS, then gcloud's, then the"
        " metadata server; library: google-auth's own search, for what the others do not do"
        " (workload identity federation, impersonation), with the extra `google`",
    )
    file: str | None = Field(
        None,
        description="JSON of a service account, or of `gcloud auth application-default login`;"
        " relative to this file's folder",
    )
    scopes: tuple[str, ...] = ("https://www.googleapis.com/auth/cloud-platform",)
    service_account: str = Field("default", description="of the metadata server: which account")
    metadata_host: str = Field(
        "metadata.google.internal", description="default: GCE_METADATA_HOST, where it is set"
    )
    token_uri: str | None = Field(None, description="default: the one that the file names")
    quota_project: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="who is charged with quota; default: what the file says",
    )

    @model_validator(mode="before")
    @classmethod
    def _surrounding(cls, value: Any, info: ValidationInfo) -> Any:
        value = _fill(value, info, {"metadata_host": "GCE_METADATA_HOST"})
        if (
            isinstance(value, dict)
            and value.get("source", "default") == "default"
            and value.get("file") is None
        ):
            return {**value, "file": _google_file(surroundings(info))}
        return value

    @field_validator("file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return _file(value, info)

    @model_validator(mode="after")
    def _has_file(self) -> GoogleConfig:
        if self.source in ("service_account", "user") and self.file is None:
            raise ValueError(f"source: {self.source} needs `file`")
        return self


def _google_file(around: Surroundings) -> str | None:
    """Where Google's own libraries look for application default credentials; None for nowhere.

    Source: google-auth's `_default.py` and `_cloud_sdk.py` (2.x).
    """
    if named := around.environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        return str(Path(named).absolute())  # from where the relay was started, as theirs
    if folder := around.environment.get("CLOUDSDK_CONFIG"):
        found = Path(folder) / "application_default_credentials.json"
    elif home := around.environment.get("HOME"):
        found = Path(home) / ".config" / "gcloud" / "application_default_credentials.json"
    else:
        return None
    return str(found.absolute()) if found.is_file() else None


class AzureEntraConfig(Model):
    """Access tokens of Microsoft Entra."""

    kind: Literal["azure_entra"] = "azure_entra"
    source: Literal["client_secret", "client_certificate", "workload", "managed_identity"] = Field(
        "client_secret",
        description="client_secret, client_certificate: of an app registration; workload: a"
        " federated token that Kubernetes keeps in a file; managed_identity: of the machine or App"
        " Service",
    )
    tenant_id: str | None = Field(None, description="default: AZURE_TENANT_ID")
    client_id: str | None = Field(
        None,
        description="default: AZURE_CLIENT_ID, but for a managed identity: without one it is the"
        " machine's own",
    )
    client_secret: Secret | None = None
    certificate_file: str | None = Field(
        None,
        description="certificate and private key (RSA), PEM or PKCS#12; default:"
        " AZURE_CLIENT_CERTIFICATE_PATH, with AZURE_CLIENT_CERTIFICATE_PASSWORD and"
        " AZURE_CLIENT_SEND_CERTIFICATE_CHAIN",
    )
    certificate_password: Secret | None = Field(
        None, description="of the private key in it, where that is encrypted"
    )
    send_chain: bool = Field(
        False,
        description="send the file's certificates along (x5c), for apps that are registered by"
        " subject name and issuer",
    )
    token_file: str | None = Field(None, description="default: AZURE_FEDERATED_TOKEN_FILE")
    authority: str = Field(
        "https://login.microsoftonline.com", description="default: AZURE_AUTHORITY_HOST"
    )
    scope: str = Field(
        "https://cognitiveservices.azure.com/.default", description="default: the door's"
    )
    identity_endpoint: str | None = Field(
        None, description="of App Service; default: IDENTITY_ENDPOINT; without it the machine's"
    )
    identity_header: Secret | None = Field(None, description="default: IDENTITY_HEADER")

    @model_validator(mode="before")
    @classmethod
    def _surrounding(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        around = surroundings(info)
        source = value.get("source", "client_secret")
        if source == "managed_identity":
            # Not AZURE_CLIENT_ID, which names an app: azure-identity's ManagedIdentityCredential
            # takes no client_id but the one that it is given, either.
            filled = _fill(value, info, {"identity_endpoint": "IDENTITY_ENDPOINT"})
            header = around.environment.get("IDENTITY_HEADER")
            if header and filled.get("identity_header") is None:
                filled = {**filled, "identity_header": Secret(header)}
            return filled
        variables = {
            "tenant_id": "AZURE_TENANT_ID",
            "client_id": "AZURE_CLIENT_ID",
            "authority": "AZURE_AUTHORITY_HOST",
        }
        if source == "workload":
            variables["token_file"] = "AZURE_FEDERATED_TOKEN_FILE"  # noqa: S105 - a name
        if source == "client_certificate" and value.get("certificate_file") is None:
            value = {**value, **_azure_certificate(value, around.environment)}
        return _fill(value, info, variables)

    @field_validator("client_secret", "identity_header", mode="before")
    @classmethod
    def _secrets(cls, value: object, info: ValidationInfo) -> object:
        return _secret(value, info)

    @field_validator("certificate_password", mode="before")
    @classmethod
    def _password(cls, value: object, info: ValidationInfo) -> object:
        return None if value is None else resolve_password(value, surroundings(info))

    @field_validator("token_file", "certificate_file")
    @classmethod
    def _readable(cls, value: str | None, info: ValidationInfo) -> str | None:
        return _file(value, info)

    @model_validator(mode="after")
    def _is_whole(self) -> AzureEntraConfig:
        wanted: tuple[str, ...] = ()
        if self.source == "client_certificate":
            wanted = ("tenant_id", "client_id", "certificate_file")
            if self.client_secret is not None:
                raise ValueError("client_secret: `source: client_certificate` sends none")
        elif given := [name for name in _OF_CERTIFICATES if getattr(self, name)]:
            raise ValueError(f"{given[0]}: only `source: client_certificate` has one")
        elif self.source == "client_secret":
            wanted = ("tenant_id", "client_id", "client_secret")
        elif self.source == "workload":
            wanted = ("tenant_id", "client_id", "token_file")
        elif self.identity_endpoint is not None:
            wanted = ("identity_header",)
        if missing := [name for name in wanted if not getattr(self, name)]:
            raise ValueError(f"source: {self.source} needs {', '.join(missing)}")
        return self


_OF_CERTIFICATES = ("certificate_file", "certificate_password", "send_chain")


def _azure_certificate(given: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the variables of Azure's own libraries say of a certificate: they belong together, so
    none of them is taken for a file that is named elsewhere.

    Source: azure-identity's `_credentials/environment.py` (1.27); of its other languages, that
    "1" and "true" mean yes.
    """
    path = environment.get("AZURE_CLIENT_CERTIFICATE_PATH")
    if not path:
        return {}
    # From where the relay was started, as theirs.
    found: dict[str, Any] = {"certificate_file": str(Path(path).absolute())}
    password = environment.get("AZURE_CLIENT_CERTIFICATE_PASSWORD")
    if password and given.get("certificate_password") is None:
        found["certificate_password"] = Secret(password)
    sends = environment.get("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "").lower()
    if given.get("send_chain") is None:
        found["send_chain"] = sends in ("1", "true")
    return found


class AwsSigV4Config(Model):
    """Signatures of AWS, made for each request."""

    kind: Literal["aws_sigv4"] = "aws_sigv4"
    source: Literal["keys", "chain"] = Field(
        "keys",
        description="chain: botocore's own search (environment, profiles, SSO, web identity,"
        " containers, instances), with the extra `aws`",
    )
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    session_token: Secret | None = Field(None, description="of temporary keys")
    profile: str | None = Field(None, description="of `chain`: of the shared AWS files")
    service: str = Field("bedrock", description="that is signed for; default: the door's")

    @field_validator("access_key_id", "secret_access_key", "session_token", mode="before")
    @classmethod
    def _secrets(cls, value: object, info: ValidationInfo) -> object:
        return _secret(value, info)

    @model_validator(mode="after")
    def _is_whole(self) -> AwsSigV4Config:
        given = [
            name
            for name in ("access_key_id", "secret_access_key", "session_token")
            if getattr(self, name) is not None
        ]
        if self.source == "chain":
            if given:
                raise ValueError(f"{given[0]}: `source: chain` finds its own keys")
            return self
        for name in ("access_key_id", "secret_access_key"):
            if name not in given:
                raise ValueError(f"{name}: is required, or `source: chain`")
        if self.profile is not None:
            raise ValueError("profile: only `source: chain` reads profiles")
        return self


CredentialConfig = Annotated[
    StaticConfig | GoogleConfig | AzureEntraConfig | AwsSigV4Config,
    Field(discriminator="kind"),
]
KINDS: Mapping[str, type[Model]] = {
    "static": StaticConfig,
    "google": GoogleConfig,
    "azure_entra": AzureEntraConfig,
    "aws_sigv4": AwsSigV4Config,
}

AnyCredentialConfig = StaticConfig | GoogleConfig | AzureEntraConfig | AwsSigV4Config
