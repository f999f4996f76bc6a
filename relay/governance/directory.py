"""Who may call: everything that the store knows of keys, in memory. No request reads the store.

What is known may be behind. Then a text that is no good here may be a key that was made a moment
ago, and whoever is told that it is not valid changes a good key: so while the last look at the
store failed, what is not known to be good is `StoreDown` (UNAVAILABLE, 503), and not
`Unauthenticated` (401); what is known to be good goes on. A revocation could not be heard either,
so after `stale_s` without a look nothing is good.

What is unknown, revoked, expired, or whose secret is wrong gets one text and takes one time. A
record is found by the MAC of the whole secret, never by its id: without the pepper nobody can
choose which MAC is looked for, and an id that is there, with another secret, is no nearer to being
found than one that is not. What is found and may not call is put aside, so that it is not found
again. Which step failed is looked at once, at the end. Of a text that can be no key (its checksum
says so) everybody can tell that himself, but it takes the same steps.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from typing import Final, NoReturn

from relay.deadline import Clock
from relay.errors import StoreDown, Unauthenticated
from relay.governance import token_text
from relay.governance.budget_scopes import BudgetRow
from relay.governance.key_view import KeyView
from relay.governance.pepper import Peppers
from relay.governance.roll import NO_MAC, BadRecord, Credential, Key, Roll, canonical_name
from relay.store.directory_rows import Changes, CredentialRow

REFUSED: Final = "the key is not valid"
NOT_NOW: Final = "keys cannot be looked up now; the key need not be changed, try again"
_STEP_ROWS: Final = 500
"""Taken up before others have a turn: about a millisecond."""
_DECOY: Final = "0" * (token_text.ID_CHARACTERS + 1 + token_text.SECRET_CHARACTERS)
RETRY_S: Final = 1.0
_TAKE_BACK_S: Final = 10.0
"""How long a key is at most taken for expired after a clock that was wrong has been put right."""


class Directory:
    """Used in the loop's thread only.

    Args:
        clock: monotonic, seconds: how old what is known is.
        stale_s: for so long after a look at the store began, what it has told holds.
        behind_s: for so long it is not missed that there is none after it.
    """

    def __init__(
        self, peppers: Peppers, clock: Clock, *, stale_s: float = 60.0, behind_s: float = 2.0
    ) -> None:
        self._peppers = peppers
        self._clock = clock
        self._stale_s = stale_s
        self._behind_s = behind_s
        self._roll = Roll()
        self._looked_s: float | None = None
        self._has_failed = False
        self._taken_back_s = 0.0
        self.revision: int | None = None
        """Of the store, as far as it is known here; None to begin with."""

    # --- what is new ------------------------------------------------------------------------

    def apply(self, changes: Changes, now_s: float) -> None:
        """Take up what a look at the store has shown.

        Args:
            now_s: when the look began, on the clock of this directory.
        """
        for _ in self.applying(changes, now_s):
            pass

    def applying(self, changes: Changes, now_s: float) -> Iterator[None]:
        """`apply` in steps of a millisecond. Nothing of a whole is in force before its last."""
        roll = Roll() if changes.is_whole else self._roll
        for rows in changes.steps(_STEP_ROWS):
            roll.take(rows)
            yield
        self._roll = roll
        if now_s - self._taken_back_s >= _TAKE_BACK_S:
            self._taken_back_s = now_s
            roll.take_back()
        self.revision = changes.revision
        self._looked_s = now_s
        self._has_failed = False

    def failed(self) -> None:
        """A look at the store came to nothing."""
        self._has_failed = True

    @property
    def is_loaded(self) -> bool:
        """Whether there was ever a look that did."""
        return self._looked_s is not None

    @property
    def is_behind(self) -> bool:
        """Whether there may be keys, or changes of them, that are not known here."""
        looked_s = self._looked_s
        if looked_s is None or self._has_failed:
            return True
        return self._clock() - looked_s > self._behind_s

    @property
    def is_stale(self) -> bool:
        """Whether what is known is too old to be gone by."""
        looked_s = self._looked_s
        return looked_s is None or self._clock() - looked_s > self._stale_s

    def unverifiable(self, changes: Changes) -> int:
        """How many of the credentials in it were made with a pepper that is not configured."""
        return sum(
            row.pepper_id not in self._peppers
            for row in changes.rows
            if isinstance(row, CredentialRow) and not row.is_revoked
        )

    # --- who --------------------------------------------------------------------------------

    def identify(self, bearer: str, now_us: int) -> KeyView:
        """Whose secret this is.

        Args:
            now_us: microseconds since 1970, for expiry.

        Raises:
            Unauthenticated: nobody's that may call.
            StoreDown: that cannot be told now.
        """
        roll, token = self._roll, token_text.read(bearer)
        is_key = token is not None and token.kind == "virtual key"
        signed = token.signed if token is not None and is_key else _DECOY
        record, mac = roll.nobody, NO_MAC
        for pepper in self._peppers.all:
            mac = pepper.mac("virtual key", signed)
            record = roll.by_mac.get(mac, record)
            if record is not roll.nobody:
                break
        is_same = hmac.compare_digest(mac, record.mac)
        if not (is_same & self._may_call(record, now_us)):
            if record is not roll.nobody:
                roll.put_aside(record)
            self._refuse(can_be_new=is_key)
        return self._view(record.key)

    def identify_certificate(self, names: Iterable[str], now_us: int) -> KeyView:
        """Whose client certificate this is.

        Args:
            names: subject alternative names of a certificate that was verified, `DNS:...`,
                `URI:...`; those that are not registered are passed over.
            now_us: as of `identify`.

        Raises:
            Unauthenticated: nobody's that may call, or those of several keys.
            StoreDown: that cannot be told now.
        """
        certificates = self._roll.certificates
        found = [
            record
            for name in names
            if (record := certificates.get(canonical_name(name))) is not None
            and self._may_call(record, now_us)
        ]
        keys = {record.key.id for record in found}
        if len(keys) != 1:
            self._refuse(can_be_new=not keys)
        return self._view(found[0].key)

    def live(self, key_id: str, now_us: int) -> KeyView:
        """What holds for a key that was identified before; for each generation.

        Raises:
            Unauthenticated: it was revoked, has expired, or its team is no more.
            StoreDown: that cannot be told any more.
        """
        key = self._roll.keys.get(key_id)
        if key is None or not key.is_live(now_us):
            self._refuse(can_be_new=key is None)
        return self._view(key)

    def tag_budgets(self, organisation_id: str, tags: Iterable[str]) -> tuple[BudgetRow, ...]:
        """Budgets of a request's tags: its organisation's, and those of a tag of anybody."""
        roll = self._roll
        return tuple(row for tag in tags for row in roll.tag_budgets(organisation_id, tag))

    def organisation_of(self, key_id: str) -> str:
        """Whose a key is, also one that is good no more; "" of one that is not known."""
        key = self._roll.keys.get(key_id)
        return "" if key is None else key.team.organisation.id

    @staticmethod
    def _may_call(record: Credential, now_us: int) -> bool:
        return (now_us < record.until_us) & record.key.is_live(now_us)

    def _refuse(self, *, can_be_new: bool) -> NoReturn:
        if can_be_new and self.is_behind:
            raise StoreDown(NOT_NOW, retry_after_s=RETRY_S)
        raise Unauthenticated(REFUSED)

    def _view(self, key: Key) -> KeyView:
        if self.is_stale:
            raise StoreDown(NOT_NOW, retry_after_s=RETRY_S)
        try:
            return self._roll.view(key)
        except BadRecord:
            raise StoreDown(
                "what is kept of the key cannot be read by this version", retry_after_s=RETRY_S
            ) from None
