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

Columns = tuple[tuple[str, str], ...]

OPENED: Final[Columns] = (
    ("id", "text"),
    ("instance_id", "text"),
    ("organisation_id", "text"),
    ("team_id", "text"),
    ("key_id", "text"),
    ("alias", "text"),
    ("surface", "text"),
    ("tags", "text"),
    ("labels", "text"),
    ("session_id", "text"),
    ("turn_id", "text"),
    ("trace_id", "text"),
    ("admitted_at_us", "bigint"),
    ("lease_until_us", "bigint"),
    ("holds", "text"),
)
"""Of `generations` when one is opened; `state` and `reserved_micro` are found here."""

SETTLED: Final[Columns] = (
    ("id", "text"),
    ("state", "text"),
    ("settled_micro", "bigint"),
    ("ended_at_us", "bigint"),
    ("reason", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("is_usage_final", "smallint"),
    ("ttft_us", "bigint"),
    ("wall_us", "bigint"),
    ("phases", "text"),
)
"""Of `generations` when one is settled."""

STARTED: Final[Columns] = (
    ("generation_id", "text"),
    ("ordinal", "integer"),
    ("provider", "text"),
    ("model", "text"),
    ("role", "text"),
    ("started_us", "bigint"),
    ("upper_micro", "bigint"),
)
"""Of `attempts` when one starts."""

CLOSED: Final[Columns] = (
    ("generation_id", "text"),
    ("ordinal", "integer"),
    ("state", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("role", "text"),
    ("outcome", "text"),
    ("reason", "text"),
    ("http_status", "integer"),
    ("is_winner", "smallint"),
    ("started_us", "bigint"),
    ("ended_us", "bigint"),
    ("prompt_tokens", "bigint"),
    ("cached_tokens", "bigint"),
    ("cache_write_tokens", "bigint"),
    ("output_tokens", "bigint"),
    ("reasoning_tokens", "bigint"),
    ("price_version", "text"),
    ("cost_micro", "bigint"),
    ("upper_micro", "bigint"),
    ("phases", "text"),
)
"""Of `attempts` when its generation is settled."""

OPEN, EXTEND, ATTEMPT, SETTLE = range(4)
"""Kinds of operations. A reservation is an OPEN with holds."""

NOT_OPEN: Final = -1
OTHER_HOLDS: Final = -2
"""In place of a hold, why an operation was not done."""


def _names(columns: Columns) -> str:
    return ", ".join(name for name, _ in columns)


def _parameters(prefix: str, columns: Columns) -> str:
    return ", ".join(f"{prefix}_{name} {kind}[]" for name, kind in columns)


def _arrays(prefix: str, columns: Columns) -> str:
    return ", ".join(f"{prefix}_{name}" for name, _ in columns)


def _assignments(columns: Columns, source: str, leaving_out: int) -> str:
    return ", ".join(f"{name} = {source}.{name}" for name, _ in columns[leaving_out:])


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
    p_kind integer[], p_of integer[], p_row integer[],
    p_holds_end integer[], p_hold integer[], p_cap bigint[],
    p_amounts_end integer[], p_amount bigint[],
    p_holds text[],
    {_parameters("o", OPENED)},
    {_parameters("s", SETTLED)},
    {_parameters("a", STARTED)},
    c_settle integer[], {_parameters("c", CLOSED)},
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
    o_reserved bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(o_id)]);
    o_count integer := 0;
    a_is_on boolean[] := array_fill(false, ARRAY[cardinality(a_generation_id)]);
    s_is_on boolean[] := array_fill(false, ARRAY[cardinality(s_id)]);
    e_id text[] := '{{}}';
    e_reserved bigint[] := '{{}}';
    of_one integer;
    row_one integer;
    hold_from integer := 1;
    amount_from integer := 1;
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

    r_amount := array_fill(NULL::bigint, ARRAY[cardinality(p_kind)]);
    r_hold := array_fill(NULL::integer, ARRAY[cardinality(p_kind)]);
    r_left := r_amount;
    FOR k IN 1 .. cardinality(p_kind) LOOP
        of_one := p_of[k];
        row_one := p_row[k];
        IF p_kind[k] = {ATTEMPT} THEN
            a_is_on[row_one] := g_state[of_one] IS NOT DISTINCT FROM 'open';
        ELSIF p_kind[k] = {SETTLE} THEN
            IF g_state[of_one] IS DISTINCT FROM 'open' THEN
                r_hold[k] := {NOT_OPEN};
            ELSIF g_holds[of_one] <> p_holds[k] THEN
                r_hold[k] := {OTHER_HOLDS};
            ELSE
                FOR h IN hold_from .. p_holds_end[k] LOOP
                    b_reserved[p_hold[h]] := b_reserved[p_hold[h]] - g_reserved[of_one];
                    b_settled[p_hold[h]] := b_settled[p_hold[h]] + s_settled_micro[row_one];
                    b_overrun[p_hold[h]] := b_overrun[p_hold[h]]
                        + greatest(0, s_settled_micro[row_one] - g_reserved[of_one]);
                END LOOP;
                g_state[of_one] := 'over';
                s_is_on[row_one] := true;
                r_amount[k] := s_settled_micro[row_one];
            END IF;
        ELSIF p_kind[k] = {OPEN} AND g_state[of_one] IS NOT NULL THEN
            -- Written already, by a call whose answer was lost.
            IF g_state[of_one] = 'open' THEN
                r_amount[k] := g_reserved[of_one];
            ELSE
                r_hold[k] := {NOT_OPEN};
            END IF;
        ELSIF p_kind[k] = {EXTEND} AND g_state[of_one] IS DISTINCT FROM 'open' THEN
            r_hold[k] := {NOT_OPEN};
        ELSIF p_kind[k] = {EXTEND} AND g_holds[of_one] <> p_holds[k] THEN
            r_hold[k] := {OTHER_HOLDS};
        ELSE
            tight := NULL;
            FOR h IN hold_from .. p_holds_end[k] LOOP
                IF p_cap[h] IS NOT NULL THEN
                    left_one := p_cap[h] - b_settled[p_hold[h]] - b_reserved[p_hold[h]];
                    IF tight IS NULL OR left_one < left_least THEN
                        tight := h - hold_from;
                        left_least := left_one;
                    END IF;
                END IF;
            END LOOP;
            FOR m IN amount_from .. p_amounts_end[k] LOOP
                IF tight IS NULL OR p_amount[m] <= left_least THEN
                    r_amount[k] := p_amount[m];
                    EXIT;
                END IF;
            END LOOP;
            IF r_amount[k] IS NULL THEN
                r_hold[k] := tight;
                r_left[k] := left_least;
            ELSE
                FOR h IN hold_from .. p_holds_end[k] LOOP
                    b_reserved[p_hold[h]] := b_reserved[p_hold[h]] + r_amount[k];
                END LOOP;
                IF p_kind[k] = {OPEN} THEN
                    g_state[of_one] := 'open';
                    g_reserved[of_one] := r_amount[k];
                    g_holds[of_one] := o_holds[row_one];
                    o_reserved[row_one] := r_amount[k];
                    o_count := o_count + 1;
                ELSE
                    g_reserved[of_one] := g_reserved[of_one] + r_amount[k];
                    e_id := e_id || p_generation[of_one];
                    e_reserved := e_reserved || r_amount[k];
                END IF;
            END IF;
        END IF;
        hold_from := p_holds_end[k] + 1;
        amount_from := p_amounts_end[k] + 1;
    END LOOP;

    IF o_count > 0 THEN
        INSERT INTO generations ({_names(OPENED)}, state, reserved_micro)
        SELECT {_names(OPENED)}, 'open', reserved_micro
        FROM unnest({_arrays("o", OPENED)}, o_reserved) AS new ({_names(OPENED)}, reserved_micro)
        WHERE reserved_micro IS NOT NULL
        ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS found_count = ROW_COUNT;
        IF found_count <> o_count THEN
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
    IF true = ANY (a_is_on) THEN
        INSERT INTO attempts ({_names(STARTED)}, state)
        SELECT {_names(STARTED)}, 'open'
        FROM unnest({_arrays("a", STARTED)}, a_is_on) AS new ({_names(STARTED)}, is_on)
        WHERE is_on
        ON CONFLICT DO NOTHING;
    END IF;
    IF true = ANY (s_is_on) THEN
        UPDATE generations AS g SET {_assignments(SETTLED, "new", 1)}
        FROM unnest({_arrays("s", SETTLED)}, s_is_on) AS new ({_names(SETTLED)}, is_on)
        WHERE new.is_on AND g.id = new.id;
        INSERT INTO attempts ({_names(CLOSED)})
        SELECT {_names(CLOSED)}
        FROM unnest({_arrays("c", CLOSED)}, c_settle) AS new ({_names(CLOSED)}, settle)
        WHERE s_is_on[settle]
        ON CONFLICT (generation_id, ordinal) DO UPDATE SET {_assignments(CLOSED, "excluded", 2)};
    END IF;
    IF cardinality(p_budget) > 0 THEN
        UPDATE budget_periods AS b SET
            settled_micro = new.settled, reserved_micro = new.reserved, overrun_micro = new.overrun
        FROM unnest(p_budget, p_start, b_settled, b_reserved, b_overrun)
            AS new (id, start, settled, reserved, overrun)
        WHERE b.budget_id = new.id AND b.period_start_s = new.start
            AND (b.settled_micro, b.reserved_micro) <> (new.settled, new.reserved);
    END IF;
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

_WRITE_PARAMETERS: Final = 12 + len(OPENED) + len(SETTLED) + len(STARTED) + 1 + len(CLOSED) + 4

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
