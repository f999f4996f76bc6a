"""A resolver that is told its answers: which addresses a name has, now and the next time."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence

from relay.resolving import Resolver


class FakeNames:
    """Answers of a DNS, in order; the last one stays. Names without any are not found."""

    def __init__(self, **answers: Sequence[Sequence[str]]) -> None:
        self.answers: dict[str, list[Sequence[str]]] = {
            name: list(given) for name, given in answers.items()
        }
        self.asked: defaultdict[str, int] = defaultdict(int)
        self.hangs: threading.Event | None = None
        """While it is there and not set, every question waits."""

    def find(self, host: str) -> Sequence[str]:
        """See `relay.resolving.LookUp`."""
        self.asked[host] += 1
        if self.hangs is not None:
            self.hangs.wait(10)
        answers = self.answers.get(host)
        if not answers:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class AtOnce(Resolver):
    """Knows one address for every name, without a thread: for a virtual clock."""

    async def addresses(self, host: str, private: Sequence[str] | None = None) -> tuple[str, ...]:
        return ("192.0.2.1",)
