"""Whether the accounts say what callers were told."""

from __future__ import annotations

from tests.fakes.books import Books
from tests.soak.callers import Tally

_AT_ONCE = 500


def compare(books: Books, tally: Tally) -> int:
    """Compare the whole answers that callers were told of since the last time, and forget them.

    Returns:
        How many were compared; what differs is blamed.
    """
    told, tally.told = tally.told, []
    for at in range(0, len(told), _AT_ONCE):
        some = dict(told[at : at + _AT_ONCE])
        names = ", ".join(f":id{number}" for number in range(len(some)))
        rows = books.rows(
            "SELECT g.id, g.state, a.output_tokens, count(*) OVER (PARTITION BY g.id) AS winners"
            " FROM generations g JOIN attempts a ON a.generation_id = g.id AND a.is_winner = 1"
            f" WHERE g.id IN ({names})",
            **{f"id{number}": id_ for number, id_ in enumerate(some)},
        )
        found = {row["id"]: row for row in rows}
        for id_, tokens in some.items():
            row = found.get(id_)
            if row is None:
                tally.blame(f"{id_} was answered and is not in the books")
            elif row["winners"] != 1 or row["output_tokens"] != tokens:
                tally.blame(f"{id_} was told {tokens} tokens and is booked as {dict(row)}")
    return len(told)
