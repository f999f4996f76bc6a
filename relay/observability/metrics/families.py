"""Every family of metrics: its name, kind, labels, and how many rows it can have.

Labels come from the configuration, from the store's own names, or from a fixed list in the code;
never from what a client writes. docs/metrics.md is held to this table by a test, and so are the
dashboard and the alerts.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, NamedTuple

PREFIX: Final = "rtrelay_"
WORKER: Final = "worker"
OTHER: Final = "_other"
"""Row of whatever has none of its own. No name of a configuration begins with `_`."""
DIRECT: Final = "_direct"
"""Alias of what was asked for as `provider/model`, or by a model's own name."""
UNKNOWN: Final = "_unknown"
"""Alias of what was refused by another name."""
SHADOW: Final = "_shadow"
"""Alias of copies of requests (`policies.shadows`), whatever was asked for: how they fare is no
caller's business."""
NONE: Final = "_none"
"""Provider of a generation that none answered."""

_TARGETS: Final = "targets (max_targets, then `_other`)"
_ALIASES: Final = "aliases + 3"
_PROVIDERS: Final = "providers + 1"
_ORIGINS: Final = "addresses of providers (at most 1000)"
_ONE: Final = "1"
_WORKERS: Final = "workers"


class Kind(enum.Enum):
    """As Prometheus calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Join = Literal["sum", "min", "max", "worker"]
"""Of a gauge over workers; `worker` gives each its own row. Counters and buckets add up."""


class Family(NamedTuple):
    """One of them."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]
    rows: str
    """How many there can be, in words."""
    join: Join = "sum"
    buckets: str = ""
    """Of a histogram: the field of `BucketsConfig`, or `lag`."""


def _counter(name: str, words: str, labels: tuple[str, ...], rows: str) -> Family:
    return Family(f"{PREFIX}{name}_total", Kind.COUNTER, words, labels, rows)


def _gauge(name: str, words: str, labels: tuple[str, ...], rows: str, join: Join = "sum") -> Family:
    labels = (*labels, WORKER) if join == "worker" else labels
    return Family(f"{PREFIX}{name}", Kind.GAUGE, words, labels, rows, join)


def _histogram(name: str, words: str, labels: tuple[str, ...], rows: str, buckets: str) -> Family:
    return Family(f"{PREFIX}{name}", Kind.HISTOGRAM, words, labels, rows, buckets=buckets)


_TARGET: Final = ("provider", "model")

# --- generations --------------------------------------------------------------------------------

GENERATIONS = _counter(
    "generations",
    "Generations that ended, by the name that was asked for and how they ended.",
    ("alias", "frontend", "outcome"),
    f"({_ALIASES}) x frontends (12) x 3",
)
GENERATION_ERRORS = _counter(
    "generation_errors",
    "Generations that ended with an error, a client's cancel among them.",
    ("alias", "source", "reason"),
    f"({_ALIASES}) x reasons (48)",
)
TURNED_AWAY = _counter(
    "requests_refused",
    "Requests that came to no generation and to no provider (a body that is wrong, a key that is"
    " nobody's, a path that is not there, a worker that drains), by what they were for.",
    ("surface", "reason"),
    "surfaces (12) x reasons (48)",
)
HANDED_THROUGH = _counter(
    "passthrough",
    "What was handed through to a provider unread, by its end: ok, client_error and server_error by"
    " the provider's status, cancelled by the client, error where the relay ended it.",
    ("provider", "surface", "outcome"),
    f"({_PROVIDERS}) x 2 x 5",
)
HANDED_THROUGH_TIME = _histogram(
    "passthrough_seconds",
    "From its beginning to its end; a WebSocket's whole life.",
    ("provider", "surface"),
    f"({_PROVIDERS}) x 2",
    "wall_ms",
)
TTFT = _histogram(
    "ttft_seconds",
    "From the receipt of a request to its answer's first content.",
    ("alias",),
    _ALIASES,
    "ttft_ms",
)
ADDED = _histogram(
    "added_latency_seconds",
    "What the relay itself spent before the first output of an answer: the phases admission, route,"
    " pool_wait, request_sent and relay_out.",
    ("frontend",),
    "frontends (12)",
    "added_ms",
)
PHASE = _histogram(
    "phase_seconds",
    "Time of a generation in each phase of its timeline that it spent any in; provider is the"
    " winner's, `_none` without one.",
    ("provider", "phase"),
    f"({_PROVIDERS} + 1) x phases (11)",
    "phase_ms",
)
WALL = _histogram(
    "generation_seconds",
    "From the receipt of a request to its end.",
    ("frontend",),
    "frontends (12)",
    "wall_ms",
)
MEAN_GAP = _histogram(
    "token_gap_mean_seconds",
    "Mean time between the tokens of an answer, one value an answer of two tokens or more.",
    _TARGET,
    _TARGETS,
    "mean_gap_ms",
)
LONGEST_GAP = _histogram(
    "token_gap_longest_seconds",
    "Longest wait for the provider inside an answer, one value an answer.",
    _TARGET,
    _TARGETS,
    "longest_gap_ms",
)
STALLS = _counter(
    "stalls",
    "Waits of more than half a second for the provider inside an answer.",
    _TARGET,
    _TARGETS,
)
DEAD_AIR = _counter(
    "dead_air_generations",
    "Generations without enough to speak (8 tokens, or a whole shorter answer) by dead_air_ms;"
    " unanswered ones are among them.",
    ("alias",),
    _ALIASES,
)
DEAD_AIR_JUDGED = _counter(
    "dead_air_judged",
    "Generations that were looked at for dead air: some provider was asked, and the client did not"
    " go before the first content. What dead air is a share of.",
    ("alias",),
    _ALIASES,
)

