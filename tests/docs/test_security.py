"""docs/security.md: what it says of prompts, of who may look, and of the payload folder is so."""

from __future__ import annotations

import re
from typing import Final

from relay.administration import roles
from relay.config import Config, PayloadsConfig, TracingConfig
from relay.importing.litellm_settings import DIFFERS, LEFT
from relay.observability.metrics import serve
from relay.observability.pages import guard
from tests.docs.pages import DOCS, ROOT

PAGE: Final = (DOCS / "security.md").read_text(encoding="utf-8")
TOLD: Final = re.sub(r"\s+", " ", PAGE)
CONTENT: Final = ("observability.payloads", "observability.tracing.content")
"""What lets prompts and answers out of a request's memory."""


def test_prompts_go_nowhere_unless_the_file_says_so() -> None:
    section = Config().observability
    assert section.payloads is None
    assert section.tracing is None
    assert TracingConfig.model_fields["content"].default is False
    for name in CONTENT:
        assert f"`{name}`" in PAGE
        assert f"`{name}`" in {**DIFFERS, **LEFT}["turn_off_message_logging"]
    assert "Prompts and answers are in no log and no store." not in PAGE


def test_who_may_look_is_as_told() -> None:
    rows = dict(re.findall(r"^\| (`/[^|]+) \|[^|]*\| `(\w+\.\w+)`", PAGE, re.MULTILINE))
    assert rows == {
        "`/admin/state`, `relay top`": guard.LOOK,
        "`/metrics`": serve.PERMISSION,
        "`/dashboard`": guard.LOOK,
        "`/dashboard/playground`": guard.SPEND,
    }
    table = PAGE.partition("## Who may look")[2].partition("\n## ")[0]
    for permission in {*rows.values()}:
        (who,) = set(re.findall(rf"`{permission}`: ([a-z, ]+?)(?:, audited;| \|)", table))
        assert set(who.split(", ")) == roles.PERMISSIONS[permission]
        assert permission in roles.OF_THE_WHOLE


def test_where_the_token_and_the_payloads_lie() -> None:
    access = (ROOT / "relay/observability/pages/static/access.js").read_text(encoding="utf-8")
    assert "sessionStorage.setItem" in access
    assert "localStorage" not in access
    assert "session storage" in TOLD
    files = (ROOT / "relay/observability/payloads/files.py").read_text(encoding="utf-8")
    for mode in ("0700", "0600"):
        assert mode in TOLD
        assert f"0o{mode[1:]}" in files
    assert PayloadsConfig.model_fields["retention_days"].default == 7
