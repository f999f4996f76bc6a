"""Whether a request's AWS signature is right: Signature Version 4, from the verifier's side.

Written from AWS's description ("Create a signed AWS API request"), not from the relay's signer, and
held against botocore by the tests. The service works out the same text as the client did, so every
mistake shows as a signature that does not match, with AWS's own words.

An HTTP server that hands out decoded paths does not tell how the client had written them, so the
caller names all ways in which it may have, and one of them has to fit.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from relay.emulator.cloud_keys import AwsKeys

WINDOW_S = 300
"""How far the clocks may be apart."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_DATE = "%Y%m%dT%H%M%SZ"
_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came."""

    method: str
    paths: Sequence[str]
    """Ways in which the path may have been sent: encoded once."""
    query: str
    headers: Mapping[str, str]
    """Lower-case names; values of one name joined by commas. `host` is among them."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Why it was not taken."""

    name: str
    """AWS's, such as `InvalidSignatureException`."""
    message: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the Authorization header says."""

    access_key_id: str
    day: str
    region: str
    service: str
    signed: Sequence[str]
    signature: str


def check_signature(
    request: SignedRequest,
    service: str,
    keys_of: Callable[[str], AwsKeys | None],
    now_s: float,
) -> Refused | None:
    """None if the request is signed by keys that count now.

    Args:
        service: the name that the signature has to be scoped to, such as `bedrock`.
        now_s: seconds since 1970 by the service's clock.
    """
    claim = _read(request.headers.get("authorization", ""))
    if isinstance(claim, Refused):
        return claim
    keys = keys_of(claim.access_key_id)
    if keys is None or keys.is_revoked:
        return Refused(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    if request.headers.get("x-amz-security-token", "") != keys.session_token:
        return Refused(
            "UnrecognizedClientException", "The security token included in the request is invalid."
        )
    if keys.expires_s <= now_s:
        return Refused(
            "ExpiredTokenException", "The security token included in the request is expired"
        )
    return (
        _scope_fault(claim, service)
        or _date_fault(request, claim, now_s)
        or _unsigned_fault(request, claim)
        or _signature_fault(request, claim, keys)
    )


def _read(authorization: str) -> _Claim | Refused:
    if not authorization:
        return Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = authorization.partition(" ")
    parts = dict(part.strip().partition("=")[::2] for part in rest.split(","))
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if name not in parts]
    scope = parts.get("Credential", "").split("/")
    if algorithm != _ALGORITHM or missing or len(scope) < 5 or scope[-1] != "aws4_request":
        what = ", ".join(f"'{name}'" for name in missing) or "'Credential' or the algorithm"
        return Refused(
            "IncompleteSignatureException", f"Authorization header requires {what} parameter."
        )
    key_id, (day, region, service) = "/".join(scope[:-4]), scope[-4:-1]
    signed = parts["SignedHeaders"].split(";")
    return _Claim(key_id, day, region, service, signed, parts["Signature"])


def _scope_fault(claim: _Claim, service: str) -> Refused | None:
    if claim.service != service:
        return Refused(
            "InvalidSignatureException",
            f"Credential should be scoped to correct service: '{service}'. ",
        )
    if not claim.region:
        return Refused(
            "InvalidSignatureException", "Credential should be scoped to a valid region. "
        )
    return None


def _date_fault(request: SignedRequest, claim: _Claim, now_s: float) -> Refused | None:
    given = request.headers.get("x-amz-date", "")
    try:
        signed_s = datetime.strptime(given, _DATE).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return Refused(
            "IncompleteSignatureException",
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.",
        )
    if not given.startswith(claim.day + "T"):
        return Refused(
            "InvalidSignatureException",
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date: "
            f"'{claim.day}' != '{given[:8]}'.",
        )
    now, early, late = (_text(at_s) for at_s in (now_s, now_s - WINDOW_S, now_s + WINDOW_S))
    if signed_s < now_s - WINDOW_S:
        why = f"Signature expired: {given} is now earlier than {early} ({now} - 5 min.)"
        return Refused("InvalidSignatureException", why)
    if signed_s > now_s + WINDOW_S:
        why = f"Signature not yet current: {given} is still later than {late} ({now} + 5 min.)"
        return Refused("InvalidSignatureException", why)
    return None


def _unsigned_fault(request: SignedRequest, claim: _Claim) -> Refused | None:
    """`host` and every `x-amz-*` header have to be signed."""
    wanted = ["host", *(name for name in request.headers if name.startswith("x-amz-"))]
    for name in wanted:
        if name not in claim.signed:
            return Refused(
                "InvalidSignatureException", f"'{name}' must be a 'SignedHeader' in the request."
            )
    if list(claim.signed) != sorted(claim.signed):
        return Refused("IncompleteSignatureException", "SignedHeaders are not sorted.")
    missing = [name for name in claim.signed if name not in request.headers]
    return _mismatch() if missing else None


def _signature_fault(request: SignedRequest, claim: _Claim, keys: AwsKeys) -> Refused | None:
    payload = request.headers.get("x-amz-content-sha256")
    digest = hashlib.sha256(request.body).hexdigest()
    if payload not in (None, "UNSIGNED-PAYLOAD", digest):
        return Refused(
            "InvalidSignatureException",
            "The value of the x-amz-content-sha256 header does not match the body.",
        )
    key = _signing_key(keys.secret_access_key, claim)
    for path in request.paths:
        text = _string_to_sign(request, claim, path, payload or digest)
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if hmac.compare_digest(expected, claim.signature):
            return None
    return _mismatch()


def _mismatch() -> Refused:
    return Refused(
        "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check your "
        "AWS Secret Access Key and signing method. Consult the service documentation for details.",
    )


def _string_to_sign(request: SignedRequest, claim: _Claim, path: str, payload: str) -> str:
    headers = "".join(
        f"{name}:{' '.join(request.headers[name].split())}\n" for name in claim.signed
    )
    canonical = "\n".join(
        [
            request.method,
            # Every service but S3 encodes what was sent once more.
            quote(path or "/", safe="/" + _UNRESERVED),
            _canonical_query(request.query),
            headers,
            ";".join(claim.signed),
            payload,
        ]
    )
    scope = f"{claim.day}/{claim.region}/{claim.service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return "\n".join([_ALGORITHM, request.headers["x-amz-date"], scope, digest])


def _canonical_query(query: str) -> str:
    pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
    coded = [tuple(quote(unquote(part), safe=_UNRESERVED) for part in pair) for pair in pairs]
    return "&".join(f"{name}={value}" for name, value in sorted(coded))


def _signing_key(secret: str, claim: _Claim) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (claim.day, claim.region, claim.service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _text(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime(_DATE)
