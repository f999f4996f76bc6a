"""What of the pages is made from the relay is up to date."""

from __future__ import annotations

from relay.config import Config, known_providers
from tests.docs.reference import (
    CONFIGURATION,
    PROVIDERS,
    configuration_page,
    providers_page,
    providers_table,
)

ANEW = "`make docs-reference` writes it anew"


def test_reference_is_what_the_models_say() -> None:
    assert CONFIGURATION.read_text(encoding="utf-8") == configuration_page(), ANEW


def test_every_section_and_every_key_is_in_it() -> None:
    page = configuration_page()
    for name, field in Config.model_fields.items():
        assert f"\n## {field.alias or name}\n" in page
    for key in ("drain_grace_ms", "cancel_billing", "keep_second_warm", "certificate_file"):
        assert f"| `{key}` |" in page


def test_table_of_providers_is_what_is_known() -> None:
    assert PROVIDERS.read_text(encoding="utf-8") == providers_page(), ANEW
    assert all(f"| `{name}` |" in providers_table() for name in known_providers())
