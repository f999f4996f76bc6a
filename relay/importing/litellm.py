"""LiteLLM's proxy: `config.yaml`.

Source: LiteLLM's documentation of the proxy's settings and of its router, and what its published
examples use (November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.importing.draft import Draft
from relay.importing.litellm_accounts import Around
from relay.importing.litellm_deployments import Deployment, deployment_of
from relay.importing.litellm_routing import (
    add_default_fallbacks,
    add_fallbacks,
    add_group_aliases,
    aliases_of,
)
from relay.importing.litellm_settings import DIFFERS, LEFT, SECTIONS
from relay.importing.reading import ImportFault, Section
from relay.importing.report import Report
from relay.importing.variables import Variables, names_in

_DAYS: Final = re.compile(r"(\d{1,5})d")


def from_litellm(
    document: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[Draft, Report]:
    """What their file says, in our words.

    Args:
        environment: where addresses and regions that their file takes from the environment are
            looked up; secrets are not.

    Raises:
        ImportFault: it is none of theirs.
    """
    if "model_list" not in document:
        raise ImportFault("no LiteLLM configuration (model_list is missing)")
    draft, report = Draft(), Report()
    variables = Variables(report, environment, names_in(document))
    file = Section(document, "", report)
    router, litellm = file.section("router_settings"), file.section("litellm_settings")
    general = file.section("general_settings")
    around = Around(draft, report, variables, _credentials(file))
    read = [deployment_of(entry, around) for entry in file.sections("model_list")]
    deployments = [one for one in read if one is not None]
    strategy = router.text("routing_strategy")
    path = router.path_of("routing_strategy")
    aliases = aliases_of(deployments, strategy, path, draft, report)
    for section in (router, litellm):
        add_fallbacks(section, "fallbacks", aliases, report)
    for section in (router, litellm):
        add_default_fallbacks(section, aliases, report)
    _times(draft, router, litellm)
    add_group_aliases(router, aliases, draft, report)
    add_group_aliases(litellm, aliases, draft, report)
    _accounts(general, draft, report, variables)
    _at_once(deployments, general, draft, report)
    _redis(router, draft, report, variables)
    for section in (router, litellm, general):
        section.finish(LEFT, DIFFERS)
    file.finish(SECTIONS)
    if not deployments:
        report.leave("model_list", "nothing of it is served here")
    draft.note(
        "",
        "Made by `relay import litellm` from a LiteLLM config.yaml. LiteLLM listens on port 4000,"
        "\nthis relay on 8080 (server.http.address) for HTTP and 50051 for gRPC.",
    )
    return draft, report


def _credentials(file: Section) -> dict[str, Section]:
    found: dict[str, Section] = {}
    for entry in file.sections("credential_list"):
        name = entry.text("credential_name")
        found[name] = entry.section("credential_values")
        entry.take("credential_info")
        entry.finish()
    return found


def _times(draft: Draft, router: Section, litellm: Section) -> None:
    """Limits of the file, for aliases that have none of their own."""
    for name, given in (
        ("total_ms", router.ms("timeout") or litellm.ms("request_timeout")),
        ("first_token_ms", router.ms("stream_timeout") or litellm.ms("stream_timeout")),
    ):
        if given is not None:
            for alias in draft.aliases.values():
                alias.timeouts.setdefault(name, given)
    for alias in draft.aliases.values():
        total_ms = alias.timeouts.get("total_ms")
        if total_ms is not None and alias.timeouts.get("first_token_ms", 0) > total_ms:
            alias.timeouts["first_token_ms"] = total_ms


def _accounts(general: Section, draft: Draft, report: Report, variables: Variables) -> None:
    """Keys of callers, and what is kept of them."""
    database, master = general.take("database_url"), general.take("master_key")
    if master or database:
        _store(draft)
        reference = variables.named(
            "RTRELAY_PEPPER", "made anew: at least 32 random characters, to be kept (docs/keys.md)"
        )
        draft.section("auth")["pepper"] = reference
        draft.note("auth", "Callers need keys: `relay keys create -c FILE --team NAME --create`")
    if master:
        report.leave(
            general.path_of("master_key"),
            "no key is taken over: `relay keys create` makes those of callers, `relay admins"
            " create` tokens of administrators",
        )
    if database:
        report.leave(
            general.path_of("database_url"),
            "their tables are not read: make teams, keys and budgets anew (docs/governance.md), and"
            " give `store.url` a PostgreSQL database of its own where there are several machines",
        )
    kept = general.text("maximum_spend_logs_retention_period")
    if kept:
        match = _DAYS.fullmatch(kept)
        if match is None or not 1 <= int(match[1]) <= 36_500:
            report.leave(
                general.path_of("maximum_spend_logs_retention_period"),
                "days as `30d` are expected: see store.retention_days",
            )
        else:
            _store(draft)["retention_days"] = int(match[1])


def _store(draft: Draft) -> dict[str, Any]:
    store = draft.section("store")
    store.setdefault("url", "sqlite:///relay.db")
    draft.note("store", "One machine; for several: postgresql://... and redis (docs/scaling.md)")
    return store


def _at_once(
    deployments: Sequence[Deployment], general: Section, draft: Draft, report: Report
) -> None:
    """How much may run at once: of each row of ours."""
    of_all = general.whole("max_parallel_requests", most=1_000_000_000)
    limits: dict[str, dict[str, int]] = {}
    for one in deployments:
        if (limit := one.at_once or of_all) is None:
            continue
        row = limits.setdefault(one.target.provider, {"generations": limit})
        if row["generations"] != limit:
            report.differ(
                f"{one.path}.litellm_params.max_parallel_requests",
                "limits are of a row: the largest of its deployments",
            )
            row["generations"] = max(row["generations"], limit)
    if limits:
        _store(draft)
        draft.section("limits")["providers"] = limits


def _redis(router: Section, draft: Draft, report: Report, variables: Variables) -> None:
    """What several machines have in common."""
    host, port = router.text("redis_host"), router.text("redis_port") or "6379"
    url, path = router.take("redis_url"), router.path_of("redis_url")
    password = router.take("redis_password")
    if url:
        reference = variables.secret(url, "REDIS_URL", path)
        report.addresses.add(reference.removeprefix("${").removesuffix("}"))
    elif host:
        secret = variables.secret(password, "REDIS_PASSWORD", router.path_of("redis_password"))
        user = f":{secret}@" if secret else ""
        reference = f"redis://{user}{_part(host, variables)}:{_part(port, variables)}"
        if user:
            draft.note("store", "A password with @ or / in it is written percent-encoded")
    else:
        return
    if "${" not in reference and not re.fullmatch(r"redis://[A-Za-z0-9.:_-]+", reference):
        report.leave(router.path_of("redis_host"), "a host is expected: see store.redis")
        return
    _store(draft)["redis"] = reference


def _part(text: str, variables: Variables) -> str:
    if text.startswith("os.environ/"):
        return variables.named(text.removeprefix("os.environ/"), "as their file does")
    return text
