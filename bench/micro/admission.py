"""CPU of one generation's admission and account, without what the store itself takes.

    python -m bench.micro.admission

One generation as the relay goes it: admitted by key, limits and three hard budgets, one attempt
noted, settled with what it has cost. The store says yes to everything at once. Best of several
rounds, microseconds; `bench.micro.ledger` has the store's part.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Final

from bench.micro.ledger import NullStore
from relay.config import parse
from relay.content import GenerateRequest, Message, Role, Sampling, TextPart, Usage
from relay.errors import Draining
from relay.governance.admission import Admission, AdmissionSettings
from relay.governance.charges import ChargeBook
from relay.governance.directory import Directory
from relay.governance.gate import KeyGate
from relay.governance.ledger import Asked
from relay.governance.limit_desk import LimitDesk
from relay.governance.limits import KeyLimits, Limits
from relay.governance.pepper import Pepper, Peppers
from relay.governance.price_sheet import PriceSheet
from relay.governance.token_text import Minted
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, refused
from relay.routing.catalog import Catalog
from relay.store.directory_rows import (
    BudgetEntry,
    Changes,
    CredentialRow,
    KeyRow,
    OrganisationRow,
    Row,
    TeamRow,
)
from relay.store.memory_limits import MemoryLimits

_NOW_US = 1_700_000_000_000_000
_PEPPER = Pepper("pepper-of-the-bench-0123456789-abcdefghij")
_WIDE = Limits(rpm=10**6, input_tpm=10**8)
_CONFIG = parse(
    {
        "providers": {
            "p": {
                "wire": "openai_chat",
                "base_url": "https://p.test/v1",
                "prices": {"m": {"input": 1.0, "output": 2.0}},
            }
        },
        "models": {"fast": {"candidates": [{"provider": "p", "model": "m"}]}},
    },
    {},
)
_CATALOG = Catalog(_CONFIG)
_TEXT = "Could you find me a table for two in the city centre tonight at eight?"
_USAGE = Usage(120, 60, 180)


def _gate() -> KeyGate:
    directory = Directory(Peppers(_PEPPER), lambda: 1.0)
    minted = Minted("virtual key", f"{7:016}", f"{7:043}")
    mac = _PEPPER.mac("virtual key", minted.signed)
    budgets = [
        BudgetEntry(
            f"bud_{scope}", scope, of, "org_1", "month", "UTC", 10**15, True, "[]", False, 1
        )
        for scope, of in (("key", "key_7"), ("team", "team_1"), ("organisation", "org_1"))
    ]
    rows: tuple[Row, ...] = (
        OrganisationRow("org_1", "{}", False, 1),
        TeamRow("team_1", "org_1", "{}", False, 1),
        KeyRow("key_7", "team_1", "{}", "[]", "{}", None, False, 1),
        CredentialRow(minted.id, "key_7", mac, _PEPPER.id, None, False, 1),
        *budgets,
    )
    directory.apply(Changes(1, rows, is_whole=True), 1.0)
    return KeyGate(directory, time.monotonic, lambda: _NOW_US)


class _Way:
    """One worker's way."""

    def __init__(self, sampling: Sampling) -> None:
        limits = KeyLimits(_WIDE, _WIDE, Limits())
        self.admission = Admission(
            store=NullStore(),  # type: ignore[arg-type]  # what is asked of it is there
            instance_id="inst_1",
            prices=PriceSheet({"p": _CONFIG.providers["p"].prices}),
            settings=AdmissionSettings(),
            gate=_gate(),
            now_us=lambda: _NOW_US,
            limits=LimitDesk(MemoryLimits(), ChargeBook(limits), lambda: _NOW_US),
        )
        request = GenerateRequest(
            "fast", (Message(Role.USER, (TextPart(_TEXT),)),), sampling=sampling
        )
        policy = replace(request.policy, key_id="key_7", tenant="team_1")
        self.asked = Asked("gen", replace(request, policy=policy), _CATALOG, "chat", 20)

    async def go(self) -> None:
        admitted = await self.admission.admit(self.asked)
        entry = admitted.entry
        if entry is None:
            raise AssertionError("an account is kept")
        target = admitted.route.candidates[0]
        record = AttemptRecord("p", target.model, 0, role=AttemptRole.PRIMARY)
        record.is_free = False
        if (waiting := entry.started(record, target)) is not None:
            await waiting
        await entry.durable()
        record.is_winner = True
        record.outcome = AttemptOutcome.SUCCESS
        entry.settle(_END)
        await entry.booked()

    async def admit(self) -> None:
        await self.admission.admit(self.asked)


_END: Final = replace(
    refused(Draining("gone")),
    error=None,
    usage=_USAGE,
    is_usage_final=True,
    provider="p",
    model="m",
)


def measure(rounds: int = 7, number: int = 3_000) -> dict[str, float]:
    """Microseconds for each named piece of work."""
    return asyncio.run(_measure(rounds, number))


async def _measure(rounds: int, number: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, sampling in (
        ("limited_by_client", Sampling(max_output_tokens=100)),
        ("limited_by_relay", Sampling()),
    ):
        way = _Way(sampling)
        for step, work in (("admit", way.admit), ("whole", way.go)):
            best_us = float("inf")
            for _ in range(rounds):
                began_ns = time.perf_counter_ns()
                for _ in range(number):
                    await work()
                best_us = min(best_us, (time.perf_counter_ns() - began_ns) / 1e3 / number)
            found[f"{step}_{name}"] = best_us
    return found


def main() -> None:
    """Print the table."""
    for name, value in measure().items():
        print(f"{name:32}{value:8.1f} us")


if __name__ == "__main__":
    main()
