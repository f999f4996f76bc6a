"""Requests to the emulator and the shape of what comes back."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from tests.fakes.emulator_process import EmulatorProcess

USER = "When does the museum open?"


@dataclass(frozen=True)
class Frame:
    """One event of a stream: its name (empty if unnamed) and its data as text."""

    name: str
    data: str

    @property
    def json(self) -> dict[str, Any]:
        """The data as an object."""
        value = json.loads(self.data)
        assert isinstance(value, dict)
        return value


def frames(body: bytes) -> list[Frame]:
    """Read an event stream whose blank lines are LF LF or CRLF CRLF; comments are left out."""
    found = []
    for block in body.decode().replace("\r\n", "\n").split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            name = "".join(line[7:] for line in lines if line.startswith("event: "))
            found.append(Frame(name, "".join(line[6:] for line in lines if line[:6] == "data: ")))
    return found


def chat(model: str, **fields: object) -> dict[str, object]:
    """Body of a streamed chat request."""
    messages = [{"role": "user", "content": USER}]
    return {"model": model, "stream": True, "messages": messages, **fields}


_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used: a client without one reads a store of certificates, 40 ms a test."""


def plain_client(timeout: float | httpx2.Timeout = 10) -> httpx2.Client:
    """A client for the port without TLS; close it."""
    return httpx2.Client(trust_env=False, timeout=timeout, verify=_NO_TLS)


def post(
    emulator: EmulatorProcess,
    path: str,
    body: Mapping[str, object],
    headers: Mapping[str, str] | None = None,
) -> httpx2.Response:
    """One request over HTTP/1.1 without TLS; the body is read whole, redirects are not followed."""
    with plain_client() as client:
        return client.post(emulator.base_url_plain + path, json=dict(body), headers=headers)


def chat_text(body: bytes) -> str:
    """The text of the first choice of a chat stream."""
    text = ""
    for frame in frames(body):
        if frame.data and frame.data != "[DONE]":
            for choice in frame.json["choices"]:
                if choice["index"] == 0:
                    text += choice["delta"].get("content") or ""
    return text