# --- policies ---------------------------------------------------------------------------------

_POLICIES: Final = "names of the configuration (at most 500)"

CACHE_LOOKUPS = _counter(
    "cache_lookups",
    "Generations that the relay's own caches had to do with: hit, semantic, shared, miss, bypass,"
    " refresh.",
    ("alias", "verdict"),
    f"({_ALIASES}) x 6",
)
CACHE_SAVED = _counter(
    "cache_saved_usd",
    "What kept answers had cost when a provider made them, of generations that they answered.",
    ("alias",),
    _ALIASES,
)
POLICY_CHOICES = _counter(
    "policy_choices",
    "Generations that a policy decided about, by its kind (rule, experiment, cascade, panel), its"
    " name, and what came of it: of an experiment the arm.",
    ("kind", "name", "outcome"),
    f"{_POLICIES} x outcomes (12)",
)
GUARDRAIL_VERDICTS = _counter(
    "guardrail_verdicts",
    "What guardrails found, by what was done about it; error: one could not tell.",
    ("guardrail", "side", "action"),
    f"{_POLICIES} x 2 x 5",
)

# --- attempts -----------------------------------------------------------------------------------

ATTEMPTS = _counter(
    "attempts",
    "Attempts at targets, by why they were started and what came of them; those that a breaker or a"
    " limit refused at once too.",
    (*_TARGET, "role", "outcome"),
    f"{_TARGETS} x 4 x 5",
)
ATTEMPTS_SENT = _counter(
    "attempts_sent",
    "Attempts whose request was handed to the HTTP engine.",
    _TARGET,
    _TARGETS,
)
ATTEMPT_ERRORS = _counter(
    "attempt_errors",
    "Attempts that failed, by why.",
    (*_TARGET, "reason"),
    f"{_TARGETS} x reasons (48)",
)
ATTEMPT_TTFT = _histogram(
    "attempt_ttft_seconds",
    "From an attempt's start to its first content, of those that came to it.",
    _TARGET,
    _TARGETS,
    "ttft_ms",
)
TOKENS = _counter(
    "tokens",
    "Tokens of winners, as counted by the provider, else estimated; cached is a part of prompt.",
    (*_TARGET, "kind"),
    f"{_TARGETS} x 3",
)
ATTEMPT_COST = _counter(
    "attempt_cost_usd",
    "Estimated cost of all attempts, losers and cancelled ones among them.",
    _TARGET,
    _TARGETS,
)
UNPRICED = _counter("attempts_unpriced", "Attempts whose cost is not known.", _TARGET, _TARGETS)

# --- hedges -------------------------------------------------------------------------------------

