"""The clouds' own token endpoints: what a machine or an account gets its credentials from.

Each is served at its real path, and the same below a prefix of its own, for clients that can be
given a whole URL:

    /emulator/cloud/google_token/token                          POST, assertion or refresh token
    /emulator/cloud/google_metadata/computeMetadata/v1/...      GET, `metadata-flavor: Google`
    /emulator/cloud/entra/TENANT/oauth2/v2.0/token              POST, secret or assertion
    /emulator/cloud/azure_imds/metadata/identity/oauth2/token   GET, `metadata: true`
    /emulator/cloud/app_service/msi/token                       GET, `x-identity-header`
    /emulator/cloud/aws_imds/latest/...                         PUT and GET, version 2 only
    /emulator/cloud/aws_container/v2/credentials/ID             GET
    /emulator/cloud/aws_sts/                                    POST, AssumeRoleWithWebIdentity

Any tenant, client and secret will do but `bad-secret`; an assertion by certificate is checked
(`relay.emulator.app_certificates`), a federated one is not looked into. Machines' endpoints
(metadata, IMDS, App Service, containers) hand out the same token until it is nearly over, as
theirs do.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

import orjson

from relay.emulator.app_certificates import AppCertificates, RefusedAssertion
from relay.emulator.cloud_keys import AwsKeys, CloudKeys, Kind, Token
from relay.emulator.google_account import EMAIL, PROJECT, BadAssertion, ServiceAccount
from relay.emulator.token_script import Manner, TokenScript

PREFIX = "/emulator/cloud/"
BAD_SECRET = "bad-secret"  # noqa: S105 - the name of one
ROLE = "emulator-role"

_NEARLY_OVER_S = 240.0
"""Machines' endpoints fetch anew when so much is left."""

_ROUTES: tuple[tuple[str, str, re.Pattern[str]], ...] = tuple(
    (endpoint, method, re.compile(pattern))
    for endpoint, method, pattern in (
        ("google_token", "POST", r"/token"),
        ("google_metadata", "GET", r"/computeMetadata/v1/(?P<what>.*)"),
        ("google_metadata", "GET", r"/(?P<what>)"),
        ("entra", "POST", r"/(?P<tenant>[^/]+)/oauth2/v2\.0/token"),
        ("entra", "GET", r"/(?P<tenant>[^/]+)/v2\.0/\.well-known/openid-configuration"),
        ("azure_imds", "GET", r"/metadata/identity/oauth2/token"),
        ("app_service", "GET", r"/msi/token/?"),
        ("aws_imds", "PUT", r"/latest/api/token"),
        ("aws_imds", "GET", r"/latest/(?P<what>meta-data/.*)"),
        ("aws_container", "GET", r"/v2/credentials/(?P<id>[^/]+)"),
        ("aws_sts", "POST", r"/"),
    )
)


class Reply(NamedTuple):
    """What an endpoint answers."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)


@dataclass(frozen=True, slots=True)
class Question:
    """One request to an endpoint."""

    endpoint: str
    method: str
    what: Mapping[str, str]
    """Parts of the path."""
    query: Mapping[str, str]
    form: Mapping[str, str]
    headers: Mapping[str, str]
    base_url: str
    """Where it was asked."""


def question(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, base_url: str
) -> Question | None:
    """The request as an endpoint's, or None if it is none of theirs."""
    named = ""
    if path.startswith(PREFIX):
        named, slash, rest = path.removeprefix(PREFIX).partition("/")
        path = slash + rest
    for endpoint, wanted, pattern in _ROUTES:
        found = pattern.fullmatch(path)
        if found is None or wanted != method or named not in ("", endpoint):
            continue
        if path == "/" and not named and not _is_root_question(method, headers):
            continue
        form = body.decode("utf-8", "replace") if method == "POST" else ""
        return Question(
            endpoint, method, found.groupdict(), _first(query), _first(form), headers, base_url
        )
    return None


