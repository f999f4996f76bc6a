"""What rules may know beside the request itself."""

from __future__ import annotations

from typing import Protocol


class Surroundings(Protocol):
    """Of one request, at one moment. What costs something is asked for only by rules that need it,
    and may be asked for more than once."""

    @property
    def now_s(self) -> float:
        """The wall clock, seconds since 1970."""
        ...

    @property
    def surface(self) -> str:
        """The way in, as accounts call it: `converse`, `chat_completions`, ..."""
        ...

    @property
    def prompt_tokens(self) -> int:
        """Estimated from bytes."""
        ...

    def allowed(self, name: str) -> bool:
        """Whether the caller's key may ask for this name itself."""
        ...

    def latency_ms(self, name: str, quantile: float) -> float | None:
        """What was learnt of the time to first token that such a request has at an alias; None
        where nothing was yet."""
        ...

    def price(self, name: str) -> tuple[float, float] | None:
        """Of input and output at an alias, US dollars per million tokens, which is micro-dollars
        per token; None where it is not known."""
        ...
