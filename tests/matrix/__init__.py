"""The fault matrix: everything that providers, clients, the network, disks and stores do wrong.

A *row* is one kind of fault with what is to come of it: what the client sees, what is booked,
what is tried again. Its *parts* are scenarios that inject the fault for real and assert all three.
Each runs with several seeds (two, 20 with `RELAY_FULL=1`), which draw what the fault leaves open:
where it strikes, over which door, in which pieces.

A part names the *defence* that it is about. `test_without.py` takes that away and sees the part
fail: a test that passes without what it tests tests nothing.

    make test ARGS="tests/matrix -k U9"
    python -m tests.matrix.table        # writes docs/faults.md

`row.py` is what a part is made of, `world.py` a relay with accounts in front of providers that do
as they are told, `rows.py` the list. Rows live in `links/` (U1 to U16), `bodies/` (U17 to U32),
`client/` (C) and `process/` (P).
"""
