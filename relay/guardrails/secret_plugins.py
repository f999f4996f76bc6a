"""detect-secrets' plugins as a scanner, for whoever wants Yelp's forms beside our own.

Its plugins read lines, and some judge a line by all of it, so they need the whole text. What our
own `secrets` finds in a stream covers the forms of its services; its entropy and keyword plugins
are noisy in prose, so they are asked for by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from relay.guardrails.scan import Match, Shape

_NOISY: Final = frozenset(
    {
        "Base64 High Entropy String",
        "Hex High Entropy String",
        "Public IP (ipv4)",
        "Secret Keyword",
    }
)


class SecretPlugins:
    """What some of detect-secrets' plugins find; labels are `secret.` and the plugin's type, in
    small letters with underscores.

    Args:
        types: as detect-secrets calls them (`AWS Access Key`); None: all but the noisy ones.

    Raises:
        ModuleNotFoundError: `detect-secrets` is not installed.
        KeyError: there is no such type.
    """

    name = "detect_secrets"
    fold: Final = "plain"
    window_chars = None
    context_chars = 0
    shapes: Sequence[Shape] = ()
    is_slow = True

    def __init__(self, types: Sequence[str] | None = None) -> None:
        # late: an extra, and 0.2 s of import
        try:
            from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
        except ModuleNotFoundError as error:
            if error.name != "detect_secrets":
                raise
            raise ModuleNotFoundError(
                "not installed: detect-secrets; pip install 'rtrelay[detect-secrets]'",
                name=error.name,
            ) from error

        known: dict[str, Any] = dict(get_mapping_from_secret_type_to_class())
        wanted = [name for name in known if name not in _NOISY] if types is None else types
        self._plugins = [(_label(name), known[name]()) for name in wanted]
        self.classes = tuple(label for label, _ in self._plugins)

    def find(self, text: str, start: int = 0) -> list[Match]:
        spans: list[tuple[int, int, str]] = []
        line_start = 0
        for line in text.splitlines(keepends=True):
            if line_start + len(line) > start:
                for label, plugin in self._plugins:
                    for secret in plugin.analyze_string(line):
                        at = line.find(secret)
                        if secret and at >= 0:
                            spans.append((line_start + at, -(line_start + at + len(secret)), label))
            line_start += len(line)
        found = []
        for begin, minus_end, label in sorted(spans):
            if begin >= start:
                found.append(Match(begin, -minus_end, label))
                start = -minus_end
        return found


def _label(secret_type: str) -> str:
    return "secret." + "_".join(
        "".join(c if c.isalnum() else " " for c in secret_type.lower()).split()
    )
