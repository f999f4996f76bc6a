"""What runs inside PostgreSQL: one call writes a batch, another settles what was left open.

Both are functions in the session's temporary schema. So each connection brings those of its own
version: relays of two versions use one database while it is upgraded, and nothing has to be
migrated for them. Being one statement without BEGIN, a call holds no lock while it waits for the
relay: a relay that hangs, or whose network does, blocks nobody.

Whoever locks several things does so in this order, which is what keeps relays from deadlock: rows
of `budget_periods` by budget (byte order) and period, then rows of `generations`, then all else.
The sweep passes over generations that another has locked.

What comes from outside is bound. Only names of columns, constants here, are put together.
"""

from __future__ import annotations

from typing import Final

Columns = tuple[tuple[str, type], ...]
"""Names, and whether they hold text (str) or whole numbers (int)."""

OPENED: Final[Columns] = (
    ("id", str),
    ("instance_id", str),
    ("organisation_id", str),
    ("team_id", str),
    ("key_id", str),
    ("alias", str),
    ("surface", str),
    ("tags", str),
    ("labels", str),
    ("session_id", str),
    ("turn_id", str),
    ("trace_id", str),
    ("admitted_at_us", int),
    ("lease_until_us", int),
    ("holds", str),
)
"""Of `generations` when one is opened; `state` and `reserved_micro` are found here."""

SETTLED: Final[Columns] = (
    ("id", str),
    ("state", str),
    ("settled_micro", int),
    ("ended_at_us", int),
    ("reason", str),
    ("provider", str),
    ("model", str),
    ("is_usage_final", int),
    ("ttft_us", int),
    ("wall_us", int),
    ("phases", str),
    ("decision", str),
    ("saved_micro", int),
)
"""Of `generations` when one is settled."""

STARTED: Final[Columns] = (
    ("generation_id", str),
    ("ordinal", int),
    ("provider", str),
    ("model", str),
    ("role", str),
    ("started_us", int),
    ("upper_micro", int),
)
"""Of `attempts` when one starts."""

CLOSED: Final[Columns] = (
    ("generation_id", str),
    ("ordinal", int),
    ("state", str),
    ("provider", str),
    ("model", str),
    ("role", str),
    ("outcome", str),
    ("reason", str),
    ("http_status", int),
    ("is_winner", int),
    ("started_us", int),
    ("ended_us", int),
    ("prompt_tokens", int),
    ("cached_tokens", int),
    ("cache_write_tokens", int),
    ("output_tokens", int),
    ("reasoning_tokens", int),
    ("price_version", str),
    ("cost_micro", int),
    ("upper_micro", int),
    ("phases", str),
    ("leg", str),
)
"""Of `attempts` when its generation is settled."""

OPEN, EXTEND, ATTEMPT, SETTLE = range(4)
"""Kinds of operations. A reservation is an OPEN with holds."""

NOT_OPEN: Final = -1
OTHER_HOLDS: Final = -2
"""In place of a hold, why an operation was not done."""


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def count_of(columns: Columns, kind: type) -> int:
    """How many columns hold text, or numbers."""
    return sum(one is kind for _, one in columns)


def _values(prefix: str, columns: Columns) -> list[str]:
    """Row `k` of columns whose texts are in one array, row after row, and whose numbers in another.

    An array a column would read better and costs twice as much: for one row the work is in the
    number of arrays, not in what they hold.
    """
    found = []
    seen = {str: 0, int: 0}
    for _, kind in columns:
        seen[kind] += 1
        array = f"{prefix}_text" if kind is str else f"{prefix}_number"
        found.append(f"{array}[(k - 1) * {count_of(columns, kind)} + {seen[kind]}]")
    return found


def _assignments(prefix: str, columns: Columns) -> str:
    values = zip(columns, _values(prefix, columns), strict=True)
    return ", ".join(f"{name} = {value}" for (name, _), value in values if name != "id")


def _list(prefix: str, columns: Columns) -> str:
    return ", ".join(_values(prefix, columns))


def _value(prefix: str, columns: Columns, name: str) -> str:
    names = [one for one, _ in columns]
    return _values(prefix, columns)[names.index(name)]


_OPERATION: Final[Columns] = (
    ("kind", int), ("of", int), ("row", int), ("holds_end", int), ("amounts_end", int),
)  # fmt: skip
"""Of an operation: its generation and its row among those of its kind, both from 1, and where its
holds and amounts end in the arrays of all."""

