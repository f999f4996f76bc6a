"""What an error of PostgreSQL means for what was to be written, and how it is told.

The words are the server's or the system's first line: neither repeats a password, and the line that
would quote values of a row is left out.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import asyncpg


class Blame(Enum):
    """What to do about it."""

    PASSING = "passing"
    """Nothing was written; the same again will work."""
    SERVER = "server"
    """It cannot be asked, or not for this: connect anew; whether it was written is not known."""
    OPERATION = "operation"
    """What was to be written cannot be; nothing else is at fault."""


_PASSING: Final = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,  # statement_timeout
)
_OPERATION: Final = (
    asyncpg.DataError,  # of a value that asyncpg cannot encode, and of those the server refuses
    asyncpg.exceptions.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)

FAILURES: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that is lost in an unlucky moment
    OSError,
    TimeoutError,
    ValueError,
)
"""Whatever connecting or asking can raise for reasons outside of the relay."""


def blame(error: Exception) -> Blame:
    """Who is at fault."""
    if isinstance(error, _PASSING):
        return Blame.PASSING
    if isinstance(error, _OPERATION):
        return Blame.OPERATION
    return Blame.SERVER


def words(error: Exception) -> str:
    """One line, without secrets."""
    is_ours = isinstance(error, ValueError) and not isinstance(error, asyncpg.DataError)
    if is_ours:
        return "its address cannot be used"  # what cannot be read is quoted in the error
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
