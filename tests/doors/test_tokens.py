"""The clouds' own credential libraries at the emulator's token endpoints.

What they get there opens the doors; what they ask is kept by the recorder, for whoever asks the
same without them.
"""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import azure.identity
import boto3
import botocore.exceptions
import google.auth.compute_engine
import google.auth.exceptions
import google.auth.transport.requests
import openai
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account

from tests.doors import test_vertex_genai as vertex
from tests.doors.conversation import CHAT_TURNS, CONVERSE_TURNS, HELLO
from tests.doors.world import World

SCOPE = "https://cognitiveservices.azure.com/.default"
CLOUD = ["https://www.googleapis.com/auth/cloud-platform"]


@pytest.fixture(autouse=True)
def _usual_clouds(world: World) -> Iterator[None]:
    yield
    for name in ("script", "clock", "rotate"):
        world.order(name)


def opens_vertex(world: World, credentials: Any) -> None:
    """Ask Vertex with what the library fetches."""
    client = vertex.by_token(world, credentials.token)
    assert client.models.generate_content(model=world.scripted(), contents=HELLO).text


class TestGoogle:
    @staticmethod
    def account(world: World) -> Any:
        info = world.get("/emulator/cloud/service_account")
        return service_account.Credentials.from_service_account_info(info, scopes=CLOUD)

    @staticmethod
    def refreshed(credentials: Any) -> Any:
        credentials.refresh(google.auth.transport.requests.Request())
        return credentials

    def test_service_account(self, world: World) -> None:
        made = self.refreshed(self.account(world))
        opens_vertex(world, made)
        left = made.expiry - datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        assert 3500 < left.total_seconds() <= 3601

    def test_user(self, world: World) -> None:
        info = world.get("/emulator/cloud/user")
        made = user_credentials.Credentials(None, **_without(info, "type"))
        opens_vertex(world, self.refreshed(made))

    def test_metadata_server(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        _metadata_at(world, monkeypatch)
        made = self.refreshed(google.auth.compute_engine.Credentials())
        opens_vertex(world, made)
        again = self.refreshed(google.auth.compute_engine.Credentials())
        assert again.token == made.token
        world.order("rotate", endpoint="google_metadata")
        assert self.refreshed(google.auth.compute_engine.Credentials()).token != made.token

    def test_a_clock_that_is_an_hour_slow(self, world: World) -> None:
        world.order("clock", skew_s=4000)
        with pytest.raises(google.auth.exceptions.RefreshError, match="reasonable timeframe"):
            self.refreshed(self.account(world))

    def test_an_account_that_was_deleted(self, world: World) -> None:
        world.order("script", endpoint="google_token", status=400, error="invalid_grant")
        with pytest.raises(google.auth.exceptions.RefreshError, match="invalid_grant"):
            self.refreshed(self.account(world))

    def test_trouble_that_passes(self, world: World) -> None:
        world.order("script", endpoint="google_token", next=1, status=503)
        opens_vertex(world, self.refreshed(self.account(world)))


class TestAzure:
    @staticmethod
    def trusting(world: World) -> Any:
        """Arguments for which the library believes the emulator to be its authority."""
        return {
            "connection_verify": world.ca_file,
            "authority": world.tls_url.removeprefix("https://"),
            "disable_instance_discovery": True,
        }

    @staticmethod
    def opens_azure(world: World, token: str) -> None:
        with openai.AzureOpenAI(
            azure_endpoint=world.url,
            api_version="2024-10-21",
            azure_ad_token=token,
            max_retries=0,
        ) as client:
            client.chat.completions.create(model=world.scripted(), messages=CHAT_TURNS)

    def test_client_secret(self, world: World) -> None:
        made = azure.identity.ClientSecretCredential("t", "c", "s", **self.trusting(world))
        token = made.get_token(SCOPE)
        self.opens_azure(world, token.token)

    @pytest.mark.parametrize("sends_chain", [False, True])
    def test_certificate(self, world: World, tmp_path: Path, sends_chain: bool) -> None:
        file = tmp_path / "app.pem"
        file.write_text(world.get("/emulator/cloud/certificate")["pem"])
        made = azure.identity.CertificateCredential(
            "t", "c", str(file), send_certificate_chain=sends_chain, **self.trusting(world)
        )
        self.opens_azure(world, made.get_token(SCOPE).token)

    def test_a_certificate_by_a_clock_that_is_wrong(self, world: World, tmp_path: Path) -> None:
        file = tmp_path / "app.pem"
        file.write_text(world.get("/emulator/cloud/certificate")["pem"])
        world.order("clock", skew_s=4000)
        made = azure.identity.CertificateCredential("t", "c", str(file), **self.trusting(world))
        with pytest.raises(ClientAuthenticationError, match="AADSTS700024"):
            made.get_token(SCOPE)

    def test_workload(self, world: World, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text("e.y.J")
        made = azure.identity.WorkloadIdentityCredential(
            tenant_id="t", client_id="c", token_file_path=str(file), **self.trusting(world)
        )
        self.opens_azure(world, made.get_token(SCOPE).token)

    def test_machine(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.url)
        made = azure.identity.ManagedIdentityCredential()
        self.opens_azure(world, made.get_token(SCOPE).token)

    def test_app_service(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        endpoint = f"{world.url}/emulator/cloud/app_service/msi/token"
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", "a-header")
        made = azure.identity.ManagedIdentityCredential()
        self.opens_azure(world, made.get_token(SCOPE).token)

    def test_a_wrong_secret(self, world: World) -> None:
        made = azure.identity.ClientSecretCredential("t", "c", "bad-secret", **self.trusting(world))
        with pytest.raises(ClientAuthenticationError, match="AADSTS7000215"):
            made.get_token(SCOPE)


class TestAws:
    @staticmethod
    def opens_bedrock(world: World) -> str:
        """Ask with whatever the library finds; the id of the pair."""
        session = boto3.Session()
        client = session.client("bedrock-runtime", endpoint_url=world.url, region_name="us-east-1")
        client.converse(modelId=world.scripted(), messages=CONVERSE_TURNS)
        found = session.get_credentials()
        assert found is not None
        return str(found.access_key)

    def test_machine(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", world.url)
        first = self.opens_bedrock(world)
        assert self.opens_bedrock(world) == first
        world.order("rotate", endpoint="aws_imds")
        assert self.opens_bedrock(world) != first

    def test_container(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{world.url}/v2/credentials/task")
        assert self.opens_bedrock(world).startswith("ASIA")

    def test_web_identity(
        self, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("e.y.J")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/r")
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", world.url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        assert self.opens_bedrock(world).startswith("ASIA")
        file.write_text("bad-secret")
        with pytest.raises(botocore.exceptions.ClientError, match="InvalidIdentityToken"):
            self.opens_bedrock(world)


def test_https_is_of_the_emulator_s_own_authority(world: World) -> None:
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(world.tls_url, timeout=5)
    assert ssl.create_default_context(cafile=world.ca_file).get_ca_certs()


def _without(info: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name not in names}


def _metadata_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library reads the address once, at import."""
    from google.auth.compute_engine import _metadata

    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", world.url.removeprefix("http://"))
