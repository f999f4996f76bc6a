"""What every wire format looks like to an attempt: four methods, no sockets, no clock, no tasks.

A codec object serves one attempt and is thrown away. Bytes go in whole, cut anywhere or one at
a time: the events that come out are the same. Credentials are not its business: the attempt
adds them to the headers. Its input request is shared by other attempts and never changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from relay.content import Events, GenerateRequest, TextDelta
from relay.errors import UpstreamError


class EncodedRequest(NamedTuple):
    """What the wire wants sent, without credentials and without the provider's base path."""

    path: str
    """Appended to the path of the provider's `base_url`, with query if any; begins with `/`."""
    headers: list[tuple[str, str]]
    """Lower-case names; content type and wire version headers, no authorization."""
    body: bytes


class Codec(Protocol):
    """One attempt in one wire format.

    Order of calls: `encode_request`, `decode_headers`, then `feed` for every chunk, and `end`
    once when the body is over. After `feed` or `end` returned a `ProviderFailed`, no more calls.
    """

    wire: ClassVar[str]
    """Name in configuration, like `openai_chat`."""

    mended_events: int
    """How many events so far could not be passed on as they were: text that was no Unicode was
    replaced by U+FFFD, or a field nested too deeply to be written again was left out."""

    def encode_request(self, request: GenerateRequest, model: str) -> EncodedRequest:
        """The request in this wire, always asking for a stream.

        Args:
            model: the provider's own name of the model.

        Raises:
            UnsupportedFeature: a field that this wire (or this provider's row) cannot express
                and that must not be dropped silently; named.
        """
        ...

    def decode_headers(self, status: int, headers: list[tuple[str, str]]) -> None:
        """Note how the body must be read: an event stream, one JSON document, or an error.

        Args:
            headers: lower-case names.
        """
        ...

    def feed(self, chunk: bytes | memoryview) -> Events:
        """Decode the next bytes of the body; returns what they complete, often nothing.

        Never raises for what a provider sends: a broken format is a `ProviderFailed` event.
        Holds at most the cap of one event (1 MiB; Gemini's, with pictures in them, 32) beyond what
        it has returned.
        """
        ...

    def end(self) -> Events:
        """The body is over. Returns what was still open, ending in `ProviderFailed` with
        `StreamTruncated` unless the wire's own end has come (a finish reason for every choice),
        or with the decoded error when the status or the body was one."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether the wire's end marker (`[DONE]`, `message_stop`) has come: the attempt need not
        wait for the end of the body."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """A codec whose wire counts the tokens of a prompt for who asks."""

    def encode_count(self, request: GenerateRequest, model: str) -> EncodedRequest | None:
        """The question, as `Codec.encode_request`; None where this provider of the wire has no
        address for it.

        Raises:
            UnsupportedFeature, InvalidRequest: as for a request.
        """
        ...

    def decode_count(self, status: int, headers: list[tuple[str, str]], body: bytes) -> int | None:
        """The count in a whole answer, None where there is none to be read.

        Raises:
            UpstreamError: the answer is an error.
        """
        ...


@runtime_checkable
class EndsInSteps(Protocol):
    """A codec whose `end` may take long: an answer of megabytes that comes as one document."""

    def steps(self) -> Iterator[None]:
        """The work of `end`, which has none left after it; each step takes a millisecond or so.
        Whoever is in the loop lets others run in between. Raises nothing."""
        ...


class ReadsText(Protocol):
    """A codec that knows a chunk which is nothing but a piece of text at first sight."""

    def text_of(self, chunk: bytes | memoryview) -> TextDelta | None:
        """The text, where `feed` would return it and nothing else; it is taken then.

        None: nothing was taken, and `feed` has to be given the chunk.
        """
        ...


class CodecFactory(Protocol):
    """Makes a codec for one attempt; built once per provider row from its quirks."""

    def __call__(self) -> Codec: ...


class CodecBuilder(Protocol):
    """Checks a provider row's quirks and returns its factory (`registry.BUILDERS`)."""

    def __call__(self, quirks: Mapping[str, Any], provider: str) -> CodecFactory:
        """
        Args:
            quirks: the row's `quirks` mapping, from `providers.yaml` and the operator.
            provider: its name, for messages.

        Raises:
            ValueError: an unknown or wrong quirk, naming it.
        """
        ...


class ErrorDecoder(Protocol):
    """Turns a provider's error body into the relay's error (also used for in-stream errors)."""

    def __call__(
        self, status: int, headers: list[tuple[str, str]], body: bytes
    ) -> UpstreamError: ...
