"""Tells LiveKit of the plugin, so that its workers import it before they fork."""

from __future__ import annotations

import logging
import threading
from importlib import metadata

from livekit.agents import Plugin

logger = logging.getLogger("rtrelay.livekit")


def version() -> str:
    """Of the client package; empty if it was not installed as one."""
    try:
        return metadata.version("rtrelay-client")
    except metadata.PackageNotFoundError:
        return ""


def register() -> None:
    """Once, by the import. Elsewhere than on the main thread LiveKit refuses it; then the first job
    imports what it needs itself."""
    if threading.current_thread() is threading.main_thread():
        package = __name__.rpartition(".")[0]
        Plugin.register_plugin(_RelayPlugin(package, version(), package, logger))


class _RelayPlugin(Plugin):
    pass
