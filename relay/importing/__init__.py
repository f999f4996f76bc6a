"""Configurations of other gateways, read into one of ours: `relay import`.

    litellm.py    LiteLLM's proxy: config.yaml
    portkey.py    Portkey's gateway: a config object in JSON
    draft.py      what both are read into
    rows.py       an account at a provider -> a row of `providers`
    variables.py  secrets and other texts that stand elsewhere
    reading.py    a mapping of theirs, of which nothing is passed over in silence
    report.py     what was not carried over, or means something else here
    writing.py    a draft as YAML

Nothing is asked of any network, and no value of a secret is in a draft, a report or an error: a key
that stands in their file becomes `${NAME}`.
"""

from relay.importing.draft import Draft
from relay.importing.litellm import from_litellm
from relay.importing.portkey import from_portkey
from relay.importing.reading import ImportFault, read_json, read_yaml
from relay.importing.report import Report
from relay.importing.writing import document_of, yaml_of

__all__ = [
    "Draft",
    "ImportFault",
    "Report",
    "document_of",
    "from_litellm",
    "from_portkey",
    "read_json",
    "read_yaml",
    "yaml_of",
]