def _is_root_question(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a request for `/` is one of a cloud's, by what its clients send along."""
    if method == "GET":
        return headers.get("metadata-flavor") == "Google"
    return headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


class TokenEndpoints:
    """All of them; they share the keys that the doors check against."""

    def __init__(self, keys: CloudKeys, script: TokenScript) -> None:
        self._keys = keys
        self._script = script
        self.account = ServiceAccount()
        self.certificates = AppCertificates()
        self._held: dict[str, Token] = {}
        self._held_pairs: dict[str, AwsKeys] = {}
        self._sessions: set[str] = set()

    def reset(self) -> None:
        """Forget what was handed out."""
        self.rotate("*")
        self._sessions.clear()

    def rotate(self, endpoint: str) -> None:
        """Let machines' endpoints hand out something new; the old one counts on."""
        for held in (self._held, self._held_pairs):
            for name in [name for name in held if endpoint in (name.split(" ")[0], "*")]:
                del held[name]

    async def answer(self, asked: Question) -> Reply:
        """Answer as the script says."""
        if asked.endpoint == "entra" and asked.method == "GET":
            return _entra_discovery(asked)
        manner = self._script.next_manner(asked.endpoint)
        if manner.delay_ms:
            await asyncio.sleep(manner.delay_ms / 1e3)
        if manner.status:
            reply = _scripted_failure(asked.endpoint, manner)
        else:
            reply = await self._reply(asked, manner)
        self._script.note(asked.endpoint, reply.status)
        return reply

    async def _reply(self, asked: Question, manner: Manner) -> Reply:
        match asked.endpoint:
            case "google_token":
                return await self._google_token(asked, manner)
            case "google_metadata":
                return self._google_metadata(asked, manner)
            case "entra":
                return self._entra(asked, manner)
            case "azure_imds":
                return self._azure_imds(asked, manner)
            case "app_service":
                return self._app_service(asked, manner)
            case "aws_imds":
                return self._aws_imds(asked, manner)
            case "aws_container":
                return _json(_aws_document(self._pair(asked.endpoint, manner)))
            case _:
                return self._aws_sts(asked, manner)

    # --- Google -------------------------------------------------------------------------------

    async def _google_token(self, asked: Question, manner: Manner) -> Reply:
        form = asked.form
        match form.get("grant_type"):
            case "urn:ietf:params:oauth:grant-type:jwt-bearer":
                now_s = self._keys.clock.wall_s()
                try:
                    # The first one makes the key.
                    await asyncio.to_thread(self.account.check, form.get("assertion", ""), now_s)
                except BadAssertion as error:
                    return _oauth_error(400, "invalid_grant", str(error))
            case "refresh_token":
                if not form.get("client_id") or form.get("client_secret") == BAD_SECRET:
                    return _oauth_error(401, "invalid_client", "The OAuth client was not found.")
                if not form.get("refresh_token") or form["refresh_token"] == BAD_SECRET:
                    return _oauth_error(400, "invalid_grant", "Token has been expired or revoked.")
            case kind:
                return _oauth_error(400, "unsupported_grant_type", f"Invalid grant_type: {kind}")
        token = self._token("google_token", "google", "", manner, keep=False)
        return _json(
            {
                "access_token": token.value,
                "expires_in": self._left_s(token),
                "token_type": "Bearer",
            }
        )

    def _google_metadata(self, asked: Question, manner: Manner) -> Reply:
        flavour = (("metadata-flavor", "Google"),)
        if asked.headers.get("metadata-flavor") != "Google":
            return Reply(403, b"Missing Metadata-Flavor:Google header.", flavour)
        what = asked.what["what"]
        accounts = "instance/service-accounts/"
        if what.startswith(accounts):
            _, _, field = what.removeprefix(accounts).partition("/")
            if field == "token":
                token = self._token("google_metadata", "google", "", manner, keep=True)
                told = {
                    "access_token": token.value,
                    "expires_in": self._left_s(token),
                    "token_type": "Bearer",
                }
                return Reply(200, orjson.dumps(told), (*_JSON, *flavour))
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            info = {"aliases": ["default"], "email": EMAIL, "scopes": scopes}
            if field == "email":
                return Reply(200, EMAIL.encode(), flavour)
            return Reply(200, orjson.dumps(info), (*_JSON, *flavour))
        texts = {
            "": "computeMetadata/",
            "project/project-id": PROJECT,
            "universe/universe-domain": "googleapis.com",
        }
        if what not in texts:
            return Reply(404, b"", flavour)
        return Reply(200, texts[what].encode(), (("content-type", "application/text"), *flavour))

    # --- Azure --------------------------------------------------------------------------------

    def _entra(self, asked: Question, manner: Manner) -> Reply:
        form = asked.form
        if form.get("grant_type") != "client_credentials":
            return _entra_error(400, "unsupported_grant_type", 70003, "grant_type is not allowed")
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            return _entra_error(400, "invalid_scope", 70011, f"The scope {scope} is not valid.")
        assertion = form.get("client_assertion", "")
        secret = form.get("client_secret") or assertion
        if not form.get("client_id"):
            return _entra_error(400, "invalid_request", 900144, "client_id is missing.")
        if not secret or secret == BAD_SECRET:
            return _entra_error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if assertion:
            at = f"{asked.what['tenant']}/oauth2/v2.0/token"
            audiences = {f"{asked.base_url}/{at}", f"{asked.base_url}{PREFIX}entra/{at}"}
            now_s = self._keys.clock.wall_s()
            try:
                self.certificates.check(assertion, form["client_id"], audiences, now_s)
            except RefusedAssertion as error:
                return _entra_error(401, "invalid_client", error.code, str(error))
        audience = scope.removesuffix("/.default")
        token = self._token("entra", "entra", audience, manner, keep=False)
        left_s = self._left_s(token)
        return _json(
            {
                "token_type": "Bearer",
                "expires_in": left_s,
                "ext_expires_in": left_s,
                "access_token": token.value,
            }
        )

    def _azure_imds(self, asked: Question, manner: Manner) -> Reply:
        if asked.headers.get("metadata", "").lower() != "true":
            return _oauth_error(400, "invalid_request", "Required metadata header not specified")
        resource = asked.query.get("resource", "")
        if not resource or not asked.query.get("api-version"):
            return _oauth_error(400, "invalid_request", "resource and api-version are required")
        token = self._token("azure_imds", "entra", resource.rstrip("/"), manner, keep=True)
        left_s, expires_on = self._left_s(token), int(token.expires_s)
        return _json(
            {
                "access_token": token.value,
                "client_id": asked.query.get("client_id", "emulator-identity"),
                "expires_in": str(left_s),
                "expires_on": str(expires_on),
                "ext_expires_in": str(left_s),
                "not_before": str(expires_on - left_s),
                "resource": resource,
                "token_type": "Bearer",
            }
        )

    def _app_service(self, asked: Question, manner: Manner) -> Reply:
        if asked.headers.get("x-identity-header", BAD_SECRET) == BAD_SECRET:
            return Reply(403, b'{"statusCode":403,"message":"Forbidden"}')
        resource = asked.query.get("resource", "")
        if not resource or asked.query.get("api-version") != "2019-08-01":
            return Reply(400, b'{"statusCode":400,"message":"Unsupported API version"}')
        token = self._token("app_service", "entra", resource.rstrip("/"), manner, keep=True)
        return _json(
            {
                "access_token": token.value,
                "expires_on": str(int(token.expires_s)),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": asked.query.get("client_id", "emulator-identity"),
            }
        )

    # --- AWS ----------------------------------------------------------------------------------

    def _aws_imds(self, asked: Question, manner: Manner) -> Reply:
        text = (("content-type", "text/plain"),)
        if asked.method == "PUT":
            ttl = asked.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
                return Reply(400, b"", text)
            session = f"AQAEmulator{len(self._sessions):06d}=="
            self._sessions.add(session)
            return Reply(
                200, session.encode(), (*text, ("x-aws-ec2-metadata-token-ttl-seconds", ttl))
            )
        if asked.headers.get("x-aws-ec2-metadata-token", "") not in self._sessions:
            return Reply(401, b"", text)
        roles = "meta-data/iam/security-credentials/"
        what = asked.what["what"]
        if what == roles or what == roles.rstrip("/"):
            return Reply(200, ROLE.encode(), text)
        if what == roles + ROLE:
            return _json({"Code": "Success", **_aws_document(self._pair("aws_imds", manner))})
        if what == "meta-data/placement/region":
            return Reply(200, b"us-east-1", text)
        return Reply(404, b"", text)

    def _aws_sts(self, asked: Question, manner: Manner) -> Reply:
        form = asked.form
        if form.get("Action") != "AssumeRoleWithWebIdentity":
            return _sts_error(
                400, "InvalidAction", f"Could not find operation {form.get('Action')}"
            )
        missing = [
            name
            for name in ("RoleArn", "RoleSessionName", "WebIdentityToken")
            if not form.get(name)
        ]
        if missing:
            return _sts_error(400, "ValidationError", f"{missing[0]} must not be empty")
        if form["WebIdentityToken"] == BAD_SECRET:
            return _sts_error(400, "InvalidIdentityToken", "The token could not be verified")
        keys = self._new_pair("aws_sts", manner)
        xml = (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{escape(keys.access_key_id)}</AccessKeyId>"
            f"<SecretAccessKey>{escape(keys.secret_access_key)}</SecretAccessKey>"
            f"<SessionToken>{escape(keys.session_token)}</SessionToken>"
            f"<Expiration>{_iso(keys.expires_s)}</Expiration>"
            "</Credentials><AssumedRoleUser>"
            f"<Arn>{escape(form['RoleArn'])}/emulator</Arn><AssumedRoleId>AROA:emulator"
            "</AssumedRoleId></AssumedRoleUser></AssumeRoleWithWebIdentityResult>"
            "<ResponseMetadata><RequestId>emulator</RequestId></ResponseMetadata>"
            "</AssumeRoleWithWebIdentityResponse>"
        )
        return Reply(200, xml.encode(), (("content-type", "text/xml"),))

    # --- what is handed out -------------------------------------------------------------------

    def _token(
        self, endpoint: str, kind: Kind, audience: str, manner: Manner, *, keep: bool
    ) -> Token:
        name = f"{endpoint} {audience}"
        held = self._held.get(name)
        is_fresh = held is not None and not held.is_revoked and self._is_fresh(held.expires_s)
        if held is not None and (manner.is_same or (keep and is_fresh)):
            return held
        token = self._held[name] = self._keys.issue(kind, manner.expires_in_s, audience)
        return token

    def _pair(self, endpoint: str, manner: Manner) -> AwsKeys:
        held = self._held_pairs.get(endpoint)
        if held is not None and not held.is_revoked and self._is_fresh(held.expires_s):
            return held
        return self._new_pair(endpoint, manner)

    def _new_pair(self, endpoint: str, manner: Manner) -> AwsKeys:
        held = self._held_pairs.get(endpoint)
        if held is not None and manner.is_same:
            return held
        keys = self._held_pairs[endpoint] = self._keys.issue_pair(manner.expires_in_s)
        return keys

    def _is_fresh(self, expires_s: float) -> bool:
        return expires_s - self._keys.clock.wall_s() > _NEARLY_OVER_S

    def _left_s(self, token: Token) -> int:
        """Whole seconds, as the clouds tell them."""
        return max(0, round(token.expires_s - self._keys.clock.wall_s()))


_JSON = (("content-type", "application/json; charset=utf-8"), ("cache-control", "no-store"))


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(value), _JSON)


