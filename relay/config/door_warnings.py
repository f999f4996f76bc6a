"""What is said of a cloud's door and will hardly be meant: no credential, one of another cloud, a
region that nobody has."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from relay.config.doors import GLOBAL, family_of
from relay.config.providers import ProviderConfig
from relay.config.whole import Config

_CREDENTIALS: Mapping[str, str] = {
    ".azure.com": "azure_entra",
    ".amazonaws.com": "aws_sigv4",
    ".api.aws": "aws_sigv4",
    ".googleapis.com": "google",
}
"""By the end of a cloud's own host names, the kind of credential that is taken there beside keys.
Of addresses elsewhere, which may be of a gateway that asks for nothing, nothing is known."""

_AWS = """
af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2
ap-southeast-1 ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6
ap-southeast-7 ca-central-1 ca-west-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2
eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1
us-east-2 us-west-1 us-west-2
"""
_GOOGLE = """
africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3 asia-south1
asia-south2 asia-southeast1 asia-southeast2 australia-southeast1 australia-southeast2
europe-central2 europe-north1 europe-southwest1 europe-west1 europe-west12 europe-west2
europe-west3 europe-west4 europe-west6 europe-west8 europe-west9 me-central1 me-central2 me-west1
northamerica-northeast1 northamerica-northeast2 southamerica-east1 southamerica-west1 us-central1
us-east1 us-east4 us-east5 us-south1 us-west1 us-west2 us-west3 us-west4 us eu global
"""
_REGIONS: Mapping[str, frozenset[str]] = {
    "bedrock": frozenset(_AWS.split()),
    "bedrock_mantle": frozenset(_AWS.split()),
    "vertex": frozenset(_GOOGLE.split()),
    "vertex_anthropic": frozenset(_GOOGLE.split()),
}
"""By family of doors. Of AWS as botocore 1.44.8 has them; of Google from general knowledge. Lists
get old: one that is not here and is like none that is here is nobody's fault."""

_ALIKE = 0.8
"""A slip of the pen: names of regions are made of the same few words."""


def door_warnings(config: Config) -> Iterator[str]:
    """One line each."""
    for name, row in config.providers.items():
        path = f"providers.{name}"
        yield from _of_credential(path, row)
        yield from _of_region(path, row.door or name, row.region)
        if row.door == "vertex_express" and row.data_zone not in (None, GLOBAL):
            yield (
                f"{path}.data_zone is {row.data_zone}, but this door has no location: it counts as"
                f" {GLOBAL}"
            )


def _of_credential(path: str, row: ProviderConfig) -> Iterator[str]:
    host = urlsplit(row.base_url).hostname or ""
    wanted = next((kind for end, kind in _CREDENTIALS.items() if host.endswith(end)), None)
    if wanted is None or row.auth == "none":
        return
    given = row.credentials
    if given.kind not in ("static", wanted):
        yield (
            f"{path}.credential: {given.kind} is of another cloud than {host}, which takes {wanted}"
        )
    elif given.kind == "static" and not given.api_keys and not row.headers:
        yield f"{path}: there is no api_key and no credential, and {host} answers nobody without"


def _of_region(path: str, door: str, region: str) -> Iterator[str]:
    known = _REGIONS.get(family_of(door), frozenset())
    if not region or not known or region in known:
        return
    if alike := difflib.get_close_matches(region.lower(), known, 1, _ALIKE):
        yield f"{path}.region: {region!r} is none that is known; did you mean {alike[0]!r}?"
