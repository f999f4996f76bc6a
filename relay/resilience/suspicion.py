"""What others say of one target: enough to look twice, never enough to leave it.

A worker whose breaker of a target opens tells the others. That is a word, no evidence: it may be
the one machine's network. So whoever hears it is only *suspicious* for some seconds:

- the next request there is a trial, beside which another target stands by at once; while it is out
  the others are asked first (nobody is refused: with no other it is asked as always);
- one failure of its own opens the breaker, where else it takes five in a row;
- `REFUTED_BY` first tokens in time, and the word is refuted: the same opening, told again, changes
  nothing any more.

A word lasts for as long as its teller said, and is told again while his breaker is open: one from a
worker that died is over by itself. Words are kept by teller, `MAX_TELLERS` of them, so that one who
is well again takes back his own word alone, and a storm of them costs no memory.

A pure state machine: times are arguments, seconds of a monotonic clock; O(tellers) a word, O(1) an
attempt.
"""

from __future__ import annotations

import math
from typing import Final

REFUTED_BY: Final = 3
"""First tokens in time, in a row. With one, half of a provider's hosts being dead would be refuted
by the other half."""
TRIAL_S: Final = 3.0
"""A trial that has not spoken for so long makes way for the next one."""
MAX_TELLERS: Final = 16
MAX_WORD_S: Final = 30.0
"""However long a teller says."""


class _Word:
    __slots__ = ("episode", "is_refuted", "is_slow", "until_s")

    def __init__(self, episode: int, until_s: float, is_slow: bool) -> None:
        self.episode = episode
        self.until_s = until_s
        self.is_slow = is_slow
        self.is_refuted = False


class Suspicion:
    """Of one target, at one worker."""

    __slots__ = ("_failing_until_s", "_good", "_slow_until_s", "_trial", "_trial_until_s", "_words")

    def __init__(self) -> None:
        self._words: dict[str, _Word] = {}
        self._failing_until_s = self._slow_until_s = -math.inf  # of words that stand
        self._trial: object | None = None
        self._trial_until_s = 0.0
        self._good = 0

    # --- told by others ---------------------------------------------------------------------

    def hear(
        self, teller: str, episode: int, now_s: float, lasts_s: float, *, is_slow: bool
    ) -> bool:
        """A teller says that the target fails, or that it is slow.

        Args:
            episode: his number of this opening, higher for each; news of an older one are late.
            lasts_s: how long to believe him, unless he says it again.
            is_slow: it answers, but not in time.

        Returns:
            Whether it was news: a new teller, or a new opening.
        """
        self._forget(now_s)
        until_s = now_s + min(max(0.0, lasts_s), MAX_WORD_S)
        word = self._words.get(teller)
        if word is not None and episode < word.episode:
            return False
        is_new = word is None or episode > word.episode
        if is_new:
            was_on = self.is_on(now_s)
            self._words[teller] = word = _Word(episode, until_s, is_slow)
            if len(self._words) > MAX_TELLERS:
                del self._words[min(self._words, key=lambda name: self._words[name].until_s)]
            if not was_on:
                self._good = 0
        elif word is not None:
            word.until_s = max(word.until_s, until_s)
        self._count()
        return is_new

    def take_back(self, teller: str, episode: int) -> None:
        """He says that it is well again; of this opening he is not believed any more, even if an
        earlier word of it comes late."""
        word = self._words.get(teller)
        if word is not None and episode >= word.episode:
            word.episode = episode
            word.is_refuted = True
            self._count()

    # --- told by our own attempts -----------------------------------------------------------

    def spoke(self) -> None:
        """A first token came in time."""
        self._good += 1
        if self._good >= REFUTED_BY:
            self._good = 0
            for word in self._words.values():
                word.is_refuted = True
            self._count()

    def doubt(self) -> None:
        """A first token came late, or an attempt failed: the row of good ones is over."""
        self._good = 0

    def tried(self, permit: object, now_s: float) -> None:
        """A trial goes out."""
        self._trial = permit
        self._trial_until_s = now_s + TRIAL_S

    def trial_over(self, permit: object) -> None:
        """It has spoken, or ended; others than the present trial are ignored."""
        if permit is self._trial:
            self._trial = None

    # --- asked ------------------------------------------------------------------------------

    def is_on(self, now_s: float) -> bool:
        """Whether any word stands."""
        return now_s < self._failing_until_s or now_s < self._slow_until_s

    def is_failing(self, now_s: float) -> bool:
        """Whether one failure is enough."""
        return now_s < self._failing_until_s

    def is_slow(self, now_s: float) -> bool:
        """Whether two late first tokens in a row are enough."""
        return now_s < self._slow_until_s

    def wants_trial(self, now_s: float) -> bool:
        """Whether the next request there is to be a trial."""
        return self.is_on(now_s) and (self._trial is None or now_s >= self._trial_until_s)

    def is_on_trial(self, now_s: float) -> bool:
        """Whether a trial is out, so that others are asked first."""
        return self._trial is not None and now_s < self._trial_until_s and self.is_on(now_s)

    # --- inside -----------------------------------------------------------------------------

    def _forget(self, now_s: float) -> None:
        for teller in [name for name, word in self._words.items() if word.until_s <= now_s]:
            del self._words[teller]

    def _count(self) -> None:
        standing = [word for word in self._words.values() if not word.is_refuted]
        self._failing_until_s = max(
            (word.until_s for word in standing if not word.is_slow), default=-math.inf
        )
        self._slow_until_s = max(
            (word.until_s for word in standing if word.is_slow), default=-math.inf
        )
