"""`server.overload`: how much one worker takes on before it refuses."""

from __future__ import annotations

from pydantic import Field

from relay.config.model import Model


class OverloadConfig(Model):
    max_generations: int = Field(
        2000,
        ge=0,
        description="at once in one worker; the last fifth is kept for sessions that are open; 0:"
        " no bound",
    )
    max_sessions: int = Field(
        20_000, ge=0, description="open at once in one worker (Converse); 0: no bound"
    )
    max_loop_lag_ms: int = Field(
        50,
        ge=0,
        description="what the lateness of the event loop is to stay below, in 99 of 100 looks; 0:"
        " it is not looked at",
    )
    min_generations: int = Field(
        100,
        ge=1,
        description="lateness alone refuses nobody while fewer than these run, and batch while"
        " fewer than three quarters of them",
    )
    max_rss_mib: int | None = Field(
        None,
        ge=0,
        description="resident memory of one worker; null: 80 % of what the machine or the container"
        " has, divided by the workers, and at least 192; 0: no bound",
    )
