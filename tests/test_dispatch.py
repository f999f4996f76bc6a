"""What a worker's services are told of dials: slow ones, to several providers, suspend hedges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from relay.transport.base import Origin
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import on_virtual_time


def scenario(*names: str, rows_more: dict[str, Any] | None = None) -> Scenario:
    row = FakeEndpoint(chunks=answer("Hello"))
    return Scenario(dict.fromkeys(names, row), rows_more=rows_more)


def origin_of(one: Scenario, provider: str) -> Origin:
    return one.services.catalog.endpoints[provider].origin


def slow(one: Scenario) -> Sequence[str]:
    """Providers that are slow to connect to, as `/admin/state` shows them."""
    shown = cast("dict[str, Any]", one.services.planner.describe(())["common_mode"])
    return cast("Sequence[str]", shown["slow_connect"])


def is_suspended(one: Scenario) -> bool:
    shown = cast("dict[str, Any]", one.services.planner.describe(())["common_mode"])
    return bool(shown["suspended"])


@on_virtual_time
async def test_slow_dials_to_two_providers_suspend_hedges() -> None:
    one = scenario("a", "b")
    one.services.dialled(origin_of(one, "a"), 1.5)
    one.services.dialled(origin_of(one, "a"), 3.0)
    assert (slow(one), is_suspended(one)) == (["a"], False)
    one.services.dialled(origin_of(one, "b"), 3.0)
    assert (slow(one), is_suspended(one)) == (["a", "b"], True)
    one.services.dialled(origin_of(one, "b"), 0.001)  # also when it was refused at once
    assert (slow(one), is_suspended(one)) == (["a"], False)


@on_virtual_time
async def test_one_slow_host_of_two_rows_is_one_group() -> None:
    one = scenario("a", "b", "c", rows_more={"b": {"base_url": "https://a.test/other/v1"}})
    assert origin_of(one, "a") == origin_of(one, "b")
    one.services.dialled(origin_of(one, "a"), 3.0)
    assert (slow(one), is_suspended(one)) == (["a"], False)
    one.services.dialled(origin_of(one, "c"), 3.0)
    assert is_suspended(one)


@on_virtual_time
async def test_an_origin_that_the_catalog_does_not_name_is_nobody() -> None:
    """A dial that was under way when a reload took its provider out."""
    one = scenario("a")
    one.services.dialled(Origin("https", "gone.test", 443), 3.0)
    assert slow(one) == []