HEDGE_DECISIONS = _counter(
    "hedge_decisions",
    "Planned generations by how their hedge was timed, or why there was none.",
    ("alias", "reason"),
    f"({_ALIASES}) x 12",
)
HEDGES_SENT = _counter(
    "hedges_sent", "Further attempts that a hedge's timer started.", ("alias",), _ALIASES
)
HEDGES_WON = _counter("hedges_won", "Generations that one of them answered.", ("alias",), _ALIASES)
HEDGES_DENIED = _counter(
    "hedges_denied",
    "Generations whose hedge was due and did not start, by why.",
    ("alias", "reason"),
    f"({_ALIASES}) x 8",
)
HEDGES_SHADOWED = _counter(
    "hedges_shadowed",
    "Hedges that would have started, had the alias not been in shadow mode.",
    ("alias",),
    _ALIASES,
)
HEDGES_SHADOW_WON = _counter(
    "hedges_shadow_won",
    "Of them, how many would have been first: a sum of probabilities.",
    ("alias",),
    _ALIASES,
)
HEDGE_COST = _counter(
    "hedge_cost_usd",
    "What hedges added to the cost of their generations; bound: likely, or upper, as if no provider"
    " stopped when it is cancelled.",
    ("alias", "bound"),
    f"({_ALIASES}) x 2",
)
HEDGE_SHADOW_COST = _counter(
    "hedge_shadow_cost_usd",
    "What hedges would have added that shadow mode did not send.",
    ("alias", "bound"),
    f"({_ALIASES}) x 2",
)

# --- targets and connections --------------------------------------------------------------------

BREAKER = _gauge(
    "breaker_state",
    "Workers in which the target's breaker is in this state.",
    (*_TARGET, "state"),
    f"{_TARGETS} x 4",
)
BREAKER_SHARE = _gauge(
    "breaker_share",
    "Part of its usual traffic that a target may get: 1 closed, 0 open, between on the way back;"
    " the least of the workers.",
    _TARGET,
    _TARGETS,
    "min",
)
BREAKER_TRIPS = _counter(
    "breaker_trips", "Times that a target's breaker opened.", _TARGET, _TARGETS
)
IN_FLIGHT = _gauge("target_in_flight", "Attempts that run at a target.", _TARGET, _TARGETS)
LIMIT = _gauge("target_limit", "Attempts that may run at a target at once.", _TARGET, _TARGETS)
CONNECTIONS = _gauge("connections", "Usable connections to an address.", ("origin",), _ORIGINS)
SLOTS = _gauge(
    "connection_slots", "Streams that these connections can carry at once.", ("origin",), _ORIGINS
)
STREAMS_OPEN = _gauge("streams_open", "Streams that are open.", ("origin",), _ORIGINS)
STREAMS_WAITING = _gauge(
    "streams_waiting", "Requests that wait for a stream.", ("origin",), _ORIGINS
)
STREAMS_OPENED = _counter("streams_opened", "Streams opened so far.", ("origin",), _ORIGINS)
STREAMS_ABORTED = _counter(
    "streams_aborted", "Streams left before their end.", ("origin",), _ORIGINS
)
CALMED = _counter(
    "connections_calmed",
    "Times that a provider asked for calm (GOAWAY ENHANCE_YOUR_CALM).",
    ("origin",),
    _ORIGINS,
)

# --- credentials, limits, money, books ----------------------------------------------------------

CREDENTIAL_EXPIRES = _gauge(
    "credential_expires_seconds",
    "Until a provider's credential ends, of those that do; the least of the workers.",
    ("provider",),
    _PROVIDERS,
    "min",
)
CREDENTIAL_USABLE = _gauge(
    "credential_usable",
    "Whether there is something to show a provider now, in all workers.",
    ("provider",),
    _PROVIDERS,
    "min",
)
CREDENTIAL_REFRESHES = _counter(
    "credential_refreshes",
    "Renewals of a provider's credential, by how they went.",
    ("provider", "result"),
    f"({_PROVIDERS}) x 2",
)
REFUSALS = _counter(
    "refusals",
    "What keys, limits, budgets or the accounts refused, by what was asked for; stage is attempt"
    " for a further attempt of a generation that goes on.",
    ("surface", "stage", "reason"),
    "surfaces (16) x 2 x reasons (48)",
)
KEYS_DENIED = _counter(
    "keys_denied", "Callers that are nobody, by what they showed.", ("shown",), "2"
)
SPEND = _counter(
    "spend_usd",
    "What was booked, by team; without accounts it is estimated, in one row without a team.",
    ("team",),
    "max_teams + 2",
)
BOOKS_OPEN = _gauge(
    "accounts_open",
    "Whether generations can be booked, in all workers; 1 where nothing is booked.",
    (),
    _ONE,
    "min",
)
BOOKS_LOST = _counter(
    "accounts_lost", "Entries of the accounts that could not be written.", (), _ONE
)
AUDIT = _counter(
    "audit_entries", "Entries of the audit log, by what became of them.", ("result",), "2"
)
AUDIT_WAITING = _gauge(
    "audit_entries_waiting", "Entries of the audit log that wait to be written.", (), _ONE
)
UNTOLD = _counter(
    "untold",
    "What was to be told of generations and found no room, no taker or no disk: lines of the log,"
    " traces, payloads.",
    ("record",),
    "3",
)
HINTS = _counter(
    "hints",
    "Hints from and to other workers and machines, by what became of them.",
    ("result",),
    "7",
)

