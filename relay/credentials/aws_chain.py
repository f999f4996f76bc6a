"""SigV4 with the keys that AWS's own search finds: environment, shared files and profiles, SSO, web
identity, containers, instances.

The search is botocore's (the extra `aws`), since it has grown with its clouds and nobody's own is
complete. It blocks, so it runs in a thread, never on a request's path: at the start, before keys
end, and after a refusal. botocore itself is first imported there (100 ms of CPU).
"""

from __future__ import annotations

import asyncio
import importlib.util
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from relay.config.providers import ProxyUrl
from relay.credentials.ask import Way
from relay.credentials.aws_keys import SigningClock, is_of
from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer
from relay.credentials.base import Call, CredentialState
from relay.credentials.schedule import RenewalSchedule
from relay.errors import CredentialUnavailable
from relay.transport.base import Headers

if TYPE_CHECKING:
    from relay.config.credentials import AwsSigV4Config
    from relay.config.providers import ProviderConfig

SEARCH_S: Final = 30.0
"""The longest that a search is waited for. An assumed role asks a service, an instance another."""

LOOK_S: Final = 3600.0
"""How often keys that do not end are looked for: a file may have been written anew."""

_KEPT: Final = 4
"""Keys that were valid lately, for masking."""


class Found(NamedTuple):
    """What a search has found."""

    keys: AwsKeys
    expires_at_s: float | None
    """Seconds since 1970; None: they do not end."""


class Search(Protocol):
    """Looks for keys; blocks."""

    def __call__(self, *, anew: bool) -> Found:
        """
        Args:
            anew: what was found before is of no use.

        Raises:
            CredentialUnavailable: there are none; public text.
        """
        ...


