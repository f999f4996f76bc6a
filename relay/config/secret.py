"""The type of every secret of the file."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from pydantic import SecretStr


class Secret(SecretStr):
    """A text that shows itself to nobody but who asks for it (`get_secret_value`).

    Its `repr`, `str`, format and JSON are asterisks; it is not pickled at all, as bytes that are
    sent to another process or written to a file would hold it. A copy is itself.
    """

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not to be pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any] | None) -> Self:
        return self
