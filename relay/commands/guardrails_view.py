"""Guardrails, for `relay check`: what each looks for and does, for whom, and what it is worth."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from relay.commands.table import table
from relay.config import Config
from relay.config.guardrail_scans import AskingConfig
from relay.config.guardrails import GuardrailConfig
from relay.guardrails.build import chain_of
from relay.guardrails.moderation import Ask


def check_guardrails(config: Config) -> None:
    """Make them, as a worker does.

    Raises:
        ConfigError: one cannot be made.
    """
    if config.guardrails is not None:
        chain_of(config.guardrails, _nobody)


def guardrails_table(config: Config) -> Table | None:
    """One row each, in the order in which texts go through them; None where there are none."""
    section = config.guardrails
    if section is None or not section.rails:
        return None
    rows = table(
        f"guardrails (handed through unread: {section.passthrough})",
        *("guardrail", "looks for", "does", "if it cannot tell", "for", "worth"),
    )
    for name, rail in section.rails.items():
        kind, why = ("signal", "declared so") if rail.means == "signal" else rail.meaning
        rows.add_row(
            escape(name),
            escape(_looks_for(rail)),
            f"{rail.action} {', '.join(rail.sides)}",
            "lets it go" if rail.fail == "open" else "blocks",
            escape(_for(rail)),
            escape(f"{kind}: {why}"),
        )
    return rows


def _looks_for(rail: GuardrailConfig) -> str:
    scan = rail.scan
    if not isinstance(scan, AskingConfig):
        return scan.kind
    often = f"every {scan.check_every_chars} characters" if scan.check_every_chars else "once"
    return f"{scan.kind}: {often}, {scan.when} the release\nwithin {rail.timeout_ms} ms"


def _for(rail: GuardrailConfig) -> str:
    given = rail.where.model_dump(exclude_none=True)
    lines = [f"{word}: {', '.join(names)}" for word, names in given.items()] or ["everybody"]
    spared = rail.spared.model_dump(exclude_none=True)
    return "\n".join(
        [*lines, *(f"but {word}: {', '.join(names)}" for word, names in spared.items())]
    )


def _nobody(provider: str) -> Ask:
    async def ask(body: bytes, zones: frozenset[str] | None) -> bytes:
        raise NotImplementedError(provider)

    return ask