def _oauth_error(status: int, error: str, description: str) -> Reply:
    return _json({"error": error, "error_description": description}, status)


def _entra_discovery(asked: Question) -> Reply:
    """What Microsoft's own library asks before its first token."""
    base_url = f"{asked.base_url}/{asked.what['tenant']}"
    return _json(
        {
            "issuer": f"{base_url}/v2.0",
            "authorization_endpoint": f"{base_url}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base_url}/oauth2/v2.0/token",
            "jwks_uri": f"{base_url}/discovery/v2.0/keys",
        }
    )


def _entra_error(status: int, error: str, code: int, text: str) -> Reply:
    told = f"AADSTS{code}: {text} Trace ID: emulator Correlation ID: emulator"
    return _json({"error": error, "error_description": told, "error_codes": [code]}, status)


def _sts_error(status: int, code: str, message: str) -> Reply:
    xml = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>Sender</Type><Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
        "</Error><RequestId>emulator</RequestId></ErrorResponse>"
    )
    return Reply(status, xml.encode(), (("content-type", "text/xml"),))


def _scripted_failure(endpoint: str, manner: Manner) -> Reply:
    status = manner.status
    if endpoint == "aws_sts":
        return _sts_error(status, manner.error or "ServiceUnavailable", "scripted")
    if endpoint == "entra":
        return _entra_error(status, manner.error or "temporarily_unavailable", 90033, "scripted")
    usual = "internal_failure" if status >= 500 else "invalid_grant"
    return _oauth_error(status, manner.error or usual, "scripted")


def _aws_document(keys: AwsKeys) -> dict[str, str]:
    return {
        "LastUpdated": _iso(keys.expires_s - 3600),
        "Type": "AWS-HMAC",
        "RoleArn": f"arn:aws:iam::123456789012:role/{ROLE}",
        "AccessKeyId": keys.access_key_id,
        "SecretAccessKey": keys.secret_access_key,
        "Token": keys.session_token,
        "Expiration": _iso(keys.expires_s),
    }


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _first(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text, keep_blank_values=True).items()}
