"""What `guardrails` says that is accepted and may not be what was meant."""

from __future__ import annotations

from collections.abc import Iterator

from relay.config.guardrail_scans import AskingConfig, PatternsConfig, PresidioConfig, SecretsConfig
from relay.config.guardrails import GuardrailConfig, GuardrailsConfig


def guardrail_warnings(section: GuardrailsConfig | None) -> list[str]:
    """One line each."""
    if section is None:
        return []
    found: list[str] = []
    for name, rail in section.rails.items():
        found += _of_one(f"guardrails.rails.{name}", rail)
    barriers = [name for name, rail in section.rails.items() if rail.is_barrier]
    if barriers and section.passthrough == "allow":
        found.append(
            "guardrails.passthrough is allow: what is handed through goes past"
            f" {', '.join(barriers)}"
        )
    return found


def _of_one(path: str, rail: GuardrailConfig) -> Iterator[str]:
    scan = rail.scan
    if "output" in rail.sides and rail.action != "flag":
        if isinstance(scan, AskingConfig):
            if scan.when == "before" and not scan.check_every_chars:
                yield (
                    f"{path}.scan.check_every_chars is 0: every answer is held back until it is"
                    " whole; its first token is its last"
                )
        elif (
            isinstance(scan, PresidioConfig)
            or (isinstance(scan, PatternsConfig) and scan.whole_text)
            or (isinstance(scan, SecretsConfig) and scan.detect_secrets)
        ):
            yield f"{path}: every answer is held back until it is whole, as {scan.kind} needs it"
    if isinstance(scan, AskingConfig):
        if scan.check_every_chars and scan.overlap_chars >= scan.check_every_chars:
            yield (
                f"{path}.scan.overlap_chars is not less than check_every_chars: every character is"
                " shown more than twice"
            )
        if scan.kind == "judge" and "input" in rail.sides and rail.fail == "closed":
            yield (
                f"{path}: prompts that are only counted have no generation to ask a model for: they"
                " are refused (`fail: closed`)"
            )
