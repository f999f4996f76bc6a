"""What an HTTP client asks of the relay itself: `x-relay-*` headers, or the body's `relay`.

Headers for those who can set them, the body field for clients that only have `extra_body` (an
older name of it is `x_relay`); where both speak, the header wins. `route` and `model` are one: the
alias to use instead of the body's model. `idempotency-key` is heard without the prefix too, since
that is what clients call it elsewhere. An unknown name or a wrong value is refused by name: a limit
that is silently not in force is worse than an error.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from relay.content import Budgets, CacheWish, HedgeWish, Policy, PromptCache
from relay.errors import InvalidRequest, shown
from relay.frontends.asgi import Scope
from relay.frontends.caller import NOBODY, Caller, means_batch
from relay.frontends.limits import MAX_LABEL_CHARS, MAX_TAGS, check_count

_PREFIX = b"x-relay-"
_IDEMPOTENCY_KEY = b"idempotency-key"
_MILLISECONDS = {
    "first-token-ms": "first_token_s",
    "first-segment-ms": "first_segment_s",
    "inter-token-ms": "inter_token_s",
    "total-ms": "total_s",
}
_NAMES = (
    *_MILLISECONDS,
    "route",
    "model",
    "tags",
    "turn-id",
    "session-id",
    "idempotency-key",
    "class",
    "hedge",
    "commit-on",
    "prompt-cache",
    "cache",
    "cache-ttl-s",
    "timeline",
)
POLICY_KEYS = ("relay", "x_relay")
"""Fields of the body that are the relay's own and go no further."""
_NOTHING_ASKED = Policy()
_MAX_MS = 86_400_000
_MAX_CACHE_TTL_S = 7 * 86_400
_MAX_ENTRIES = 64
"""Of the body's `relay`: far more than there are names."""


def read_policy(
    scope: Scope, body: Mapping[str, Any], caller: Caller = NOBODY
) -> tuple[Policy, str]:
    """The policy of a request, and the model name that overrides the body's (or "").

    Raises:
        InvalidRequest: an unknown or wrong entry, naming it.
    """
    entries: dict[str, tuple[str, object]] = {}
    for where in POLICY_KEYS:
        given = body.get(where)
        if given is None:
            continue
        if not isinstance(given, dict):
            raise InvalidRequest(f"{where} must be an object", field=where)
        check_count(len(given), _MAX_ENTRIES, where)
        for key, value in given.items():
            key = shown(key)
            entries[key.replace("_", "-")] = (f"{where}.{key}", value)
    for raw_name, raw_value in scope["headers"]:
        if raw_name.startswith(_PREFIX):
            name = shown(raw_name[len(_PREFIX) :].decode("latin-1"))
            entries[name] = (f"x-relay-{name}", raw_value.decode("latin-1"))
        elif raw_name == _IDEMPOTENCY_KEY:
            name = _IDEMPOTENCY_KEY.decode()
            entries[name] = (name, raw_value.decode("latin-1"))
    if not entries:
        if caller is NOBODY:
            return _NOTHING_ASKED, ""
        return (
            Policy(
                tenant=caller.tenant,
                key_id=caller.key_id,
                traceparent=caller.traceparent,
                tracestate=caller.tracestate,
            ),
            "",
        )

    limits: dict[str, float] = {}
    model, turn_id, session_id, timeline = "", "", "", False
    idempotency_key = ""
    prompt_cache: PromptCache = ""
    cache: CacheWish = ""
    cache_ttl_s: int | None = None
    tags: tuple[str, ...] = ()
    hedge, on_segment, is_batch = HedgeWish(), False, False
    for name, (field, value) in entries.items():
        if name in _MILLISECONDS:
            limits[_MILLISECONDS[name]] = _milliseconds(field, value) / 1000
        elif name in ("model", "route"):
            model = _text(field, value)
        elif name == "turn-id":
            turn_id = _text(field, value)
        elif name == "tags":
            tags = _tags(field, value)
        elif name == "commit-on":
            if value not in ("first_content", "first_segment"):
                raise InvalidRequest(f"{field} must be first_content or first_segment", field=field)
            on_segment = value == "first_segment"
        elif name == "class":
            is_batch = means_batch(field, value)
        elif name == "hedge":
            hedge = _hedge(field, value)
        elif name == "timeline":
            timeline = _yes_or_no(field, value)
        elif name == "prompt-cache":
            prompt_cache = _prompt_cache(field, value)
        elif name == "cache":
            cache = _cache(field, value)
        elif name == "cache-ttl-s":
            cache_ttl_s = _whole_number(field, value, _MAX_CACHE_TTL_S, "seconds")
        elif name == "session-id":
            session_id = _text(field, value)
        elif name == "idempotency-key":
            idempotency_key = _text(field, value)
        else:
            raise _unknown(name, field)
    return (
        Policy(
            budgets=Budgets(**limits),
            turn_id=turn_id,
            tags=tags,
            timeline=timeline,
            hedge=hedge,
            commit_on="first_segment" if on_segment else "first_content",
            tenant=caller.tenant,
            key_id=caller.key_id,
            traceparent=caller.traceparent,
            tracestate=caller.tracestate,
            prompt_cache=prompt_cache,
            cache=cache,
            cache_ttl_s=cache_ttl_s,
            idempotency_key=idempotency_key,
            is_batch=is_batch,
            session_id=session_id,
        ),
        model,
    )


