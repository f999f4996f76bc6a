"""What of the pages is made from the relay itself: the reference of the configuration, and the
table of known providers.

    make docs-reference        writes docs/configuration.md and the table of docs/providers.md anew
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.config import RESERVED_KEYS, json_schema, known_providers
from tests.docs.pages import DOCS

CONFIGURATION: Final = DOCS / "configuration.md"
PROVIDERS: Final = DOCS / "providers.md"
BEGIN: Final = "<!-- the table: make docs-reference -->\n"
END: Final = "<!-- the end of the table -->\n"

_HEAD: Final = """# Configuration reference

Made by `make docs-reference` from the models that read the file (`relay/config/`); a test sees
that it is up to date. One YAML file: `relay serve -c relay.yaml`. `relay check -c relay.yaml` says
what is wrong in it, by field, and what it comes to; `relay check --schema` prints its JSON Schema
for editors. What needs a restart, and what SIGHUP takes up:
[operations.md](operations.md#change-the-configuration).

Secrets come as `${NAME}` (environment) or `${file:PATH}`, never as they are. Relative paths start
from the file's folder. Unknown keys are refused, with the nearest known name. *required* has no
default; a dash is nothing.

```yaml
server:
  http: {address: "127.0.0.1:8080"}
providers:
  openai: {api_key: "${OPENAI_API_KEY}"}
  local:  {wire: openai_chat, base_url: "http://127.0.0.1:9000/v1", auth: none}
models:
  fast:
    candidates: [{provider: openai, model: gpt-4o-mini}]
    fallbacks:  [{provider: local, model: qwen3}]
    timeouts: {first_token_ms: 4000}
```

"""
_PAGES: Final[Mapping[str, str]] = {
    "server": "[scaling.md](scaling.md)",
    "store": "[store.md](store.md), [postgres.md](postgres.md)",
    "auth": "[keys.md](keys.md)",
    "audit": "[audit.md](audit.md)",
    "budgets": "[budgets.md](budgets.md)",
    "limits": "[limits.md](limits.md)",
    "tls": "[tls.md](tls.md)",
    "providers": "[providers.md](providers.md), [clouds.md](clouds.md)",
    "models": "[hedging.md](hedging.md)",
    "guardrails": "[guardrails.md](guardrails.md)",
    "policies": "[rules.md](rules.md)",
}
"""Where more is said, by section."""
_NAMES: Final = {"providers": "providers.NAME", "models": "models.ALIAS"}
_MORE: Final[Mapping[str, str]] = {
    "models.ALIAS.candidates[]": "equivalents: asked in this order, raced and balanced",
    "models.ALIAS.fallbacks[]": "asked when every candidate has failed",
    "models.ALIAS.tags": "words that scopes of keys may name in the place of the alias",
    "models.ALIAS.timeouts.connect_ms": "until a connection stands; default: of the class",
    "models.ALIAS.timeouts.first_token_ms": "until the first content; default: of the class",
    "models.ALIAS.timeouts.inter_token_ms": "the longest silence after it; default: of the class",
    "models.ALIAS.timeouts.total_ms": "of one attempt; default: of the class",
    "providers.NAME.wire": "format that is spoken; known rows have it",
    "providers.NAME.base_url": "scheme, host, port, base path; known rows have it",
    "providers.NAME.api_key": "the key, as a reference",
    "providers.NAME.api_keys": "more of them: one that is refused or used up is left alone",
    "providers.NAME.auth": "header that carries the key",
    "providers.NAME.http": "HTTP version; auto: as the provider offers",
    "providers.NAME.models": "names that clients may ask for without the provider's",
    "providers.NAME.quirks": "what the wire's codec sends differently; known rows have theirs",
    "providers.NAME.cancel_billing": "what a cancelled stream costs",
}
"""Of keys that the models say nothing of."""
_COMMON: Final[Mapping[str, str]] = {"address": "HOST:PORT"}
"""The same by name alone."""


def configuration_page() -> str:
    """The whole of docs/configuration.md."""
    schema = json_schema()
    shown: dict[int, str] = {}
    parts = [_HEAD, "| section | |\n|---|---|\n"]
    for name in schema["properties"]:
        page = _PAGES.get(name, "")
        parts.append(f"| [`{name}`](#{name}) | {page} |\n")
    if RESERVED_KEYS:
        names = ", ".join(f"`{name}`" for name in RESERVED_KEYS)
        parts.append(f"\nNot there yet, and refused: {names}.\n")
    for name, field in schema["properties"].items():
        parts.append(f"\n## {name}\n")
        path = _NAMES.get(name, name)
        node = _inner(field, schema)
        if field.get("description"):
            parts.append(f"\n{_sentence(field['description'])}\n")
        parts += _tables(path, node, schema, shown)
    return "".join(parts)


def _inner(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The model behind a section: of a mapping by name, that of its values."""
    if "additionalProperties" in field:
        field = field["additionalProperties"]
    return _resolved(field, schema) or {}


def _resolved(field: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any] | None:
    """The model that a field holds; None for a plain value."""
    if (to := field.get("$ref")) is not None:
        found: dict[str, Any] = schema["$defs"][to.rpartition("/")[2]]
        return found if "properties" in found else None
    for option in (*field.get("anyOf", ()), *field.get("allOf", ())):
        if (model := _resolved(option, schema)) is not None:
            return model
    return None


def _tables(
    path: str, node: dict[str, Any], schema: dict[str, Any], shown: dict[int, str]
) -> Iterator[str]:
    """A table of the plain keys, then one for each key that holds more.

    Args:
        shown: where models have been shown by now; each is shown once.
    """
    shown[id(node)] = path
    rows: list[str] = []
    below: list[tuple[str, dict[str, Any]]] = []
    for name, field in node.get("properties", {}).items():
        here = f"{path}.{name}"
        variants = _kinds(field, schema)
        model = None if variants else _resolved(_value_of(field), schema)
        if variants:
            below += [(f"{here} (kind: {kind})", one) for kind, one in variants]
        elif model is not None:
            inner = here
            if field.get("type") == "array":
                inner = f"{here}[]"
            elif "additionalProperties" in field:
                inner = f"{here}.NAME"
            before = shown.get(id(model))
            told = _MORE.get(inner) or field.get("description", "")
            kind = f"as `{before}`" if before else f"see `{inner}`"
            rows.append(f"| `{name}` | {kind} | - | {_cell(told)} |\n")
            if not before:
                shown[id(model)] = inner
                below.append((inner, model))
            continue
        told = field.get("description") or _MORE.get(here, "") or _COMMON.get(name, "")
        is_required = name in node.get("required", ())
        default = "*required*" if is_required else _default(field)
        rows.append(f"| `{name}` | {_type(field, schema)} | {default} | {_cell(told)} |\n")
    if rows:
        yield f"\n### `{path}`\n\n| key | type | default | |\n|---|---|---|---|\n"
        yield from rows
    for inner_path, model in below:
        yield from _tables(inner_path, model, schema, shown)


def _value_of(field: dict[str, Any]) -> dict[str, Any]:
    if field.get("type") == "array":
        found: dict[str, Any] = field.get("items", {})
        return found
    more = field.get("additionalProperties")
    return more if isinstance(more, dict) else field


def _kinds(field: dict[str, Any], schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Of a section whose keys depend on its `kind`."""
    for option in (field, *field.get("anyOf", ())):
        mapping = option.get("discriminator", {}).get("mapping")
        if mapping:
            return [(kind, schema["$defs"][to.rpartition("/")[2]]) for kind, to in mapping.items()]
    return []


def _type(field: dict[str, Any], schema: dict[str, Any]) -> str:
    """In a word or two."""
    if (to := field.get("$ref")) is not None:
        field = {**schema["$defs"][to.rpartition("/")[2]], **field}
        field.pop("$ref")
    options = [one for one in field.get("anyOf", ()) if one.get("type") != "null"]
    if options:
        return " or ".join(dict.fromkeys(_type(one, schema) for one in options))
    if "enum" in field:
        values = dict.fromkeys(str(value) for value in field["enum"])
        return ", ".join(f"`{value}`" if value != "" else '`""`' for value in values)
    if "const" in field:
        return f"`{_yaml(field['const'])}`"
    if _kinds(field, schema):
        return "more below"
    kind = field.get("type", "")
    if kind == "array":
        return f"list of {_type(field.get('items', {}), schema)}"
    if kind == "object":
        more = field.get("additionalProperties")
        return f"names -> {_type(more, schema)}" if isinstance(more, dict) else "mapping"
    if field.get("format") == "password":
        return "secret"
    words = {"integer": "whole number", "number": "number", "boolean": "true, false"}
    return f"{words.get(kind, 'text')}{_bounds(field)}"


def _bounds(field: dict[str, Any]) -> str:
    least, most = field.get("minimum"), field.get("maximum")
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    if least is not None:
        return f", from {least:,}"
    return f", to {most:,}" if most is not None else ""


def _default(field: dict[str, Any]) -> str:
    if "default" not in field or field["default"] in (None, "", [], {}):
        return "-"
    return f"`{_yaml(field['default'])}`"


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(_yaml(one) for one in value)}]"
    return str(value)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _sentence(text: str) -> str:
    text = _cell(text)
    return f"{text[:1].upper()}{text[1:]}."


def providers_table() -> str:
    """Known rows, as Markdown."""
    lines = [
        "| name | wire, others | key | a cancelled stream costs | asked at |\n",
        "|---|---|---|---|---|\n",
    ]
    words = {
        "stops": "what was written",
        "used_tokens": "what was written",
        "full": "the whole answer",
        "unknown": "unknown: taken as whole",
    }
    for name, row in known_providers().items():
        wires = ", ".join(f"`{wire}`" for wire in (row["wire"], *row.get("other_wires", ())))
        key = f"`{row['api_key_env']}`" if "api_key_env" in row else "-"
        host = str(row["base_url"]).replace("{host}", str(row.get("hosts", {}).get("default", "")))
        lines.append(
            f"| `{name}` | {wires} | {key} | {words[row['cancel_billing']]} | `{host}` |\n"
        )
    return "".join(lines)


def providers_page() -> str:
    """docs/providers.md, its table replaced."""
    page = PROVIDERS.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{providers_table()}\n{END}{after}"


if __name__ == "__main__":
    CONFIGURATION.write_text(configuration_page(), encoding="utf-8")
    PROVIDERS.write_text(providers_page(), encoding="utf-8")
