"""JSON Schemas of what the administration reads and answers."""

from __future__ import annotations

from typing import Any, Final

from relay.administration.roles import ROLES
from relay.frontends.admin.route import Schema
from relay.governance.alerts import MOST_PERCENT, MOST_THRESHOLDS
from relay.governance.budget_scopes import SCOPES
from relay.governance.limits import MAX_LIMIT, NAMES
from relay.governance.money import MOST_MICRO
from relay.governance.periods import PERIODS
from relay.governance.scopes import MAX_ENTRIES, MAX_TEXT, MAX_ZONES, ZONE_PATTERN

TEXT: Final[Schema] = {"type": "string"}
FLAG: Final[Schema] = {"type": "boolean"}
MOST_PAGE: Final = 200


def noted(schema: Schema, words: str) -> Schema:
    """With a description."""
    return {**schema, "description": words}


def or_null(schema: Schema) -> Schema:
    """Or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def thing(fields: dict[str, Schema], *required: str) -> Schema:
    """An object of these fields and no others."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(required),
        "additionalProperties": False,
    }


def changes(fields: dict[str, Schema]) -> Schema:
    """A body of a PATCH: at least one of them."""
    return {**thing(fields), "minProperties": 1}


def page_of(schema: Schema) -> Schema:
    """A list, and where it goes on."""
    following = or_null(noted(TEXT, "`cursor` of what follows; null at the end"))
    return thing(
        {"data": {"type": "array", "items": schema}, "next_cursor": following},
        "data",
        "next_cursor",
    )


def _number(low: int, high: int, words: str = "") -> Schema:
    schema: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return noted(schema, words) if words else schema


PAGE: Final[dict[str, Schema]] = {
    "cursor": noted({"type": "string", "maxLength": 64}, "`next_cursor` of the page before"),
    "limit": _number(1, MOST_PAGE, "rows; 50 without it"),
}

_MOMENT: Final = {"type": "integer", "description": "microseconds since 1970"}
_NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 128}
ID: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 64}
_MICRO: Final = _number(0, MOST_MICRO, "micro-dollars, 1e-6 USD")
_USD: Final[Schema] = {
    "type": "string",
    "maxLength": 32,
    "description": "dollars as decimal text, `12.50`, at most six digits after the point",
}
_TEXTS: Final[Schema] = {
    "type": "array",
    "maxItems": MAX_ENTRIES,
    "items": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT},
}
OVERLAP: Final = thing(
    {"overlap_s": _number(0, 90 * 86_400, "how long the old secret is good; 86400 without it")}
)

LIMITS: Final = thing({name: or_null(_number(1, MAX_LIMIT)) for name in NAMES})
SCOPES_GIVEN: Final = thing(
    {
        "models": noted(_TEXTS, "patterns; with no model_tags either: every model"),
        "model_tags": _TEXTS,
        "request_tags": or_null(_TEXTS),
        "may_hedge": FLAG,
        "max_cost_micro": or_null(_MICRO),
        "passthrough": FLAG,
        "zones": or_null(
            noted(
                {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_ZONES,
                    "items": {"type": "string", "pattern": f"^{ZONE_PATTERN}$"},
                },
                "data zones that prompts may go to; null: anywhere",
            )
        ),
    }
)
_PERCENTS: Final[Schema] = {
    "type": "array",
    "maxItems": MOST_THRESHOLDS,
    "items": _number(1, MOST_PERCENT),
}

# --- bodies ---------------------------------------------------------------------------------

NAMED: Final[dict[str, Schema]] = {"name": _NAME, "limits": LIMITS}
ORGANISATION_GIVEN: Final = thing(NAMED, "name")
TEAM_GIVEN: Final = thing({"organisation_id": ID, **NAMED}, "organisation_id", "name")
_KEY_FIELDS: Final[dict[str, Schema]] = {
    **NAMED,
    "scopes": SCOPES_GIVEN,
    "tags": _TEXTS,
    "expires_at_us": or_null(_MOMENT),
}
KEY_GIVEN: Final = thing({"team_id": ID, **_KEY_FIELDS}, "team_id", "name")
KEY_CHANGED: Final = changes(_KEY_FIELDS)
SUBJECT: Final = thing(
    {"subject": noted({"type": "string", "maxLength": 255}, "DNS:..., URI:..., EMAIL:..., CN:...")},
    "subject",
)
_AMOUNT: Final[dict[str, Schema]] = {
    "limit_usd": noted(_USD, "this, or limit_micro"),
    "limit_micro": _MICRO,
    "is_hard": noted(FLAG, "false: it is counted and told, and stops nothing"),
    "alert_percents": _PERCENTS,
}
BUDGET_GIVEN: Final = thing(
    {
        "scope": {"type": "string", "enum": list(SCOPES)},
        "scope_id": noted(_NAME, "id of the key, team or organisation; the tag itself"),
        "organisation_id": noted(ID, "whose tag it is; without it the tag of anybody"),
        "period": {"type": "string", "enum": list(PERIODS)},
        "time_zone": noted({"type": "string", "maxLength": 64}, "IANA name; UTC without it"),
        **_AMOUNT,
    },
    "scope",
    "scope_id",
    "period",
)
BUDGET_CHANGED: Final = changes(_AMOUNT)
_ROLE: Final[Schema] = {"type": "string", "enum": list(ROLES)}
ADMINISTRATOR_GIVEN: Final = thing(
    {
        "name": _NAME,
        "role": _ROLE,
        "organisation_id": noted(ID, "bound to it; without it, to nothing"),
        "team_id": ID,
        "expires_at_us": or_null(_MOMENT),
    },
    "name",
    "role",
)