def _unknown(name: str, field: str) -> InvalidRequest:
    """Of a name that is not known: with the nearest, spelled as where it came from spells it."""
    field = shown(field)
    where, is_header = field.partition(".")[0], field.startswith("x-relay-")
    names = _NAMES if is_header else tuple(known.replace("-", "_") for known in _NAMES)
    given = name if is_header else name.replace("-", "_")
    if near := difflib.get_close_matches(given, names, 1):
        nearest = f"x-relay-{near[0]}" if is_header else f"{where}.{near[0]}"
        return InvalidRequest(f"{field} is not known; did you mean {nearest}?", field=field)
    return InvalidRequest(f"{field} is not known; known are {', '.join(names)}", field=field)


def _milliseconds(field: str, value: object) -> int:
    return _whole_number(field, value, _MAX_MS, "milliseconds")


def _whole_number(field: str, value: object, most: int, unit: str) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidRequest(f"{field} must be 1 to {most} {unit}", field=field)
    return value


def _hedge(field: str, value: object) -> HedgeWish:
    """`off`, `auto`, `race`, or the delay of the second attempt in milliseconds."""
    if value == "off":
        return HedgeWish(mode="off")
    if value == "race":
        return HedgeWish(mode="race")
    if value == "auto":
        return HedgeWish()
    try:
        return HedgeWish(delay_s=_milliseconds(field, value) / 1000)
    except InvalidRequest:
        raise InvalidRequest(
            f"{field} must be off, auto, race, or 1 to {_MAX_MS} milliseconds", field=field
        ) from None


def _yes_or_no(field: str, value: object) -> bool:
    if value in (True, "1", "true", "yes"):
        return True
    if value in (False, "0", "false", "no"):
        return False
    raise InvalidRequest(f"{field} must be true or false", field=field)


def _prompt_cache(field: str, value: object) -> PromptCache:
    if value == "auto":
        return "auto"
    if value == "off":
        return "off"
    raise InvalidRequest(f"{field} must be auto or off", field=field)


def _cache(field: str, value: object) -> CacheWish:
    if value == "off":
        return "off"
    if value == "refresh":
        return "refresh"
    if value == "only":
        return "only"
    raise InvalidRequest(f"{field} must be off, refresh or only", field=field)


def _text(field: str, value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LABEL_CHARS:
        raise InvalidRequest(f"{field} must be 1 to {MAX_LABEL_CHARS} characters", field=field)
    return value


def _tags(field: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",", MAX_TAGS)]
    if not isinstance(value, list) or len(value) > MAX_TAGS:
        raise InvalidRequest(f"{field} must be a list of at most {MAX_TAGS} tags", field=field)
    return tuple(_text(field, item) for item in value)
