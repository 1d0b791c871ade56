"""Which points of a batch does a collection's configuration not admit?"""

from __future__ import annotations

from collections.abc import Sequence

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import HeadraceError
from headrace.model.points import PointStruct
from headrace.model.upserts import build_upsert, build_vector_batches


def find_refusals(
    points: Sequence[PointStruct], config: CollectionConfig
) -> list[HeadraceError | None]:
    """For each point, why a collection with this configuration cannot take it, or None."""
    try:
        build_vector_batches(range(len(points)), [point.vectors for point in points], config)
    except HeadraceError:
        return [_refusal(point, config) for point in points]
    return [None] * len(points)


def _refusal(point: PointStruct, config: CollectionConfig) -> HeadraceError | None:
    try:
        build_upsert([point], config)
    except HeadraceError as error:
        return error
    return None
