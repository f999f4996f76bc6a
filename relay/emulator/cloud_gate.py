"""Who may pass a cloud's door, and what the cloud says to others.

API keys are not handed out here: any passes but `bad-key` and those that were revoked. Access
tokens and AWS key pairs have to be known and to count (`cloud_keys`). Texts and shapes are the
clouds' own where a recording or a report of users shows them: Azure's two ways of saying 401,
Google's `ErrorInfo`, AWS's `x-amzn-errortype`. What the Bedrock Mantle endpoint says is not known;
it is given the shape of the interface that it serves there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qs, quote

import orjson

from relay.emulator.cloud_doors import Door
from relay.emulator.cloud_keys import CloudKeys, State
from relay.emulator.sigv4_check import SignedRequest, check_signature

BAD_KEY = "bad-key"

AUDIENCES = ("https://cognitiveservices.azure.com", "https://ai.azure.com")
"""What an Entra token for Azure's models may be for."""

_DOMAIN = {"domain": "googleapis.com"}


class Visitor(NamedTuple):
    """A request, as far as a door looks at it."""

    method: str
    path: str
    """Decoded."""
    query: str
    headers: Mapping[str, str]
    body: bytes


class Denial(NamedTuple):
    """What the cloud answers instead."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def refuse(door: Door, visitor: Visitor, keys: CloudKeys) -> Denial | None:
    """None if the door opens."""
    query = parse_qs(visitor.query)
    if door.needs_api_version and not query.get("api-version"):
        return _json(404, {"error": {"code": "404", "message": "Resource not found"}})
    match door.auth:
        case "aws":
            denial = _aws(door, visitor, keys)
        case "google":
            denial = _google(door, visitor, keys)
        case "google_express":
            denial = _google_express(visitor, query, keys)
        case _:
            denial = _azure(door, visitor.headers, keys)
    if denial is not None:
        return denial
    for name, message in (door.needs or {}).items():
        if name not in visitor.headers:
            error = {"type": "invalid_request_error", "message": message}
            return _json(400, {"type": "error", "error": error})
    return None


# --- Azure -----------------------------------------------------------------------------------


def _azure(door: Door, headers: Mapping[str, str], keys: CloudKeys) -> Denial | None:
    key = headers.get("api-key") or (headers.get("x-api-key") if door.auth == "foundry" else None)
    bearer = _bearer(headers)
    if key is None and bearer and door.auth == "azure" and bearer.count(".") != 2:
        key = bearer  # its `/v1` takes keys where OpenAI's clients put them
    if key is not None:
        if _is_good_key(key, keys):
            return None
        message = (
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
            "provide a valid key for an active subscription and use a correct regional API "
            "endpoint for your resource."
        )
        return _json(401, {"error": {"code": "401", "message": message}})
    is_for_us = keys.audience(bearer).rstrip("/") in AUDIENCES
    if bearer and is_for_us and not keys.token_state(bearer, "entra"):
        return None
    message = (
        "Unauthorized. Access token is missing, invalid, audience is incorrect "
        "(https://cognitiveservices.azure.com), or have expired."
    )
    return _json(401, {"statusCode": 401, "message": message})


# --- Google ----------------------------------------------------------------------------------


def _google(door: Door, visitor: Visitor, keys: CloudKeys) -> Denial | None:
    bearer = _bearer(visitor.headers)
    if not bearer:
        message = (
            "Request is missing required authentication credential. Expected OAuth 2 access token, "
            "login cookie or other valid authentication credential. See "
            "https://developers.google.com/identity/sign-in/web/devconsole-project."
        )
        if "x-goog-api-key" in visitor.headers:
            message = (
                "API keys are not supported by this API. Expected OAuth2 access token or other "
                "authentication credentials that assert a principal. See "
                "https://cloud.google.com/docs/authentication"
            )
        return _google_error(401, message, "CREDENTIALS_MISSING", visitor.path)
    state = keys.token_state(bearer, "google")
    if not state:
        return None
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential. See "
        "https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    reasons: dict[State, str] = {
        "expired": "ACCESS_TOKEN_EXPIRED",
        "revoked": "ACCESS_TOKEN_EXPIRED",
        "unknown": "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    }
    return _google_error(401, message, reasons[state], visitor.path)


def _google_express(
    visitor: Visitor, query: Mapping[str, list[str]], keys: CloudKeys
) -> Denial | None:
    key = visitor.headers.get("x-goog-api-key") or query.get("key", [""])[0]
    if key and _is_good_key(key, keys):
        return None
    if not key:
        return _google_error(
            401, "Request is missing required authentication credential.", "CREDENTIALS_MISSING", ""
        )
    details = [{"@type": _INFO, "reason": "API_KEY_INVALID", **_DOMAIN}]
    message = "API key not valid. Please pass a valid API key."
    error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT", "details": details}
    return _json(400, {"error": error})


_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def _google_error(status: int, message: str, reason: str, path: str) -> Denial:
    _, _, method = path.rpartition(":")
    name = f"google.cloud.aiplatform.v1.PredictionService.{method[:1].upper()}{method[1:]}"
    metadata = {"service": "aiplatform.googleapis.com", "method": name}
    details = [{"@type": _INFO, "reason": reason, **_DOMAIN, "metadata": metadata}]
    error = {"code": status, "message": message, "status": "UNAUTHENTICATED", "details": details}
    challenge = ("www-authenticate", 'Bearer realm="https://accounts.google.com/"')
    return _json(status, {"error": error}, challenge)


# --- AWS -------------------------------------------------------------------------------------


def _aws(door: Door, visitor: Visitor, keys: CloudKeys) -> Denial | None:
    bearer = _bearer(visitor.headers)
    if bearer:
        if _is_good_key(bearer, keys):
            return None
        message = "Authentication failed: Please make sure your API Key is valid."
        if door.service != "bedrock":
            return _mantle_error(door, 401, message)
        return _json(403, {"Message": message}, ("x-amzn-errortype", "AccessDeniedException"))
    request = SignedRequest(
        visitor.method, sent_paths(visitor.path), visitor.query, visitor.headers, visitor.body
    )
    refused = check_signature(request, door.service, keys.pair, keys.clock.wall_s())
    if refused is None:
        return None
    kind = ("x-amzn-errortype", refused.name)
    if door.service != "bedrock":
        return _mantle_error(door, 403, refused.message, kind)
    return _json(403, {"message": refused.message}, kind)


def sent_paths(path: str) -> tuple[str, ...]:
    """How a decoded path may have been sent.

    botocore encodes all of a model's name, `:` and `/` too; Anthropic's client leaves `:` bare.
    """
    before, model, after = path, "", ""
    if "/model/" in path:
        before, _, rest = path.partition("/model/")
        before += "/model/"
        model, slash, after = rest.rpartition("/")
        after = slash + after
    return tuple(
        quote(before, safe="/-_.~") + quote(model, safe=safe + "-_.~") + after
        for safe in ("", ":", ":;")
    )


def _mantle_error(door: Door, status: int, message: str, *headers: tuple[str, str]) -> Denial:
    if door.wire == "anthropic":
        error: object = {"type": "authentication_error", "message": message}
        return _json(status, {"type": "error", "error": error}, *headers)
    error = {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}
    return _json(status, {"error": error}, *headers)


# --- common ----------------------------------------------------------------------------------


def _is_good_key(key: str, keys: CloudKeys) -> bool:
    return key != BAD_KEY and not keys.is_key_revoked(key)


def _bearer(headers: Mapping[str, str]) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    return value.strip() if kind.lower() == "bearer" else ""


def _json(status: int, value: object, *headers: tuple[str, str]) -> Denial:
    kind = ("content-type", "application/json")
    return Denial(status, (kind, *headers), orjson.dumps(value))