_EXCLUDED: Final = ", ".join(
    f"{name} = excluded.{name}" for name, _ in CLOSED if name not in ("generation_id", "ordinal")
)
_LOCK_BUDGETS: Final = """
    FOR i IN 1 .. cardinality(p_budget) LOOP
        SELECT settled_micro, reserved_micro, overrun_micro INTO one FROM budget_periods
        WHERE budget_id = p_budget[i] AND period_start_s = p_start[i] FOR NO KEY UPDATE;
        IF NOT FOUND THEN
            INSERT INTO budget_periods (budget_id, period_start_s) VALUES (p_budget[i], p_start[i])
            ON CONFLICT DO NOTHING;
            SELECT settled_micro, reserved_micro, overrun_micro INTO one FROM budget_periods
            WHERE budget_id = p_budget[i] AND period_start_s = p_start[i] FOR NO KEY UPDATE;
        END IF;
        b_settled[i] := one.settled_micro;
        b_reserved[i] := one.reserved_micro;
        b_overrun[i] := one.overrun_micro;
    END LOOP;
"""
"""One by one, since the order is what matters."""

WRITE_FUNCTION: Final = f"""
CREATE FUNCTION pg_temp.relay_write(
    p_budget text[], p_start bigint[],
    p_generation text[],
    operation_number integer[],
    p_held bigint[],
    p_amount bigint[],
    p_holds text[],
    o_text text[], o_number bigint[],
    s_text text[], s_number bigint[],
    a_text text[], a_number bigint[],
    c_text text[], c_number bigint[], c_settle integer[],
    p_instance text, p_place text, p_started bigint, p_lease_until bigint,
    OUT r_amount bigint[], OUT r_hold integer[], OUT r_left bigint[]
) LANGUAGE plpgsql AS $body$
#variable_conflict use_column
DECLARE
    one record;
    b_settled bigint[] := '{{}}';
    b_reserved bigint[] := '{{}}';
    b_overrun bigint[] := '{{}}';
    g_state text[] := '{{}}';
    g_reserved bigint[] := '{{}}';
    g_holds text[] := '{{}}';
    o_reserved bigint[] := '{{}}';
    o_rows integer[] := '{{}}';
    a_rows integer[] := '{{}}';
    s_rows integer[] := '{{}}';
    s_is_on boolean[] := '{{}}';
    e_id text[] := '{{}}';
    e_reserved bigint[] := '{{}}';
    kind_one integer;
    of_one integer;
    row_one integer;
    budget_one integer;
    spent bigint;
    hold_from integer := 1;
    hold_to integer;
    amount_from integer := 1;
    amount_to integer;
    tight integer;
    left_one bigint;
    left_least bigint;
    found_count integer;
BEGIN
    {_LOCK_BUDGETS}
    FOR one IN
        SELECT asked.position, g.state, g.reserved_micro, g.holds
        FROM unnest(p_generation) WITH ORDINALITY AS asked (id, position)
        JOIN generations AS g ON g.id = asked.id
        FOR NO KEY UPDATE OF g
    LOOP
        g_state[one.position] := one.state;
        g_reserved[one.position] := one.reserved_micro;
        g_holds[one.position] := one.holds;
    END LOOP;

    r_amount := array_fill(NULL::bigint, ARRAY[cardinality(p_holds)]);
    r_hold := array_fill(NULL::integer, ARRAY[cardinality(p_holds)]);
    r_left := r_amount;
    FOR k IN 1 .. cardinality(p_holds) LOOP
        kind_one := {_value("operation", _OPERATION, "kind")};
        of_one := {_value("operation", _OPERATION, "of")};
        row_one := {_value("operation", _OPERATION, "row")};
        hold_to := {_value("operation", _OPERATION, "holds_end")};
        amount_to := {_value("operation", _OPERATION, "amounts_end")};
        IF kind_one = {ATTEMPT} THEN
            IF g_state[of_one] = 'open' THEN
                a_rows := a_rows || row_one;
            ELSE
                r_hold[k] := {NOT_OPEN};
            END IF;
        ELSIF kind_one = {SETTLE} THEN
            IF g_state[of_one] IS DISTINCT FROM 'open' THEN
                r_hold[k] := {NOT_OPEN};
            ELSIF g_holds[of_one] <> p_holds[k] THEN
                r_hold[k] := {OTHER_HOLDS};
            ELSE
                spent := {_value("s", SETTLED, "settled_micro").replace("k -", "row_one -")};
                FOR h IN hold_from .. hold_to LOOP
                    budget_one := p_held[h * 2 - 1];
                    b_reserved[budget_one] := b_reserved[budget_one] - g_reserved[of_one];
                    b_settled[budget_one] := b_settled[budget_one] + spent;
                    b_overrun[budget_one] := b_overrun[budget_one]
                        + greatest(0, spent - g_reserved[of_one]);
                END LOOP;
                g_state[of_one] := 'over';
                s_rows := s_rows || row_one;
                s_is_on[row_one] := true;
                r_amount[k] := spent;
            END IF;
        ELSIF kind_one = {OPEN} AND g_state[of_one] IS NOT NULL THEN
            -- Written already, by a call whose answer was lost.
            IF g_state[of_one] = 'open' THEN
                r_amount[k] := g_reserved[of_one];
            ELSE
                r_hold[k] := {NOT_OPEN};
            END IF;
        ELSIF kind_one = {EXTEND} AND g_state[of_one] IS DISTINCT FROM 'open' THEN
            r_hold[k] := {NOT_OPEN};
        ELSIF kind_one = {EXTEND} AND g_holds[of_one] <> p_holds[k] THEN
            r_hold[k] := {OTHER_HOLDS};
        ELSE
            tight := NULL;
            FOR h IN hold_from .. hold_to LOOP
                IF p_held[h * 2] IS NOT NULL THEN
                    budget_one := p_held[h * 2 - 1];
                    left_one := p_held[h * 2] - b_settled[budget_one] - b_reserved[budget_one];
                    IF tight IS NULL OR left_one < left_least THEN
                        tight := h - hold_from;
                        left_least := left_one;
                    END IF;
                END IF;
            END LOOP;
            FOR m IN amount_from .. amount_to LOOP
                IF tight IS NULL OR p_amount[m] <= left_least THEN
                    r_amount[k] := p_amount[m];
                    EXIT;
                END IF;
            END LOOP;
            IF r_amount[k] IS NULL THEN
                r_hold[k] := tight;
                r_left[k] := left_least;
            ELSE
                FOR h IN hold_from .. hold_to LOOP
                    budget_one := p_held[h * 2 - 1];
                    b_reserved[budget_one] := b_reserved[budget_one] + r_amount[k];
                END LOOP;
                IF kind_one = {OPEN} THEN
                    g_state[of_one] := 'open';
                    g_reserved[of_one] := r_amount[k];
                    g_holds[of_one] := p_holds[k];
                    o_rows := o_rows || row_one;
                    o_reserved[row_one] := r_amount[k];
                ELSE
                    g_reserved[of_one] := g_reserved[of_one] + r_amount[k];
                    e_id := e_id || p_generation[of_one];
                    e_reserved := e_reserved || r_amount[k];
                END IF;
            END IF;
        END IF;
        hold_from := hold_to + 1;
        amount_from := amount_to + 1;
    END LOOP;

    IF cardinality(o_rows) > 0 THEN
        INSERT INTO generations ({_names(OPENED)}, state, reserved_micro)
        SELECT {_list("o", OPENED)}, 'open', o_reserved[k] FROM unnest(o_rows) AS k
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> cardinality(o_rows) THEN
            RAISE EXCEPTION 'a generation was opened elsewhere meanwhile'
            USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF cardinality(e_id) > 0 THEN
        UPDATE generations AS g SET reserved_micro = g.reserved_micro + new.more
        FROM (
            SELECT id, sum(more) AS more FROM unnest(e_id, e_reserved) AS e (id, more) GROUP BY id
        ) AS new
        WHERE g.id = new.id;
    END IF;
    IF cardinality(a_rows) > 0 THEN
        INSERT INTO attempts ({_names(STARTED)}, state)
        SELECT {_list("a", STARTED)}, 'open' FROM unnest(a_rows) AS k
        ON CONFLICT DO NOTHING;
    END IF;
    IF cardinality(s_rows) > 0 THEN
        UPDATE generations AS g SET {_assignments("s", SETTLED)} FROM unnest(s_rows) AS k
        WHERE g.id = {_value("s", SETTLED, "id")};
        INSERT INTO attempts ({_names(CLOSED)})
        SELECT {_list("c", CLOSED)} FROM generate_subscripts(c_settle, 1) AS k
        WHERE s_is_on[c_settle[k]]
        ON CONFLICT (generation_id, ordinal) DO UPDATE SET {_EXCLUDED};
    END IF;
    FOR i IN 1 .. cardinality(p_budget) LOOP
        UPDATE budget_periods SET
            settled_micro = b_settled[i], reserved_micro = b_reserved[i],
            overrun_micro = b_overrun[i]
        WHERE budget_id = p_budget[i] AND period_start_s = p_start[i]
            AND (settled_micro, reserved_micro) <> (b_settled[i], b_reserved[i]);
    END LOOP;
    IF p_lease_until IS NOT NULL THEN
        INSERT INTO instances (id, place, started_at_us, lease_until_us)
        VALUES (p_instance, p_place, p_started, p_lease_until)
        ON CONFLICT (id) DO UPDATE SET
            lease_until_us = greatest(instances.lease_until_us, excluded.lease_until_us);
    END IF;
END
$body$;
"""  # noqa: S608 - names of columns, which are constants here

