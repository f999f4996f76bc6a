"""Token endpoints: what they hand out counts at the doors, and how the script bends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from tests.emulator.calls import plain_client
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

GEMINI = "/v1beta1/projects/p/locations/l/publishers/google/models/emu-instant:generateContent"
DEPLOYMENT = "/openai/deployments/emu-instant/chat/completions?api-version=2024-10-21"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}
MESSAGES = {"messages": [{"role": "user", "content": "Hi"}]}
ENTRA = "/emulator/cloud/entra/tenant/oauth2/v2.0/token"
FORM = {
    "grant_type": "client_credentials",
    "client_id": "c",
    "client_secret": "s",
    "scope": "https://cognitiveservices.azure.com/.default",
}
METADATA = "/computeMetadata/v1/instance/service-accounts/default/token"
FLAVOUR = {"metadata-flavor": "Google"}
COGNITIVE = "https://cognitiveservices.azure.com"


class Lab:
    """A client of one emulator."""

    def __init__(self, client: httpx2.Client, url: str) -> None:
        self._client = client
        self.url = url

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self._client.get(self.url + path, headers=headers)

    def form(self, path: str, fields: dict[str, str]) -> httpx2.Response:
        return self._client.post(self.url + path, data=fields)

    def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> httpx2.Response:
        return self._client.post(self.url + path, json=body, headers=headers)

    def put(self, path: str, headers: dict[str, str] | None = None) -> httpx2.Response:
        return self._client.put(self.url + path, headers=headers)

    def order(self, name: str, **fields: object) -> dict[str, Any]:
        answer = self.post(f"/emulator/cloud/{name}", fields)
        assert answer.status_code == 200, answer.text
        value = answer.json()
        assert isinstance(value, dict)
        return value

    def google(self, token: str) -> int:
        """The status that Vertex has for a token."""
        return self.post(GEMINI, CONTENTS, {"authorization": f"Bearer {token}"}).status_code

    def azure(self, token: str) -> int:
        """The status that Azure has for a token."""
        return self.post(DEPLOYMENT, MESSAGES, {"authorization": f"Bearer {token}"}).status_code


@pytest.fixture
def lab(emulator: EmulatorProcess) -> Iterator[Lab]:
    with plain_client() as client:
        made = Lab(client, emulator.base_url_plain)
        yield made
        made.order("script")
        made.order("clock")
        made.order("rotate")


def test_metadata_server(lab: Lab) -> None:
    assert lab.get(METADATA).status_code == 403
    assert lab.get("/emulator/cloud/google_metadata" + METADATA).status_code == 403
    answer = lab.get(METADATA, FLAVOUR)
    assert answer.headers["metadata-flavor"] == "Google"
    told = answer.json()
    assert told["token_type"] == "Bearer"
    assert 3590 < told["expires_in"] <= 3600
    assert lab.google(told["access_token"]) == 200
    assert lab.get(METADATA, FLAVOUR).json()["access_token"] == told["access_token"]
    assert lab.get("/", FLAVOUR).status_code == 200
    project = "/computeMetadata/v1/project/project-id"
    assert lab.get(project, FLAVOUR).text == "emulator"


def test_a_token_runs_out_is_rotated_and_is_revoked(lab: Lab) -> None:
    short = lab.order("token", kind="google", expires_in_s=0)["access_token"]
    answer = lab.post(GEMINI, CONTENTS, {"authorization": f"Bearer {short}"})
    assert answer.status_code == 401
    assert answer.json()["error"]["details"][0]["reason"] == "ACCESS_TOKEN_EXPIRED"
    assert answer.headers["www-authenticate"].startswith("Bearer")
    first = lab.get(METADATA, FLAVOUR).json()["access_token"]
    lab.order("rotate", endpoint="google_metadata")
    second = lab.get(METADATA, FLAVOUR).json()["access_token"]
    assert first != second
    assert [lab.google(first), lab.google(second)] == [200, 200]
    assert lab.order("revoke", value=first) == {"revoked": 1}
    assert [lab.google(first), lab.google(second)] == [401, 200]
    assert lab.google("ya29.made-up") == 401
    lab.order("revoke", kind="google")
    assert lab.google(second) == 401
    # A machine's endpoint does not go on with one that was revoked.
    assert lab.google(lab.get(METADATA, FLAVOUR).json()["access_token"]) == 200


def test_entra(lab: Lab) -> None:
    told = lab.form(ENTRA, FORM).json()
    assert told["token_type"] == "Bearer"
    assert lab.azure(told["access_token"]) == 200
    assert lab.form("/tenant/oauth2/v2.0/token", FORM).status_code == 200
    found = lab.get("/emulator/cloud/entra/tenant/v2.0/.well-known/openid-configuration").json()
    assert found["token_endpoint"] == f"{lab.url}/tenant/oauth2/v2.0/token"
    other = lab.form(ENTRA, {**FORM, "scope": "https://management.azure.com/.default"}).json()
    assert lab.azure(other["access_token"]) == 401
    bad = lab.form(ENTRA, {**FORM, "client_secret": "bad-secret"})
    assert bad.status_code == 401
    assert bad.json()["error"] == "invalid_client"
    assert "AADSTS7000215" in bad.json()["error_description"]
    assert lab.form(ENTRA, {**FORM, "scope": "x"}).json()["error"] == "invalid_scope"
    assert lab.form(ENTRA, {**FORM, "grant_type": "x"}).status_code == 400
    federated = {name: value for name, value in FORM.items() if name != "client_secret"}
    federated |= {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": "e.y.J",
    }
    assert lab.azure(lab.form(ENTRA, federated).json()["access_token"]) == 200


def test_azure_machines(lab: Lab) -> None:
    imds = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={COGNITIVE}"
    assert lab.get(imds).status_code == 400
    told = lab.get(imds, {"metadata": "true"}).json()
    assert told["expires_in"].isdigit()
    assert lab.azure(told["access_token"]) == 200
    service = f"/emulator/cloud/app_service/msi/token?api-version=2019-08-01&resource={COGNITIVE}"
    assert lab.get(service).status_code == 403
    told = lab.get(service, {"x-identity-header": "x"}).json()
    assert told["expires_on"].isdigit()
    assert lab.azure(told["access_token"]) == 200
    old = service.replace("2019-08-01", "2017-09-01")
    assert lab.get(old, {"x-identity-header": "x"}).status_code == 400


def test_google_token(lab: Lab) -> None:
    service_account = pytest.importorskip("google.oauth2.service_account")
    info = lab.get("/emulator/cloud/service_account").json()
    assert info["token_uri"].startswith(lab.url)
    made = service_account.Credentials.from_service_account_info(
        info, scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )

    def asked(assertion: str) -> httpx2.Response:
        grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
        path = "/emulator/cloud/google_token/token"
        return lab.form(path, {"grant_type": grant, "assertion": assertion})

    assertion = made._make_authorization_grant_assertion().decode()
    answer = asked(assertion)
    assert lab.google(answer.json()["access_token"]) == 200
    assert asked(assertion[:-8] + "AAAAAAAA").json() == {
        "error": "invalid_grant",
        "error_description": "Invalid JWT Signature.",
    }
    assert asked("x").json()["error"] == "invalid_grant"
    # The cloud's clock an hour and more ahead: what is signed now has run out there.
    lab.order("clock", skew_s=4000)
    late = asked(assertion)
    assert late.status_code == 400
    assert "reasonable timeframe" in late.json()["error_description"]
    lab.order("clock", skew_s=-4000)
    assert "reasonable timeframe" in asked(assertion).json()["error_description"]


def test_google_refresh_token(lab: Lab) -> None:
    user = lab.get("/emulator/cloud/user").json()
    form = {name: user[name] for name in ("client_id", "client_secret", "refresh_token")}
    form["grant_type"] = "refresh_token"
    path = "/emulator/cloud/google_token/token"
    assert lab.google(lab.form(path, form).json()["access_token"]) == 200
    revoked = lab.form(path, {**form, "refresh_token": "bad-secret"})
    assert (revoked.status_code, revoked.json()["error"]) == (400, "invalid_grant")


def test_aws_machines(lab: Lab) -> None:
    roles = "/latest/meta-data/iam/security-credentials/"
    assert lab.get(roles).status_code == 401
    assert lab.put("/latest/api/token").status_code == 400
    ttl = {"x-aws-ec2-metadata-token-ttl-seconds": "21600"}
    session = {"x-aws-ec2-metadata-token": lab.put("/latest/api/token", ttl).text}
    role = lab.get(roles, session).text
    told = lab.get(roles + role, session).json()
    assert told["Code"] == "Success"
    assert told["AccessKeyId"].startswith("ASIA")
    assert lab.get(roles + role, session).json() == told
    lab.order("rotate", endpoint="aws_imds")
    assert lab.get(roles + role, session).json()["AccessKeyId"] != told["AccessKeyId"]
    task = lab.get("/v2/credentials/task").json()
    assert task["Token"]
    assert task["Expiration"].endswith("Z")


def test_aws_sts(lab: Lab) -> None:
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": "arn:aws:iam::1:role/r",
        "RoleSessionName": "s",
        "WebIdentityToken": "e.y.J",
    }
    answer = lab.form("/", form)
    assert answer.status_code == 200
    assert "<AccessKeyId>ASIA" in answer.text
    assert "<Code>InvalidIdentityToken</Code>" in (
        lab.form("/", {**form, "WebIdentityToken": "bad-secret"}).text
    )
    assert lab.form("/", {**form, "RoleArn": ""}).status_code == 400
    assert lab.form("/", {"Action": "AssumeRole"}).status_code == 400


def test_script_bends_one_endpoint_for_so_many_requests(lab: Lab) -> None:
    lab.order("script", endpoint="entra", next=2, status=503)
    assert [lab.form(ENTRA, FORM).status_code for _ in range(3)] == [503, 503, 200]
    lab.order("script", endpoint="entra", status=400, error="invalid_client")
    assert lab.form(ENTRA, FORM).json()["error"] == "invalid_client"
    assert lab.get(METADATA, FLAVOUR).status_code == 200
    lab.order("script", endpoint="entra", expires_in_s=4)
    assert lab.form(ENTRA, FORM).json()["expires_in"] == 4
    asks = lab.get("/emulator/cloud/report").json()["asks"]
    statuses = [ask["status"] for ask in asks if ask["endpoint"] == "entra"]
    assert statuses[-5:] == [503, 503, 200, 400, 200]


def test_the_same_token_again(lab: Lab) -> None:
    first = lab.form(ENTRA, FORM).json()["access_token"]
    assert lab.form(ENTRA, FORM).json()["access_token"] != first
    lab.order("script", endpoint="entra", is_same=True)
    again = [lab.form(ENTRA, FORM).json()["access_token"] for _ in range(2)]
    assert again[0] == again[1]


def test_a_delay_is_waited_for(lab: Lab) -> None:
    lab.order("script", endpoint="google_metadata", delay_ms=60)
    answer = lab.get(METADATA, FLAVOUR)
    assert answer.elapsed.total_seconds() >= 0.06


def test_the_clouds_clock(lab: Lab) -> None:
    def date(answer: httpx2.Response) -> float:
        assert len(answer.headers.get_list("date")) == 1
        return parsedate_to_datetime(answer.headers["date"]).timestamp()

    now_s = date(lab.form(ENTRA, FORM))
    lab.order("clock", skew_s=3600)
    for answer in (lab.form(ENTRA, FORM), lab.post(DEPLOYMENT, MESSAGES, {"api-key": "k"})):
        assert 3599 <= date(answer) - now_s <= 3610


@pytest.mark.parametrize(
    ("name", "order", "why"),
    [
        ("script", {"endpoint": "nobody"}, "endpoint must be"),
        ("script", {"speed": 1}, "unknown field 'speed'"),
        ("script", {"delay_ms": "1"}, "delay_ms must be"),
        ("script", {"next": -1}, "next must be"),
        ("clock", {"skew_s": "1"}, "skew_s must be"),
        ("token", {"kind": "aws"}, "kind must be"),
        ("revoke", {}, "a value, or a kind"),
        ("rotate", {"endpoint": "x"}, "endpoint must be"),
        ("certificate", {"certificate": "x"}, "certificate must be one"),
    ],
)
def test_orders_that_cannot_be_read(
    lab: Lab, name: str, order: dict[str, object], why: str
) -> None:
    answer = lab.post(f"/emulator/cloud/{name}", order)
    assert answer.status_code == 400
    assert why in json.dumps(answer.json()).replace('\\"', '"')
