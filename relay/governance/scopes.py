"""What a key may ask for. What it does not say is allowed, but what is handed through unread."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, Self

from relay.errors import PermissionDenied, shown

MAX_ENTRIES: Final = 256
MAX_TEXT: Final = 255
MAX_ZONES: Final = 32
_MOST_MICRO: Final = 2**63 - 1
ZONE_PATTERN: Final = "[a-z][a-z0-9-]{0,31}"
"""Of the name of a data zone, as in the configuration (`data_zone`)."""


class BadScopes(ValueError):
    """A field is wrong or not known; the message names it."""


@dataclass(frozen=True)
class Scopes:
    """Grants of one key; each field is one thing that it may or may not do.

    Raises:
        BadScopes: a value is of the wrong kind or beyond its bounds.
    """

    models: tuple[str, ...] = ()
    """Patterns over the name as it is asked for: of an alias, or `provider/model`. `*` stands for
    any characters, for a `/` only in a pattern that has one itself or is nothing but `*`."""
    model_tags: tuple[str, ...] = ()
    """Aliases that carry one of these tags, beside those of `models`. Both empty: every model."""
    request_tags: tuple[str, ...] | None = None
    """Tags that a request may carry; None for any. The key's own need no leave."""
    may_hedge: bool = True
    """Whether a request may go to several providers at once."""
    max_cost_micro: int | None = None
    """What one request may cost at worst, micro-dollars; None for no limit."""
    passthrough: bool = False
    """Whether it may use what is handed to a provider unread."""
    zones: tuple[str, ...] | None = None
    """Data zones in which its prompts may be processed; None for anywhere. A target of which the
    zone is not known is in none."""

    def __post_init__(self) -> None:
        for name in ("models", "model_tags"):
            _check_texts(name, getattr(self, name))
        if self.request_tags is not None:
            _check_texts("request_tags", self.request_tags)
        if self.zones is not None:
            _check_zones(self.zones)
        for name in ("may_hedge", "passthrough"):
            if not isinstance(getattr(self, name), bool):
                raise BadScopes(f"{name} must be true or false")
        most = self.max_cost_micro
        is_number = isinstance(most, int) and not isinstance(most, bool)
        if most is not None and not (is_number and 0 <= most <= _MOST_MICRO):
            raise BadScopes("max_cost_micro must be a whole number of micro-dollars, or null")

    @classmethod
    def from_mapping(cls, value: Mapping[str, Any]) -> Self:
        """
        Raises:
            BadScopes: a field is wrong or not known. One that a later version knows is refused as
                well: what it forbids would be allowed here otherwise.
        """
        known = {field.name for field in fields(cls)}
        for name in value:
            if name not in known:
                raise BadScopes(f"{shown(str(name))} is no scope; known are {', '.join(known)}")
        given: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in value.items()
        }
        return cls(**given)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Of the column `keys.scopes`; raises BadScopes."""
        try:
            value = json.loads(text)
        except ValueError:
            raise BadScopes("the scopes are no JSON") from None
        if not isinstance(value, dict):
            raise BadScopes("the scopes are no JSON object")
        return cls.from_mapping(value)

    def to_json(self) -> str:
        """For the column; fields at their defaults are left out."""
        value = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":"))

    # --- questions --------------------------------------------------------------------------

    @property
    def is_for_every_model(self) -> bool:
        """Whether models are not looked at."""
        return not self.models and not self.model_tags

    def allows_model(self, name: str, alias_tags: Iterable[str] = ()) -> bool:
        """
        Args:
            name: as it is asked for.
            alias_tags: of the alias, if it is one.
        """
        if self.is_for_every_model or any(pattern.fits(name) for pattern in self._patterns):
            return True
        return bool(self.model_tags) and not self._model_tags.isdisjoint(alias_tags)

    def check_model(self, name: str, alias_tags: Iterable[str] = ()) -> None:
        """
        Raises:
            PermissionDenied: not this model. To be asked before it is looked up whether there is
                one of the name: the answer is the same then.
        """
        if not self.allows_model(name, alias_tags):
            raise PermissionDenied(
                f"this key may not use the model {shown(name)!r}; GET /v1/models lists those"
                " that it may",
                metadata={"field": "model"},
            )

    def check_tags(self, tags: Collection[str]) -> None:
        """
        Args:
            tags: of the request itself.

        Raises:
            PermissionDenied: naming the first that it may not carry.
        """
        if self.request_tags is None:
            return
        for tag in tags:
            if tag not in self._request_tags:
                raise PermissionDenied(
                    f"this key may not put the tag {shown(tag)!r} on a request",
                    metadata={"field": "tags"},
                )

    def check_cost(self, most_micro: int) -> None:
        """
        Args:
            most_micro: what the request can cost at worst, micro-dollars.

        Raises:
            PermissionDenied: more than this key may spend on one request.
        """
        if self.max_cost_micro is not None and most_micro > self.max_cost_micro:
            raise PermissionDenied(
                f"this request can cost {most_micro} micro-dollars, and this key may spend"
                f" {self.max_cost_micro} on one: a lower limit of output tokens makes it cheaper"
            )

    def check_passthrough(self) -> None:
        """
        Raises:
            PermissionDenied: not for this key.
        """
        if not self.passthrough:
            raise PermissionDenied("this key may not use what is handed through to a provider")

    def check_zone(self, provider: str, zone: str) -> None:
        """
        Args:
            zone: of a provider that is asked without a model, by its row; empty for unknown.

        Raises:
            PermissionDenied: not in the zones of this key.
        """
        if self.data_zones is not None and zone not in self.data_zones:
            raise PermissionDenied(
                f"this key is for data in {shown_zones(self.data_zones)}, and {shown(provider)} is"
                f" {f'in {zone}' if zone else 'in an unknown zone'}",
                metadata={"field": "zones"},
            )

    @cached_property
    def data_zones(self) -> frozenset[str] | None:
        """`zones`, to be looked up."""
        return None if self.zones is None else frozenset(self.zones)

    @cached_property
    def _patterns(self) -> tuple[_Pattern, ...]:
        return tuple(_Pattern(text) for text in self.models)

    @cached_property
    def _model_tags(self) -> frozenset[str]:
        return frozenset(self.model_tags)

    @cached_property
    def _request_tags(self) -> frozenset[str]:
        return frozenset(self.request_tags or ())


class _Pattern:
    """A text with `*` in it. Takes time that grows with the length of either, never their powers,
    as an expression with many `.*` would."""

    __slots__ = ("_begin", "_crosses", "_end", "_exact", "_inner", "_least")

    def __init__(self, text: str) -> None:
        self._exact = text if "*" not in text else None
        self._begin, *rest = text.split("*")
        *inner, self._end = rest or [""]
        self._inner = [part for part in inner if part]
        self._crosses = "/" in text or not text.strip("*")
        self._least = len(text.replace("*", ""))

    def fits(self, name: str) -> bool:
        if self._exact is not None:
            return name == self._exact
        if len(name) < self._least or not (self._crosses or "/" not in name):
            return False
        if not (name.startswith(self._begin) and name.endswith(self._end)):
            return False
        at, until = len(self._begin), len(name) - len(self._end)
        for part in self._inner:
            at = name.find(part, at, until)
            if at < 0:
                return False
            at += len(part)
        return True


def shown_zones(zones: Iterable[str]) -> str:
    """For people, the same whatever their order."""
    return ", ".join(sorted(zones))


def _check_zones(zones: object) -> None:
    if not isinstance(zones, tuple) or not 0 < len(zones) <= MAX_ZONES:
        raise BadScopes(
            f"zones must be a list of 1 to {MAX_ZONES} data zones, or null for anywhere"
        )
    for zone in zones:
        if not isinstance(zone, str) or not re.fullmatch(ZONE_PATTERN, zone):
            raise BadScopes("zones must hold names of data zones, such as eu or us")


def _check_texts(name: str, texts: object) -> None:
    if not isinstance(texts, tuple) or len(texts) > MAX_ENTRIES:
        raise BadScopes(f"{name} must be a list of at most {MAX_ENTRIES} texts")
    for text in texts:
        if not isinstance(text, str) or not 0 < len(text) <= MAX_TEXT:
            raise BadScopes(f"{name} must hold texts of 1 to {MAX_TEXT} characters")


EVERYTHING: Final = Scopes(passthrough=True)
"""Of a relay without keys."""