# --- answers --------------------------------------------------------------------------------

_AT: Final = {"type": "integer"}
_BOUND: Final[dict[str, Schema]] = {"organisation_id": or_null(TEXT), "team_id": or_null(TEXT)}
_LIMITED: Final[Schema] = {"type": "object", "additionalProperties": {"type": "integer"}}
_LIST: Final[Schema] = {"type": "array", "items": TEXT}
SECRET: Final = noted(TEXT, "shown this once")


def _row(fields: dict[str, Any], *sometimes: str) -> Schema:
    """Of the table; those of `sometimes` are shown to some only."""
    return thing(fields, *(name for name in fields if name not in sometimes))


ORGANISATION: Final = _row(
    {
        "id": TEXT,
        "name": TEXT,
        "created_at_us": _AT,
        "archived_at_us": or_null(_AT),
        "limits": _LIMITED,
    },
    "limits",
)
TEAM: Final = _row(
    {
        "id": TEXT,
        "organisation_id": TEXT,
        "name": TEXT,
        "created_at_us": _AT,
        "archived_at_us": or_null(_AT),
        "limits": _LIMITED,
    },
    "limits",
)
_KEY: Final[dict[str, Schema]] = {
    "id": TEXT,
    "organisation_id": TEXT,
    "team_id": TEXT,
    "name": TEXT,
    "created_at_us": _AT,
    "expires_at_us": or_null(_AT),
    "revoked_at_us": or_null(_AT),
    "created_by": TEXT,
    "scopes": {"type": "object"},
    "tags": _LIST,
    "limits": _LIMITED,
}
_KEY_DETAILS: Final = ("created_by", "scopes", "tags", "limits")
KEY: Final = _row(_KEY, *_KEY_DETAILS)
_CREDENTIAL: Final = _row(
    {
        "id": TEXT,
        "last4": TEXT,
        "created_at_us": _AT,
        "expires_at_us": or_null(_AT),
        "revoked_at_us": or_null(_AT),
    }
)
_CERTIFICATE: Final = _row({"subject": TEXT, "revoked_at_us": or_null(_AT)})
KEY_SHOWN: Final = _row(
    {
        **_KEY,
        "credentials": {"type": "array", "items": _CREDENTIAL},
        "certificates": {"type": "array", "items": _CERTIFICATE},
    },
    *_KEY_DETAILS,
    "credentials",
    "certificates",
)
KEY_MADE: Final = thing(
    {**KEY_SHOWN["properties"], "secret": SECRET}, *KEY_SHOWN["required"], "secret"
)
BUDGET: Final = _row(
    {
        "id": TEXT,
        "scope": TEXT,
        "scope_id": TEXT,
        "organisation_id": or_null(TEXT),
        "period": TEXT,
        "time_zone": TEXT,
        "limit_micro": _AT,
        "limit_usd": TEXT,
        "is_hard": FLAG,
        "alert_percents": {"type": "array", "items": _AT},
        "created_at_us": _AT,
        "archived_at_us": or_null(_AT),
        "settled_micro": _AT,
        "reserved_micro": _AT,
        "period_start_s": _AT,
        "period_end_s": or_null(_AT),
    }
)
_ADMINISTRATOR: Final[dict[str, Schema]] = {
    "id": TEXT,
    "name": TEXT,
    "role": _ROLE,
    **_BOUND,
    "last4": TEXT,
    "created_at_us": _AT,
    "created_by": TEXT,
    "expires_at_us": or_null(_AT),
    "revoked_at_us": or_null(_AT),
}
ADMINISTRATOR: Final = _row(_ADMINISTRATOR)
ADMINISTRATOR_MADE: Final = _row({**_ADMINISTRATOR, "secret": SECRET})
AUDIT_ENTRY: Final = _row(
    {
        "seq": _AT,
        "at_us": _AT,
        "actor": TEXT,
        "action": TEXT,
        "subject": TEXT,
        "organisation_id": TEXT,
        "outcome": TEXT,
        "detail": {"type": "object"},
    }
)
ME: Final = thing(
    {**_ADMINISTRATOR, "permissions": _LIST}, *(n for n in _ADMINISTRATOR), "permissions"
)
