"""What counts as a failure: decided once, for log, traces, metrics, the dashboard and reports."""

from __future__ import annotations

import pytest

from relay.content import GenerateRequest
from relay.errors import (
    ClientCancelled,
    LimitReached,
    Reason,
    RelayError,
    SessionIdle,
    SlowConsumer,
    StreamReset,
    UnknownModel,
)
from relay.observability.report.rows import CALLERS
from relay.observability.report.rows import LEFT as LEFT_IN_REPORTS
from relay.outcome import LEFT, LIMITED, REFUSED, Ended, fate_of, refused


def of(reason: Reason) -> RelayError:
    error = RelayError("x")
    error.reason = reason
    return error


def test_sets_do_not_meet() -> None:
    assert not LEFT & LIMITED
    assert not LEFT & REFUSED
    assert not LIMITED & REFUSED


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.name)
def test_reports_decide_the_same_over_stored_rows(reason: Reason) -> None:
    fate = fate_of(of(reason))
    assert (reason.name in LEFT_IN_REPORTS) == (fate == "cancelled")
    assert (reason.name in CALLERS) == (fate in ("limited", "refused"))


@pytest.mark.parametrize(
    ("error", "fate", "is_failure"),
    [
        (None, "ok", False),
        (ClientCancelled("gone"), "cancelled", False),
        (SlowConsumer("reads nothing"), "cancelled", False),
        (SessionIdle("says nothing"), "cancelled", False),
        (LimitReached("full"), "limited", True),
        (UnknownModel("nobody"), "refused", True),
        (of(Reason.UPSTREAM_REJECTED), "refused", True),
        (of(Reason.DEADLINE_EXCEEDED), "failed", True),
        (StreamReset("broke"), "failed", True),
    ],
)
def test_fates(error: RelayError | None, fate: str, is_failure: bool) -> None:
    assert fate_of(error) == fate
    end = refused(error)  # type: ignore[arg-type]
    told = Ended(end, GenerateRequest("m", ()), "gen_1", "generate", was_planned=False)
    assert told.is_failure == is_failure
