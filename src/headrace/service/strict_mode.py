"""What does a collection's strict mode refuse?

Limits hold only while `strict_mode_config.enabled` is true, and only those that are set.
Texts follow Qdrant: what was wrong, then what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.model.errors import BadRequest
from headrace.model.filters import (
    Condition,
    FieldCondition,
    Filter,
    HasId,
    MatchAny,
    MatchExcept,
)
from headrace.model.operations import (
    ClearPayload,
    CreatePayloadIndex,
    CreateVectorName,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    Operation,
    OverwritePayload,
    SetPayload,
    UpdateVectors,
    UpsertPoints,
)
from headrace.model.queries import Formula, Prefetch, Query, SearchParams
from headrace.model.vectors import DEFAULT_VECTOR_NAME, MultiBatch, SparseBatch, VectorBatch
from headrace.service.needed_indexes import (
    NeededIndex,
    Schema,
    filter_leaves,
    needed_by_expression,
    needed_by_filter,
    needed_by_group,
)

Limits = Mapping[str, Any]


def active_limits(config: Mapping[str, Any] | None) -> Limits | None:
    """The limits that hold; None if strict mode is off."""
    return config if config and config.get("enabled") else None


def check_limit(limits: Limits, member: str, value: float | None, name: str) -> None:
    """Refuse a value above a limit.

    Args:
        limits: of the collection.
        member: of `StrictModeConfig`, such as `max_query_limit`.
        value: what the request asks for; None is never too much.
        name: what the request calls it.

    Raises:
        BadRequest: it is above.
    """
    most = limits.get(member)
    if most is not None and value is not None and value > most:
        raise _refusal(
            f'Limit exceeded {value} > {most} for "{name}"',
            f'Reduce the "{name}" parameter to or below {most}.',
        )


def check_query(limits: Limits, schema: Schema, query: Query) -> None:
    """Refuse a query that asks for too much, or filters a field without an index.

    Raises:
        BadRequest: it does.
    """
    check_limit(limits, "max_query_limit", query.limit, "limit")
    for stage in _stages(query):
        if isinstance(stage, Prefetch):
            check_limit(limits, "max_query_limit", stage.limit, "limit")
        _check_params(limits, stage.params)
        check_read_filter(limits, schema, stage.filter)
        if stage.params.idf is not None:
            check_read_filter(limits, schema, stage.params.idf.corpus)
        if isinstance(stage.query, Formula):
            _check_formula(limits, schema, stage.query)


def check_group_by(limits: Limits, schema: Schema, key: str) -> None:
    """Refuse to group by a field without an index that serves equality.

    Raises:
        BadRequest: it has none.
    """
    if limits.get("unindexed_filtering_retrieve") is False:
        _require_index(schema, needed_by_group(key))


def check_read_filter(limits: Limits, schema: Schema, filter: Filter | None) -> None:
    """Refuse a filter of a read that is too large, or on a field without an index.

    Raises:
        BadRequest: it is.
    """
    _check_filter(limits, schema, filter, "unindexed_filtering_retrieve")


def check_write(limits: Limits, schema: Schema, operation: Operation) -> None:
    """Refuse one operation of a write.

    Raises:
        BadRequest: it is too large, filters a field without an index, or makes an index
            too many.
    """
    match operation:
        case UpsertPoints(ids=ids, vectors=vectors, update_filter=update_filter):
            check_limit(limits, "upsert_max_batchsize", len(ids), "upsert limit")
            _check_vectors(limits, vectors)
            _check_filter(limits, schema, update_filter, "unindexed_filtering_update")
        case UpdateVectors(ids=ids, vectors=vectors, update_filter=update_filter):
            check_limit(limits, "upsert_max_batchsize", len(ids), "update limit")
            _check_vectors(limits, vectors)
            _check_filter(limits, schema, update_filter, "unindexed_filtering_update")
        case CreatePayloadIndex(key=key):
            most = limits.get("max_payload_index_count")
            if most is not None and key not in schema and len(schema) >= most:
                raise _refusal(
                    f"Collection already has the maximum number of payload indices ({most})",
                    "Please delete an existing index before creating a new one.",
                )
        case (
            DeletePoints(selector=selector)
            | DeleteVectors(selector=selector)
            | SetPayload(selector=selector)
            | OverwritePayload(selector=selector)
            | DeletePayload(selector=selector)
            | ClearPayload(selector=selector)
        ):
            if selector.ids is None:
                _check_filter(limits, schema, selector.filter, "unindexed_filtering_update")
        case _:
            pass


def is_consuming(operation: Operation) -> bool:
    """Whether an operation may take more memory and disk than it gives back."""
    return isinstance(
        operation,
        (
            UpsertPoints,
            UpdateVectors,
            SetPayload,
            OverwritePayload,
            CreatePayloadIndex,
            CreateVectorName,
        ),
    )


def write_cost(operations: Sequence[Operation]) -> int:
    """What a write takes from its rate limit: its points, or one where they are not named."""
    return sum(_points_named(operation) for operation in operations)


def read_cost(query: Query) -> int:
    """What a query takes from its rate limit: one for itself and for each prefetch."""
    return sum(1 for _ in _stages(query))


def _points_named(operation: Operation) -> int:
    match operation:
        case UpsertPoints(ids=ids) | UpdateVectors(ids=ids):
            return max(1, len(ids))
        case (
            DeletePoints(selector=selector)
            | DeleteVectors(selector=selector)
            | SetPayload(selector=selector)
            | OverwritePayload(selector=selector)
            | DeletePayload(selector=selector)
            | ClearPayload(selector=selector)
        ):
            return max(1, len(selector.ids or ()))
        case _:
            return 1


def _stages(query: Query) -> Iterator[Query | Prefetch]:
    waiting: list[Query | Prefetch] = [query]
    while waiting:
        stage = waiting.pop()
        yield stage
        waiting.extend(stage.prefetch)


def _check_params(limits: Limits, params: SearchParams) -> None:
    check_limit(limits, "search_max_hnsw_ef", params.hnsw_ef, "hnsw_ef")
    check_limit(limits, "search_max_oversampling", params.oversampling, "oversampling")
    if params.exact and limits.get("search_allow_exact") is False:
        raise _refusal("Exact search is disabled!", "Set exact=false.")


def _check_vectors(limits: Limits, vectors: Mapping[str, VectorBatch]) -> None:
    for name, batch in vectors.items():
        if isinstance(batch, MultiBatch):
            section, member, what = "multivector_config", "max_vectors", "vectors"
        elif isinstance(batch, SparseBatch):
            section, member, what = "sparse_config", "max_length", "indices"
        else:
            continue
        most = ((limits.get(section) or {}).get(name) or {}).get(member)
        longest = max((batch.bounds[1:] - batch.bounds[:-1]).tolist(), default=0)
        if most is not None and longest > most:
            shown = name or DEFAULT_VECTOR_NAME
            raise _refusal(
                f"The vector '{shown}' has a limit of {most} {what}, but {longest} were given",
                f"Reduce the number of {what}.",
            )


def _check_formula(limits: Limits, schema: Schema, formula: Formula) -> None:
    if limits.get("unindexed_filtering_retrieve") is False:
        for needed in needed_by_expression(formula.expression):
            _require_index(schema, needed)


# Filters


def _check_filter(limits: Limits, schema: Schema, filter: Filter | None, permission: str) -> None:
    if filter is None:
        return
    most = limits.get("filter_max_conditions")
    conditions = list(filter_leaves(filter))
    if most is not None and len(conditions) > most:
        raise _refusal(
            f"Filter condition limit reached ({len(conditions)} > {most})",
            "Reduce the amount of conditions in your filter.",
        )
    largest = limits.get("condition_max_size")
    for condition, _ in conditions:
        if largest is not None and _size(condition) > largest:
            raise _refusal(
                f"Condition size limit reached ({_size(condition)} > {largest})",
                "Reduce the size of your condition.",
            )
    if limits.get(permission) is False:
        for needed in needed_by_filter(filter):
            _require_index(schema, needed)


def _size(condition: Condition) -> int:
    match condition:
        case FieldCondition(match=MatchAny(values) | MatchExcept(values)):
            return len(values)
        case HasId(ids):
            return len(ids)
        case FieldCondition(geo_polygon=polygon) if polygon is not None:
            return len(polygon.exterior) + sum(len(ring) for ring in polygon.interiors)
        case _:
            return 0


def _require_index(schema: Schema, needed: NeededIndex) -> None:
    if needed.is_there(schema):
        return
    listed = ", ".join(dict.fromkeys(kind.data_type.value for kind in needed.kinds))
    raise _refusal(
        f'Index required but not found for "{needed.payload_path}" '
        f"of one of the following types: [{listed}]",
        "Create an index for this key or use a different filter.",
    )


def _refusal(what: str, remedy: str) -> BadRequest:
    return BadRequest(f"{what}. Help: {remedy}")
