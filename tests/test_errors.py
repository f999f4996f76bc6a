"""The error tree: what each error tells a client, and that it tells nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from relay.errors import (
    AllAttemptsFailed,
    BreakerOpen,
    ClientCancelled,
    Code,
    ConnectError,
    DeadlineExceeded,
    InvalidRequest,
    Reason,
    RelayError,
    Retry,
    Source,
    StreamReset,
    UnknownModel,
    UnsupportedFeature,
    UpstreamError,
    UpstreamStatus,
)


def classes() -> Iterator[type[RelayError]]:
    pending: list[type[RelayError]] = [RelayError]
    while pending:
        kind = pending.pop()
        if kind.__module__ == "relay.errors":
            yield kind
        pending += kind.__subclasses__()


@pytest.mark.parametrize("kind", [*classes()], ids=lambda kind: kind.__name__)
def test_every_error_has_a_code_a_reason_and_a_source(kind: type[RelayError]) -> None:
    assert isinstance(kind.code, Code)
    assert kind.code is not Code.OK
    assert isinstance(kind.reason, Reason)
    assert isinstance(kind.source, Source)
    assert kind.__doc__


def test_only_what_reached_nobody_is_safe_to_try_again() -> None:
    safe = {kind.__name__ for kind in classes() if kind.retry is Retry.SAFE}
    assert safe == {
        "AdmissionError",
        "BreakerOpen",
        "Overloaded",
        "ConnectError",
        "ConnectTimeout",
        "CredentialUnavailable",
        "Draining",
        "NoCandidates",
        "OutsideZones",
        "PoolExhausted",
        "StreamRefused",
        "TargetLimited",
        "TlsFailed",
    }


@pytest.mark.parametrize(
    ("reused", "headers_received", "retry"),
    [
        (True, False, Retry.IF_REUSED),
        (True, True, Retry.BEFORE_COMMIT),
        (False, False, Retry.BEFORE_COMMIT),
    ],
)
def test_reset_of_a_reused_connection_before_any_answer_is_free(
    reused: bool, headers_received: bool, retry: Retry
) -> None:
    assert StreamReset("x", reused=reused, headers_received=headers_received).retry is retry


@pytest.mark.parametrize("reason", [r for r in Reason if r.name.startswith("UPSTREAM_")])
def test_refused_request_is_not_tried_elsewhere(reason: Reason) -> None:
    error = UpstreamStatus("x", reason=reason, http_status=400)
    is_final = reason in (Reason.UPSTREAM_REJECTED, Reason.UPSTREAM_CONTENT_BLOCKED)
    assert (error.retry is Retry.NO) is is_final
    assert error.source is Source.UPSTREAM


def test_refused_key_of_ours_is_never_the_callers_401() -> None:
    error = UpstreamStatus("bad key", reason=Reason.UPSTREAM_MISCONFIGURED, http_status=401)
    assert error.status_code is Code.UNAVAILABLE


def test_what_the_provider_said_is_kept_beside() -> None:
    error = UpstreamStatus(
        "no",
        reason=Reason.UPSTREAM_REJECTED,
        http_status=400,
        provider_type="invalid_request_error",
        provider_code="x",
        provider_param="messages",
        retry_after_s=2.0,
    )
    assert error.metadata == {
        "upstream_status": "400",
        "provider_type": "invalid_request_error",
        "provider_code": "x",
        "provider_param": "messages",
    }
    assert error.retry_after_s == 2.0
    whole = AllAttemptsFailed([error])
    assert whole.metadata == error.metadata
    assert whole.metadata is not error.metadata
    assert (whole.reason, whole.retry_after_s) == (Reason.UPSTREAM_REJECTED, 2.0)


def test_lost_race_speaks_with_the_code_of_its_leading_failure() -> None:
    failures = [
        ConnectError("a"),
        UpstreamStatus("b", reason=Reason.UPSTREAM_RATE_LIMITED, http_status=429),
    ]
    error = AllAttemptsFailed(failures)
    assert error.status_code is Code.RESOURCE_EXHAUSTED
    assert isinstance(error, UpstreamError)
    assert error.attempts == tuple(failures)


def test_lost_race_may_be_run_again_when_the_first_target_opens() -> None:
    def limited(after_s: float | None) -> UpstreamStatus:
        reason = Reason.UPSTREAM_RATE_LIMITED
        return UpstreamStatus("x", reason=reason, http_status=429, retry_after_s=after_s)

    assert AllAttemptsFailed([limited(30.0), limited(60.0)]).retry_after_s == 30.0
    assert AllAttemptsFailed([limited(None), limited(60.0)]).retry_after_s == 60.0
    assert AllAttemptsFailed([limited(30.0), limited(None)]).retry_after_s is None


def test_deadline_is_never_worth_another_try() -> None:
    error = DeadlineExceeded("late", reason=Reason.FIRST_TOKEN_TIMEOUT)
    assert (error.retry, error.code) == (Retry.NO, Code.DEADLINE_EXCEEDED)
    assert error.reason is Reason.FIRST_TOKEN_TIMEOUT
    assert DeadlineExceeded.reason is Reason.DEADLINE_EXCEEDED, "the class is not changed"


def test_errors_name_what_they_are_about() -> None:
    assert InvalidRequest("x", field="a.b").metadata == {"field": "a.b"}
    assert InvalidRequest("x").metadata == {}
    assert UnsupportedFeature("top_k", "openai").metadata == {"feature": "top_k"}
    assert "nearest: fast" in UnknownModel("fats", ["fast"]).public_message
    assert ClientCancelled("x").why == 0


def test_long_names_of_models_are_cut() -> None:
    """A name comes from the caller, and a message goes into trailers with a limit."""
    assert len(UnknownModel("x" * 1_000_000).public_message) < 300


def test_a_target_that_was_not_asked_does_not_speak_for_one_that_failed() -> None:
    reset, refused = StreamReset("broke off"), BreakerOpen("left alone", retry_after_s=1.0)
    assert AllAttemptsFailed([reset, refused]).reason is reset.reason
    assert AllAttemptsFailed([refused]).reason is Reason.BREAKER_OPEN
