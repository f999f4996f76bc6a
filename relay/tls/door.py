"""One listener's certificate, which may be another one for the next handshake."""

from __future__ import annotations

import ssl
from typing import Any

from relay.config import TlsConfig
from relay.tls.loaded import Loaded, load, signature


class Door:
    """Built when the worker starts; `look` as often as wished, from any one thread at a time."""

    def __init__(self, name: str, settings: TlsConfig) -> None:
        """Blocks while the files are read.

        Raises:
            TlsError: they are of no use.
        """
        self.name = name
        self.settings = settings
        self._seen = signature(settings)
        self.loaded: Loaded = load(settings)
        self.context = _Swapped(self)

    def look(self, settings: TlsConfig | None = None) -> bool:
        """Take up the files if something was done to them, or if others are given. Blocks. Returns
        whether handshakes now go by others.

        Raises:
            TlsError: they are of no use: what was there stays. It is told once for each change.
        """
        is_moved = settings is not None and settings != self.settings
        if settings is not None:
            self.settings = settings
        # Before they are read: what is done to them meanwhile is found by the next look.
        seen = signature(self.settings)
        if seen == self._seen and not is_moved:
            return False
        self._seen = seen
        self.loaded = load(self.settings)
        return True


class _Swapped(ssl.SSLContext):
    """What an HTTP server is given once: each connection is wrapped by the context of its time.

    Asyncio and uvloop ask a context for nothing but `wrap_bio`. One context that is changed in
    place would not do: trusted roots and lists can be added to it and never taken away, and after a
    key that does not fit it has none.
    """

    _door: Door

    def __new__(cls, door: Door) -> _Swapped:
        self = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        self._door = door
        return self

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        return self._door.loaded.context.wrap_bio(*arguments, **options)
