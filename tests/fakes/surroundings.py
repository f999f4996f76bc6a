"""What rules are told of a worker, as a test says it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

NOON_S = 1_772_193_600.0
"""2026-02-27, a Friday, 12:00 UTC."""


@dataclass
class FakeSurroundings:
    """Counts what it was asked, so that a test can say what a rule costs."""

    now_s: float = NOON_S
    surface: str = "chat_completions"
    prompt_tokens: int = 100
    only: Collection[str] | None = None
    """What the key may ask for; None: everything."""
    p50_ms: Mapping[str, float] = field(default_factory=dict)
    p95_ms: Mapping[str, float] = field(default_factory=dict)
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def allowed(self, name: str) -> bool:
        self.asked.append(f"allowed {name}")
        return self.only is None or name in self.only

    def latency_ms(self, name: str, quantile: float) -> float | None:
        self.asked.append(f"latency {name}")
        return {0.5: self.p50_ms, 0.95: self.p95_ms}[quantile].get(name)

    def price(self, name: str) -> tuple[float, float] | None:
        self.asked.append(f"price {name}")
        return self.prices.get(name)