# --- workers ------------------------------------------------------------------------------------

BUILD = _gauge("build_info", "1, with the version.", ("version",), "1 (2 in an upgrade)", "max")
WORKERS = _gauge("workers", "Workers that there should be.", (), _ONE)
ANSWERING = _gauge(
    "workers_answering",
    "Workers that answered this very question in time. Gauges are of these alone; counters hold"
    " what the others had told before.",
    (),
    _ONE,
)
ANSWERS = _gauge(
    "worker_answers", "Whether this worker answered this very question.", (), _WORKERS, "worker"
)
RESTARTS = _counter("worker_restarts", "Workers that were started in another's place.", (), _ONE)
UPTIME = _gauge("uptime_seconds", "Since a worker's start.", (), _WORKERS, "worker")
DRAINING = _gauge("draining", "Workers that take nothing new.", (), _ONE)
RUNNING = _gauge(
    "generations_running", "Generations that run, and what is handed through.", (), _ONE
)
SESSIONS = _gauge("sessions", "Converse streams that are open.", (), _ONE)
BACKGROUND = _gauge("background_tasks", "Closings and drains that run beside requests.", (), _ONE)
TASKS = _gauge("tasks", "Tasks of the event loop.", (), _WORKERS, "worker")
LOOP_LAG = _histogram(
    "loop_lag_seconds",
    "How late a timer of a worker's event loop was, ten times a second.",
    (),
    _ONE,
    "lag",
)
LOOP_LAG_WORST = _gauge(
    "loop_lag_worst_seconds",
    "The worst of it in the last 10 to 20 seconds.",
    (),
    _WORKERS,
    "worker",
)
OVERLOAD_SHED = _counter(
    "overload_shed",
    "What workers with too much to do refused, by class (batch, new, live) and by the bound that"
    " was reached (generations, sessions, loop_lag, memory).",
    ("class", "bound"),
    "3 x 4",
)
OVERLOAD_LEVEL = _gauge(
    "overload_level",
    "Who was refused so within five seconds: 0 nobody, 1 batch, 2 new requests too, 3 generations"
    " of open sessions too.",
    (),
    _WORKERS,
    "worker",
)
OVERLOAD_LIMIT = _gauge(
    "overload_limit",
    "How many may be in flight in a worker for a new request to be let in.",
    (),
    _WORKERS,
    "worker",
)
CPU = _counter("process_cpu_seconds", "CPU time of all workers.", (), _ONE)
MEMORY = _gauge(
    "process_resident_memory_bytes", "Resident memory of a worker.", (), _WORKERS, "worker"
)

FAMILIES: Final[dict[str, Family]] = {
    family.name: family for family in list(globals().values()) if isinstance(family, Family)
}
"""By name, in the order above."""

SEPARATOR: Final = "\x1f"
"""Between the values of labels where they are one key."""


def key_of(*values: str) -> str:
    """The key of a row: its labels' values in order."""
    key = SEPARATOR.join(values)
    if key.count(SEPARATOR) >= len(values):
        return SEPARATOR.join([value.replace(SEPARATOR, "?") for value in values])
    return key


def values_of(key: str) -> list[str]:
    """Of a key of a family that has labels."""
    return key.split(SEPARATOR)
