"""Usage over HTTP: sums, files, and forgetting somebody."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from relay.administration import usage
from relay.administration.desk import Desk
from relay.administration.faults import Invalid
from relay.administration.roles import Actor
from relay.frontends.admin.route import BASE, Asked, Raw, Route, Schema
from relay.frontends.admin.schemas import ID, TEXT, noted, or_null, thing
from relay.store.usage_fields import Selection
from relay.store.usage_files import FORMATS
from relay.store.usage_query import MAX_GROUPS, MEASURES, UsageQuery, as_data

_WORDS: Final[Schema] = {"type": "string", "maxLength": 4096}
_MOMENT: Final[Schema] = {"type": "integer", "minimum": 0, "description": "microseconds since 1970"}
_MEASURE: Final[Schema] = or_null({"type": "integer"})
_SUMS: Final[dict[str, Schema]] = dict.fromkeys(MEASURES, _MEASURE)
_TEXTS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}

_FILTERS: Final = {
    "organisation_id": "organisation",
    "team_id": "team",
    "key_id": "key",
    "session_id": "session",
    **{
        name: name
        for name in (
            "alias",
            "provider",
            "model",
            "surface",
            "tag",
            "state",
            "reason",
            "role",
            "outcome",
            "charge",
        )
    },
}
"""Parameters, and the dimensions that they are of."""
_RANGE: Final[dict[str, Schema]] = {
    "since_us": noted(_MOMENT, "admitted then or later, microseconds since 1970"),
    "until_us": noted(_MOMENT, "admitted before"),
}
_WHERE: Final[dict[str, Schema]] = {
    **_RANGE,
    **{name: noted(_WORDS, "one of these, with commas between") for name in _FILTERS},
    "session_id": noted(_WORDS, "this one"),
    "label": noted(_WORDS, "NAME=VALUE"),
}
REPORT: Final = thing(
    {
        "groups": {
            "type": "array",
            "items": thing({"by": _TEXTS, "names": _TEXTS, **_SUMS}, "by", "names", *MEASURES),
        },
        "total": thing(_SUMS, *MEASURES),
        "has_more": {"type": "boolean"},
        "time_zone": TEXT,
    },
    "groups",
    "total",
    "has_more",
    "time_zone",
)
_FORGET: Final = thing(
    {"key_id": ID, "session_id": _WORDS, "label": noted(_WORDS, "NAME=VALUE"), **_RANGE}
)


def selection_of(values: Mapping[str, Any]) -> Selection:
    """
    Raises:
        Invalid
    """
    where: dict[str, tuple[str, ...]] = {}
    for parameter, name in _FILTERS.items():
        if parameter in values:
            text = values[parameter]
            where[name] = (text,) if parameter == "session_id" else tuple(text.split(","))
    if "label" in values:
        name, sign, value = values["label"].partition("=")
        if not name or not sign:
            raise Invalid("label must be NAME=VALUE", "label")
        where[f"label:{name}"] = (value,)
    return Selection(values.get("since_us"), values.get("until_us"), where)


def _summary(desk: Desk, actor: Actor, asked: Asked) -> Any:
    values = asked.query
    query = UsageQuery(
        tuple(name for name in values.get("by", "").split(",") if name),
        selection_of(values),
        values.get("time_zone", "UTC"),
        values.get("order", ""),
        values.get("limit", 100),
    )
    return {**as_data(usage.summary(desk, actor, query)), "time_zone": query.time_zone}


def _export(desk: Desk, actor: Actor, asked: Asked) -> Any:
    values = asked.query
    file_format, shape = values.get("format", "csv"), values.get("rows", "attempts")
    is_open = values.get("open", False)
    pieces = usage.export(desk, actor, selection_of(values), shape, file_format, has_open=is_open)
    day = time.strftime("%Y%m%d", time.gmtime(desk.now_us() // 1_000_000))
    return Raw(pieces, FORMATS[file_format], f"usage-{shape}-{day}.{file_format}")


def _forget(desk: Desk, actor: Actor, asked: Asked) -> Any:
    return {"generations": usage.forget_somebody(desk, actor, selection_of(asked.body))}


USAGE_ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET",
        f"{BASE}/usage",
        "usage.read",
        "Usage added up by any dimensions; sessions and labels take detail.read too",
        _summary,
        REPORT,
        query={
            "by": noted(
                _WORDS,
                "with commas between: organisation, team, key, alias, provider, model, surface,"
                " tag, label:NAME, hour, day, month, role, outcome, charge, state, reason, session",
            ),
            **_WHERE,
            "time_zone": noted(TEXT, "whose days and hours; UTC without it"),
            "order": noted(TEXT, "a dimension or a measure, `-` before it: the largest first"),
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_GROUPS},
        },
    ),
    Route(
        "GET",
        f"{BASE}/usage/export",
        "usage.export",
        "Every row, as a file that is streamed",
        _export,
        {"type": "string"},
        query={
            "format": {"type": "string", "enum": list(FORMATS)},
            "rows": {"type": "string", "enum": ["attempts", "generations"]},
            "open": noted({"type": "boolean"}, "what is not over too"),
            **_WHERE,
        },
        content_type=FORMATS["csv"],
    ),
    Route(
        "POST",
        f"{BASE}/usage/forget",
        "usage.delete",
        "Blank labels, session, turn and trace of what is named; money stays",
        _forget,
        thing({"generations": {"type": "integer"}}, "generations"),
        body=_FORGET,
        example={"session_id": "call-4711"},
    ),
)
