"""Asks an address of the operator's own whether texts are right.

A signed POST (`relay.governance.webhook.sign`) of

    {"guardrail", "side": "input" | "output", "tenant", "key_id", "model", "surface",
     "texts": [{"role", "text"}, ...]}

which is answered with 200 and `{"verdict": "pass" | "block", "label": "..."}`; anything else says
nothing. Only the configured address is asked: no redirect is followed, no proxy of the environment
is used, and of an answer no more than `MAX_ANSWER_BYTES` are read, as they are on the wire.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

import httpx2
import orjson

from relay import __version__
from relay.governance.webhook import SIGNATURE_HEADER, require_address, sign
from relay.guardrails.asking import OF_THE_TEXTS, CannotTell, NotAsked, Opinion, Question
from relay.pinned_http import PinnedTransport

MAX_ANSWER_BYTES: Final = 16 * 1024
_LABEL: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")


class WebhookAsker:
    """An `Asker`.

    Args:
        name: of the guardrail.
        url: `https://...`, or `http://` of this machine.
        secret: signs what is sent.
        ca_file: PEM file of the only trusted roots; None for those of the machine.
        private: networks that its name may lead to: see `relay.addresses.may_connect`.
        at_once: connections at a time.
        clock: seconds since 1970.

    Raises:
        ValueError: the address will not do.
    """

    def __init__(
        self,
        name: str,
        url: str,
        secret: str,
        *,
        ca_file: str | None = None,
        private: Sequence[str] | None = None,
        at_once: int = 32,
        clock: Callable[[], float] = time.time,
    ) -> None:
        require_address(url)
        self._name = name
        self._url = url
        self._secret = secret.encode()
        self._ca_file = ca_file
        self._private = private
        self._at_once = at_once
        self._clock = clock
        self._client: httpx2.AsyncClient | None = None
        self._making = asyncio.Lock()

    def __repr__(self) -> str:
        return "WebhookAsker(***)"

    async def ask(self, question: Question) -> Opinion:
        """See `Asker`."""
        client = self._client or await self._made()
        body = self._body(question)
        headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"rtrelay/{__version__}",
            SIGNATURE_HEADER: sign(self._secret, body, int(self._clock())),
        }
        said = b""
        try:
            async with client.stream("POST", self._url, content=body, headers=headers) as answer:
                if answer.status_code in OF_THE_TEXTS:
                    raise NotAsked(f"status {answer.status_code}")
                if answer.status_code != 200:
                    raise CannotTell(f"status {answer.status_code}")
                async for piece in answer.aiter_raw():
                    said += piece
                    if len(said) > MAX_ANSWER_BYTES:
                        raise CannotTell("its answer is too long")
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OSError) as error:
            raise CannotTell(type(error).__name__) from None
        return opinion_of(said)

    def _body(self, question: Question) -> bytes:
        scope = question.scope
        return orjson.dumps(
            {
                "guardrail": self._name,
                "side": question.side,
                "tenant": scope.tenant,
                "key_id": scope.key_id,
                "model": scope.route,
                "surface": scope.surface,
                "texts": [{"role": role, "text": text} for role, text in question.texts],
            }
        )

    async def _made(self) -> httpx2.AsyncClient:
        async with self._making:
            if self._client is None:
                # When it is first needed, in a thread: it reads every trusted root, some 20 ms.
                self._client = await asyncio.to_thread(
                    _client, self._ca_file, self._at_once, self._private
                )
            return self._client

    async def aclose(self) -> None:
        """Close its connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


def opinion_of(said: bytes) -> Opinion:
    """What an answer says.

    Raises:
        CannotTell: nothing; a verdict that is not known lets nothing pass.
    """
    try:
        document = orjson.loads(said)
    except orjson.JSONDecodeError:
        raise CannotTell("its answer is no JSON") from None
    verdict = document.get("verdict") if isinstance(document, dict) else None
    if verdict not in ("pass", "block"):
        raise CannotTell("its answer has no verdict")
    label = document.get("label")
    is_label = isinstance(label, str) and _LABEL.fullmatch(label)
    return Opinion(verdict == "block", label if is_label else "")


def _client(ca_file: str | None, at_once: int, private: Sequence[str] | None) -> httpx2.AsyncClient:
    transport = httpx2.AsyncHTTPTransport(
        verify=ssl.create_default_context(cafile=ca_file),
        trust_env=False,
        http2=False,
        limits=httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once),
    )
    return httpx2.AsyncClient(
        transport=PinnedTransport(transport, private),
        follow_redirects=False,
        trust_env=False,
        timeout=None,  # `Timed` has one for the whole
    )