_IS_LEFT: Final = """
    g.state = 'open' AND (
        i.id IS NULL OR i.lease_until_us <= p_now OR g.lease_until_us <= p_now
    )
"""

SWEEP_FUNCTION: Final = f"""
CREATE FUNCTION pg_temp.relay_sweep(p_now bigint, p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $body$
DECLARE
    one record;
    ids text[];
    p_budget text[];
    p_start bigint[];
    b_settled bigint[] := '{{}}';
    b_reserved bigint[] := '{{}}';
    b_overrun bigint[] := '{{}}';
    costs bigint[];
    tries integer[];
BEGIN
    SELECT array_agg(id) INTO ids FROM (
        SELECT g.id FROM generations AS g LEFT JOIN instances AS i ON i.id = g.instance_id
        WHERE {_IS_LEFT} LIMIT p_limit
    ) AS found;
    IF ids IS NULL THEN
        DELETE FROM instances AS i WHERE i.lease_until_us <= p_now AND NOT EXISTS (
            SELECT FROM generations AS g WHERE g.instance_id = i.id AND g.state = 'open'
        );
        RETURN 0;
    END IF;
    SELECT coalesce(array_agg(budget), '{{}}'), coalesce(array_agg(start), '{{}}')
    INTO p_budget, p_start
    FROM (
        SELECT hold ->> 0 AS budget, (hold ->> 1)::bigint AS start
        FROM generations AS g, json_array_elements(g.holds::json) AS hold
        WHERE g.id = ANY (ids) GROUP BY 1, 2 ORDER BY (hold ->> 0) COLLATE "C", 2
    ) AS held;
    {_LOCK_BUDGETS}
    SELECT coalesce(array_agg(locked.id), '{{}}') INTO ids FROM (
        SELECT g.id FROM generations AS g LEFT JOIN instances AS i ON i.id = g.instance_id
        WHERE g.id = ANY (ids) AND {_IS_LEFT}
        FOR NO KEY UPDATE OF g SKIP LOCKED
    ) AS locked;
    SELECT array_agg(cost), array_agg(tried) INTO costs, tries FROM (
        SELECT
            coalesce(sum(coalesce(a.cost_micro, a.upper_micro)), 0)::bigint AS cost,
            count(a.ordinal)::integer AS tried
        FROM unnest(ids) WITH ORDINALITY AS left_open (id, position)
        LEFT JOIN attempts AS a ON a.generation_id = left_open.id
        GROUP BY left_open.position ORDER BY left_open.position
    ) AS summed;
    UPDATE budget_periods AS b SET
        reserved_micro = b.reserved_micro - new.reserved,
        settled_micro = b.settled_micro + new.settled,
        overrun_micro = b.overrun_micro + new.overrun
    FROM (
        SELECT
            hold ->> 0 AS budget,
            (hold ->> 1)::bigint AS start,
            sum(g.reserved_micro)::bigint AS reserved,
            sum(cost)::bigint AS settled,
            sum(greatest(0, cost - g.reserved_micro))::bigint AS overrun
        FROM unnest(ids, costs) AS left_open (id, cost)
        JOIN generations AS g USING (id), json_array_elements(g.holds::json) AS hold
        GROUP BY 1, 2
    ) AS new
    WHERE b.budget_id = new.budget AND b.period_start_s = new.start;
    UPDATE generations AS g SET
        state = CASE WHEN left_open.tried > 0 THEN 'estimated' ELSE 'void' END,
        settled_micro = left_open.cost,
        ended_at_us = p_now,
        reason = 'ABANDONED',
        is_usage_final = 0
    FROM unnest(ids, costs, tries) AS left_open (id, cost, tried)
    WHERE g.id = left_open.id;
    UPDATE attempts AS a SET
        state = CASE WHEN a.upper_micro IS NULL THEN 'unpriced' ELSE 'estimated' END,
        outcome = 'abandoned',
        is_winner = 0,
        cost_micro = a.upper_micro
    WHERE a.generation_id = ANY (ids) AND a.state = 'open';
    RETURN cardinality(ids);
END
$body$;
"""  # noqa: S608 - no values are in it

_WRITE_PARAMETERS: Final = 20

WRITE: Final = "SELECT * FROM pg_temp.relay_write({})".format(  # noqa: S608 - numbers alone
    ", ".join(f"${number}" for number in range(1, _WRITE_PARAMETERS + 1))
)
SWEEP: Final = "SELECT pg_temp.relay_sweep($1, $2)"
FORGET_PREDECESSORS: Final = "DELETE FROM instances WHERE place = $1 AND id <> $2"
TAKE_LEASE: Final = """
INSERT INTO instances (id, place, started_at_us, lease_until_us) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET lease_until_us = excluded.lease_until_us
"""
LEAVE: Final = "DELETE FROM instances WHERE id = $1"
