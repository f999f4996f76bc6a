"""The JSON Schema of the file."""

from __future__ import annotations

from typing import Any

from relay.config.known import known_providers
from relay.config.whole import Config


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file as people write it, for editors: `relay check --schema` prints it.

    The rows of `providers.yaml` bring wire and address along, so under their names nothing is
    required, not even a value. What no schema can say is left to `parse`: where references lead,
    and whether a candidate's provider is there.
    """
    schema = Config.model_json_schema(by_alias=True)
    known = {**schema["$defs"]["ProviderConfig"], "title": "KnownProviderConfig"}
    del known["required"]
    schema["$defs"]["KnownProviderConfig"] = known
    either = [{"$ref": "#/$defs/KnownProviderConfig"}, {"type": "null"}]
    providers = schema["properties"]["providers"]
    providers["properties"] = {name: {"anyOf": either} for name in known_providers()}
    # Under any name, where the row says of which door it is.
    schema["$defs"]["DoorConfig"] = {
        **known,
        "title": "DoorConfig",
        "properties": {**known["properties"], "door": {"enum": [*known_providers()]}},
        "required": ["door"],
    }
    of_any_name = ("ProviderConfig", "DoorConfig")
    providers["additionalProperties"] = {
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in of_any_name]
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