class AwsChainCredential:
    """Signs with the keys that were found last; renewed by the desk (`Renewing`).

    The schedule's five minutes ahead of an end are within the ten in which botocore fetches new
    ones."""

    kind: ClassVar[str] = "aws_sigv4"

    def __init__(
        self,
        signer: SigV4Signer,
        search: Search,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            clock, wall: monotonic, and seconds since 1970 by this machine.
            draw: of [0, 1).
        """
        self._signer = signer
        self._search = search
        self._clock = clock
        self._wall = wall
        self._draw = draw
        self._service_clock = SigningClock()
        self._schedule = RenewalSchedule(draw)
        self._keys: AwsKeys | None = None
        self._look_at_s = math.inf  # monotonic, for keys that do not end
        self._is_anew = False
        self._last_error = ""
        self._values: deque[tuple[str, ...]] = deque(maxlen=_KEPT)
        self._is_searching = False
        self.on_due: Callable[[], None] | None = None
        """Called when it has become due before its time; set by who renews it."""

    # --- used by requests -------------------------------------------------------------------

    def headers(self, call: Call, wall_s: float) -> Headers:
        now_s = self._clock()
        keys = self._keys
        if keys is None or not self._schedule.is_usable(now_s):
            wait_s = self.wait_s(now_s)
            why = f" ({self._last_error})" if self._last_error else ""
            raise CredentialUnavailable(
                f"no AWS keys{why}; next try in {wait_s:.0f} s", retry_after_s=wait_s
            )
        return self._signer.headers(call, keys, self._service_clock.now_s(wall_s))

    def wait_s(self, now_s: float) -> float:
        return self._schedule.wait_s(now_s)

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        is_otherwise = self._service_clock.answered(status, headers, sent, wall_s)
        if status < 400 or is_otherwise or self._keys is None:
            return is_otherwise
        if not is_of(sent, self._keys):
            return self._schedule.is_usable(now_s)
        if status in (401, 403) and self._schedule.refused(now_s):
            self._is_anew = True
            if self.on_due is not None:
                self.on_due()
        return False

    def secrets(self) -> Sequence[str]:
        return [value for values in self._values for value in values]

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(
            self.kind,
            "chain",
            self._schedule.expires_in_s(now_s),
            self._last_error,
            self._schedule.refreshes,
            self._schedule.failures,
        )

    # --- used by the desk -------------------------------------------------------------------

    def due_s(self, now_s: float) -> float:
        return max(0.0, min(self._schedule.due_s(now_s), self._look_at_s - now_s))

    async def renew(self, ask: Any) -> None:
        """One search, in a thread.

        Raises:
            CredentialUnavailable: nothing was found, or not in time.

        Cancelled: the thread goes on to its end, and what it finds is not taken.
        """
        try:
            async with asyncio.timeout(SEARCH_S):
                found = await self._in_thread(anew=self._is_anew)
            self._take(found)
        except TimeoutError:
            late = CredentialUnavailable(f"the search took longer than {SEARCH_S:g} s")
            self._failed(late)
            raise late from None
        except CredentialUnavailable as error:
            self._failed(error)
            raise

    def _failed(self, error: CredentialUnavailable) -> None:
        self._last_error = error.public_message
        self._look_at_s = math.inf  # the schedule tries sooner
        self._schedule.failed(self._clock())

    def _take(self, found: Found) -> None:
        """
        Raises:
            CredentialUnavailable: they have ended.
        """
        now_s, life_s = self._clock(), math.inf
        if found.expires_at_s is not None:
            life_s = found.expires_at_s - self._service_clock.now_s(self._wall())
            if life_s <= 0:
                raise CredentialUnavailable("the AWS keys that were found have ended")
        is_new = found.keys != self._keys
        if is_new:
            self._values.append(found.keys.values())
        self._keys, self._last_error, self._is_anew = found.keys, "", False
        self._look_at_s = math.inf
        if found.expires_at_s is None:
            self._look_at_s = now_s + LOOK_S * (1.0 - 0.1 * self._draw())
        self._schedule.renewed(now_s, now_s, life_s, is_new=is_new)

    async def _in_thread(self, *, anew: bool) -> Found:
        """A thread of its own, which the end of the process does not wait for."""
        if self._is_searching:
            raise CredentialUnavailable("the search before is still under way")
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Found] = loop.create_future()

        def settle(result: Found | None, error: BaseException | None) -> None:
            if not found.done():
                if error is not None:
                    found.set_exception(error)
                elif result is not None:
                    found.set_result(result)

        def search() -> None:
            result: Found | None = None
            failure: BaseException | None = None
            try:
                result = self._search(anew=anew)
            except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
                failure = error
            self._is_searching = False
            try:
                loop.call_soon_threadsafe(settle, result, failure)
            except RuntimeError:  # the loop is closed, and nobody waits
                pass

        self._is_searching = True
        threading.Thread(target=search, name="aws-credentials", daemon=True).start()
        return await found


class BotocoreSearch:
    """botocore's chain; imports it when first called.

    The services that it asks (STS, SSO) are reached as the provider is; the metadata of machines
    and containers by itself, as it always does.
    """

    def __init__(self, profile: str | None, way: Way = Way(), region: str = "") -> None:  # noqa: B008
        """
        Args:
            region: of services that are asked, where neither environment nor profile name one.
        """
        self._profile = profile
        self._way = way
        self._region = region
        self._found: Any = None
        """botocore's credentials, which know how to be fetched again."""

    def __call__(self, *, anew: bool) -> Found:
        from botocore.exceptions import BotoCoreError

        try:
            if anew or self._found is None or not _is_refreshable(self._found):
                self._found = self._session().get_credentials()
            frozen = None if self._found is None else self._found.get_frozen_credentials()
        except BotoCoreError as error:
            # Not its text: that of a process or a service may quote what it was given.
            self._found = None
            raise CredentialUnavailable(f"botocore: {_named(error)}") from None
        except Exception as error:  # noqa: BLE001 - of files, processes, a clock that is far off
            self._found = None
            raise CredentialUnavailable(f"botocore: {type(error).__name__}") from None
        if frozen is None:
            where = f" of profile {self._profile}" if self._profile else ""
            raise CredentialUnavailable(f"the search found no AWS keys{where}")
        if not frozen.access_key or not frozen.secret_key:
            raise CredentialUnavailable("the search found AWS keys that are empty")
        keys = AwsKeys(frozen.access_key, frozen.secret_key, frozen.token or "")
        if not all(_is_of_a_header(value) for value in keys.values()):
            raise CredentialUnavailable("the search found AWS keys that no header may carry")
        expires = getattr(self._found, "_expiry_time", None)  # there is no public way to it
        return Found(keys, None if expires is None else expires.timestamp())

    def _session(self) -> Any:
        from botocore.config import Config
        from botocore.session import Session

        session = Session(profile=self._profile)
        way = self._way
        if way.egress_proxy is not None:
            proxy = str(way.egress_proxy)
            session.set_default_client_config(Config(proxies={"http": proxy, "https": proxy}))
        if way.ca_file is not None:
            session.set_config_variable("ca_bundle", way.ca_file)
        if self._region and not session.get_config_variable("region"):
            session.set_config_variable("region", self._region)
        return session


def _is_of_a_header(value: str) -> bool:
    """A variable of the environment may end in a line break."""
    return value.isascii() and value.isprintable() and " " not in value


def _is_refreshable(found: Any) -> bool:
    """Whether botocore fetches it anew by itself; what it read of files it does not."""
    return hasattr(found, "refresh_needed")


def _named(error: Any) -> str:
    """Class of an error, and which way of the search it was, which is a word of botocore's."""
    provider = getattr(error, "kwargs", {}).get("provider")
    name = type(error).__name__
    return f"{name} ({provider})" if isinstance(provider, str) and provider.isascii() else name


def build(config: AwsSigV4Config, row: ProviderConfig) -> AwsChainCredential:
    """
    Raises:
        ValueError: the extra is not installed.
    """
    if importlib.util.find_spec("botocore") is None:
        raise ValueError("credential: source: chain needs the extra `aws` (rtrelay[aws])")
    proxy = None if row.egress_proxy is None else ProxyUrl(row.egress_proxy.get_secret_value())
    search = BotocoreSearch(config.profile, Way(proxy, row.ca_file), row.region)
    return AwsChainCredential(SigV4Signer(config.service, row.region), search)
