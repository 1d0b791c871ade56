"""How are points, and the selections of points, read from decoded JSON?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson, PointSelector, UpdateMode
from headrace.model.points import PointStruct
from headrace.model.queries import (
    ALL_VECTORS,
    NO_PAYLOAD,
    NO_VECTORS,
    WHOLE_PAYLOAD,
    PayloadSelection,
    VectorSelection,
)
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Vector
from headrace.server.rest.body import U64_MAX, Node, describe
from headrace.server.rest.filters import optional_filter, read_filter
from headrace.server.rest.ids import read_point_id, read_point_ids
from headrace.server.rest.vectors import (
    read_list_vector,
    read_point_vectors,
    read_text,
    read_vector,
)
from headrace.service.inference import Text, embed_points

# The member that carries a point's vectors, and its alias.
_VECTOR = ("vector", "vectors")


class Upsert(NamedTuple):
    """An upsert before it has met its collection.

    Attributes:
        shard_key: as text; None if none was given.
    """

    points: list[PointStruct]
    mode: UpdateMode
    update_filter: Filter | None
    shard_key: str | None


class VectorUpdates(NamedTuple):
    """A vector update before it has met its collection.

    Attributes:
        shard_key: as text; None if none was given.
    """

    points: list[tuple[PointId, dict[str, Vector]]]
    update_filter: Filter | None
    shard_key: str | None


def read_upsert(body: Node) -> Upsert:
    """`{points: [...]}` or `{batch: {...}}`.

    Raises:
        FormatError: it is neither.
        MalformedInput: a model is not available, or does not take what it is told.
    """
    if body.has("batch"):
        points = _read_batch(body.require("batch"))
    elif body.has("points"):
        points = [_read_point(point) for point in body.require("points").elements()]
    else:
        raise body.format_error(
            "Invalid PointInsertOperations format: expected `points` or `batch`"
        )
    vectors = embed_points([point.vectors for point in points])
    return Upsert(
        [
            PointStruct(point.id, one, point.payload)
            for point, one in zip(points, vectors, strict=True)
        ],
        *read_upsert_options(body),
    )


def read_upsert_options(body: Node) -> tuple[UpdateMode, Filter | None, str | None]:
    """Mode, update filter and shard key of an upsert.

    Raises:
        FormatError: one of them has the wrong type.
    """
    mode = body.get("update_mode")
    return (
        UpdateMode.UPSERT if mode is None else mode.one_of(UpdateMode),
        optional_filter(body, "update_filter"),
        read_shard_key(body),
    )


def read_vector_updates(body: Node) -> VectorUpdates:
    """`{points: [{id, vector}]}`, at least one.

    Raises:
        FormatError: it is none.
        MalformedInput: as `read_upsert`.
    """
    node = body.require("points")
    points = node.elements()
    if not points:
        node.broken("value [] invalid, must be at least 1 characters")
    ids, vectors = [], []
    for point in points:
        ids.append(read_point_id(point.require("id")))
        vectors.append(_read_new_vectors(point.require(*_VECTOR)))
    return VectorUpdates(
        list(zip(ids, embed_points(vectors), strict=True)),
        optional_filter(body, "update_filter"),
        read_shard_key(body),
    )


def read_payload(node: Node) -> PayloadJson:
    """A JSON object, as bytes.

    Raises:
        FormatError: it is none.
    """
    return orjson.dumps(node.members())


def read_selector(body: Node) -> PointSelector:
    """`{points: [...]}` or `{filter: {...}}`; the points win.

    Raises:
        FormatError: it is neither.
    """
    points = body.get("points")
    if points is not None:
        return PointSelector(ids=tuple(read_point_ids(points)))
    filter_node = body.get("filter")
    if filter_node is None:
        raise body.format_error("Either list of point ids or filter must be provided")
    return PointSelector(filter=read_filter(filter_node))


def read_shard_key(body: Node) -> str | None:
    """`shard_key` as text, if there is one: no collection here has shards to choose from.

    Raises:
        FormatError: it is no shard key.
    """
    node = body.get("shard_key")
    if node is None:
        return None
    if isinstance(node.value, dict):
        keys = [node.require("target").value, node.require("fallback").value]
    elif isinstance(node.value, list):
        keys = node.value
    else:
        keys = [node.value]
    for shard_key in keys:
        is_number = type(shard_key) is int and 0 <= shard_key <= U64_MAX
        if not is_number and not isinstance(shard_key, str):
            raise node.format_error(f"invalid type: {describe(shard_key)}, expected a shard key")
    return str(keys[0]) if keys else None


def read_payload_selection(node: Node | None, default: PayloadSelection) -> PayloadSelection:
    """`with_payload`: a boolean, a list of paths, `{include}` or `{exclude}`.

    Raises:
        FormatError: it is none of these.
    """
    if node is None:
        return default
    if isinstance(node.value, bool):
        return WHOLE_PAYLOAD if node.value else NO_PAYLOAD
    if isinstance(node.value, list):
        return PayloadSelection(include=_read_paths(node))
    if node.has("include"):
        node.deny_unknown("include")
        return PayloadSelection(include=_read_paths(node.require("include")))
    node.deny_unknown("exclude")
    return PayloadSelection(exclude=_read_paths(node.require("exclude")))


def read_vector_selection(body: Node) -> VectorSelection:
    """`with_vector`: a boolean or a list of names.

    Raises:
        FormatError: it is neither.
    """
    node = body.get("with_vector", "with_vectors")
    if node is None:
        return NO_VECTORS
    if isinstance(node.value, bool):
        return ALL_VECTORS if node.value else NO_VECTORS
    return VectorSelection(enabled=True, names=tuple(name.text() for name in node.elements()))


def _read_paths(node: Node) -> tuple[str, ...]:
    return tuple(path.payload_path() for path in node.elements())


class _Point(NamedTuple):
    """A point whose texts are not embedded yet."""

    id: PointId
    vectors: Mapping[str, Vector | Text]
    payload: PayloadJson


def _read_point(node: Node) -> _Point:
    payload = node.get("payload")
    return _Point(
        id=read_point_id(node.require("id")),
        vectors=read_point_vectors(node.require(*_VECTOR)),
        payload=EMPTY_PAYLOAD if payload is None else read_payload(payload),
    )


def _read_new_vectors(node: Node) -> Mapping[str, Vector | Text]:
    if isinstance(node.value, (dict, list)) and not node.value:
        node.broken("must specify vectors to update for point")
        return {}
    return read_point_vectors(node)


def _read_batch(node: Node) -> list[_Point]:
    """Points by column; columns of different lengths break a rule."""
    ids = read_point_ids(node.require("ids"))
    vectors = _read_vector_columns(node.require("vectors"), len(ids))
    payloads = node.get("payloads")
    column = [EMPTY_PAYLOAD] * len(ids)
    if payloads is not None:
        column = [
            EMPTY_PAYLOAD if one.value is None else read_payload(one) for one in payloads.elements()
        ]
        if len(column) != len(ids):
            node.broken(f"number of ids and payloads must be equal ({len(ids)} != {len(column)})")
            return []
    return [
        _Point(point_id, point_vectors, payload)
        for point_id, point_vectors, payload in zip(ids, vectors, column, strict=False)
    ]


def _read_vector_columns(node: Node, count: int) -> list[Mapping[str, Vector | Text]]:
    if isinstance(node.value, list):
        columns = {DEFAULT_VECTOR_NAME: [_read_unnamed(one) for one in node.elements()]}
    else:
        columns = {
            name: [read_vector(one) for one in column.elements()] for name, column in node.entries()
        }
    for column in columns.values():
        if len(column) != count:
            node.rules.broken(
                node.path.removesuffix(".vectors"),
                f"number of ids and vectors must be equal ({count} != {len(column)})",
            )
            return []
    return [{name: column[row] for name, column in columns.items()} for row in range(count)]


def _read_unnamed(node: Node) -> Vector | Text:
    """A vector of a column without a name: a list, or what is to be embedded."""
    text = read_text(node) if isinstance(node.value, dict) else None
    if text is not None:
        return text
    node.elements()
    return read_list_vector(node)
