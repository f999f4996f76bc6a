"""Whether two targets are one model: where a hedge may be answered by either and nobody can tell.

Names alone do not say: two hosts of open weights serve one name in different precision. So it is by
class, which is the operator's word (`same_as` of a row) or that of `same_models`; and where neither
has one, by the very name at the very door, which is another region or account of one vendor.
"""

from __future__ import annotations

from relay.routing.target import Target


def are_same(one: Target, other: Target) -> bool:
    """Whether they are the same model; a tier of a model is."""
    if one.same or other.same:
        return one.same == other.same
    return one.model == other.model and one.endpoint.door == other.endpoint.door
