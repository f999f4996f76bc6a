"""Whether an answer is the JSON that was asked for.

Schemas come from clients and texts from models, so both may be hostile, and the loop must not
stand still for them: texts, schemas and the steps of one validation are bounded; patterns are
searched by RE2, which is linear; `$ref` never leaves the schema; repeats in arrays are found by
hashes. What is over a bound, a schema that is none, and `unevaluated...` cannot be judged, and are
taken as good.

Source: JSON Schema 2020-12, and whichever draft `$schema` names, by the library `jsonschema`.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import orjson
import re2
from jsonschema import exceptions, validators
from referencing.jsonschema import EMPTY_REGISTRY

MAX_TEXT_BYTES: Final = 256 * 1024
MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_STEPS: Final = 10_000
"""Keywords looked at in one validation: 3 us each, 30 us where it is a reference."""
INLINE_BYTES: Final = 4 * 1024
"""Text and schema; what is larger is checked in a thread, and so is a schema that is new."""
MAX_KNOWN: Final = 64
"""Schemas that are kept, of 64 KiB at most."""
INLINE_STEPS: Final = 200
"""What takes more goes on in a thread."""
_MAX_PATTERN_CHARS: Final = 1000


def breaks_schema(text: str, schema_json: bytes) -> bool:
    """Whether a text is no JSON, or JSON that a schema refuses.

    Args:
        schema_json: JSON Schema; empty for any JSON object.
    """
    try:
        return _breaks(text, schema_json, MAX_STEPS)
    except _TooMuch:
        return False


async def is_broken(text: str, schema_json: bytes) -> bool:
    """As `breaks_schema`, in a thread where that may take long.

    Cancelled: the thread runs on to its bounded end, and nobody waits for it.
    """
    is_known = not schema_json or schema_json in _known
    if is_known and len(text) + len(schema_json) <= INLINE_BYTES:
        try:
            return _breaks(text, schema_json, INLINE_STEPS)
        except _TooMuch:
            pass
    return await asyncio.to_thread(breaks_schema, text, schema_json)


def is_schema(schema_json: bytes) -> bool:
    """Whether a schema can be used; of an operator's own, asked before anything needs it, it is
    then ready."""
    return len(schema_json) <= MAX_SCHEMA_BYTES and _validator(schema_json) is not None


def _breaks(text: str, schema_json: bytes, max_steps: int) -> bool:
    """
    Raises:
        _TooMuch: that many steps did not tell.
    """
    if len(text) > MAX_TEXT_BYTES:
        return False
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return True
    if not schema_json:
        return not isinstance(value, dict)
    if len(schema_json) > MAX_SCHEMA_BYTES:
        return False
    validator = _validator(schema_json)
    if validator is None:
        return False
    _steps.left = max_steps
    try:
        return next(validator.iter_errors(value), None) is not None
    except _TooMuch:
        raise
    except Exception:  # noqa: BLE001 - see below
        # `$ref` out of the schema, recursion, and whatever else a schema that its draft takes for
        # good trips the library by: 'extends' of draft 3 as a mapping ends in an AttributeError.
        return False


class _TooMuch(Exception):
    """The validation is over a bound."""


class _Steps(threading.local):
    """Of the validation that runs in this thread."""

    left = 0


_steps = _Steps()


def _counted(keyword: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any) -> Any:
        _steps.left -= 1
        if _steps.left < 0:
            raise _TooMuch
        return keyword(*args)

    return counted


@lru_cache(maxsize=16)
def _bounded(draft: type[Any]) -> type[Any]:
    """A draft's validator with our bounds."""
    keywords = {
        name: _counted(_OWN.get(name, keyword)) for name, keyword in draft.VALIDATORS.items()
    }
    found: type[Any] = validators.extend(draft, keywords)
    return found


_known: OrderedDict[bytes, Any] = OrderedDict()
"""Schemas used last, by their text, with their validators."""
_known_lock = threading.Lock()


def _validator(schema_json: bytes) -> Any:
    """None where it is no schema. The first time takes milliseconds a kilobyte."""
    with _known_lock:
        if schema_json in _known:
            _known.move_to_end(schema_json)
            return _known[schema_json]
    found = _compiled(schema_json)
    with _known_lock:
        _known[schema_json] = found
        while len(_known) > MAX_KNOWN:
            _known.popitem(last=False)
    return found


def _compiled(schema_json: bytes) -> Any:
    try:
        schema = orjson.loads(schema_json)
        if not isinstance(schema, dict | bool):
            return None
        draft = validators.validator_for(schema, default=validators.Draft202012Validator)
        draft.check_schema(schema)
    except Exception:  # noqa: BLE001 - of a schema that is none the library raises what it likes
        return None
    return _bounded(draft)(schema, registry=EMPTY_REGISTRY)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> Any:
    """Compiled; None for what RE2 does not know (look-around, back references)."""
    if len(pattern) > _MAX_PATTERN_CHARS:
        return None
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def _has_pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[Any]:
    if isinstance(instance, str):
        compiled = _pattern(pattern)
        if compiled is not None and not compiled.search(instance):
            yield exceptions.ValidationError("pattern")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, _: Any
) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        compiled = _pattern(pattern)
        for key, value in instance.items():
            if compiled is not None and compiled.search(key):
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: dict[str, Any]
) -> Iterator[Any]:
    if not isinstance(instance, dict):
        return
    patterns = [_pattern(one) for one in schema.get("patternProperties", {})]
    if None in patterns:
        return  # it cannot be told which ones are additional
    known = schema.get("properties", {})
    for key, value in instance.items():
        if key in known or any(one.search(key) for one in patterns):
            continue
        if allowed is False:
            yield exceptions.ValidationError("additionalProperties")
        elif isinstance(allowed, dict):
            yield from validator.descend(value, allowed, path=key)


def _unique_items(_: Any, is_wanted: Any, instance: Any, __: Any) -> Iterator[Any]:
    if is_wanted is not True or not isinstance(instance, list):
        return
    seen = {orjson.dumps(one, option=orjson.OPT_SORT_KEYS) for one in instance}
    if len(seen) != len(instance):
        yield exceptions.ValidationError("uniqueItems")


def _not_judged(*_: Any) -> Iterator[Any]:
    return iter(())


_OWN: Final[dict[str, Callable[..., Any]]] = {
    "pattern": _has_pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
    # These search patterns by the standard library, in ways that cannot be replaced one by one.
    "unevaluatedItems": _not_judged,
    "unevaluatedProperties": _not_judged,
}
