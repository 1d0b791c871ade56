"""Qdrant's own engine, in process, asked the same questions as Headrace."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import numpy as np
import qdrant_edge as edge

from headrace.engine.payload.paths import JsonObject
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    MinShould,
    Nested,
    Range,
    Slice,
    ValuesCount,
)
from headrace.model.ids import PointId


class EdgeShard:
    """A shard of points that have payloads and, all of them, the default vector."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._shard = shard

    def passing(self, filter: Filter) -> set[PointId]:
        """The ids of the points that pass, as Qdrant has it."""
        request = edge.ScrollRequest(
            limit=100_000, filter=edge_filter(filter), with_payload=False, with_vector=False
        )
        return {point_id(record.id) for record in self._shard.scroll(request)[0]}

    def payload(self, selection: Any = True) -> JsonObject:
        """The payload of the only point."""
        request = edge.ScrollRequest(limit=1, with_payload=selection, with_vector=False)
        return self._shard.scroll(request)[0][0].payload or {}

    def update(self, operation: edge.UpdateOperation) -> None:
        """Apply one of the engine's own operations."""
        self._shard.update(operation)


@contextmanager
def edge_shard(
    payloads: Mapping[PointId, JsonObject] | Sequence[JsonObject],
    schema: Mapping[str, PayloadFieldSchema] | None = None,
) -> Iterator[EdgeShard]:
    """A shard with these payloads, by id or numbered from 0, and these payload indexes."""
    by_id = payloads if isinstance(payloads, Mapping) else dict(enumerate(payloads))
    config = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=1, distance=edge.Distance.Dot), wal_enabled=False
    )
    with tempfile.TemporaryDirectory() as path:
        shard = edge.EdgeShard.create(path, config)
        points = [edge.Point(id, [1.0], payload) for id, payload in by_id.items()]
        shard.update(edge.UpdateOperation.upsert_points(points))
        for key, field in (schema or {}).items():
            shard.update(edge.UpdateOperation.create_field_index(key, edge_index(field)))
        yield EdgeShard(shard)
        shard.close()


def point_id(id: int | str | UUID) -> PointId:
    """An id of the engine as one of ours."""
    return UUID(id) if isinstance(id, str) else id


def edge_filter(filter: Filter) -> Any:
    """The same filter for the engine; an empty list is an absent one."""
    return edge.Filter(
        must=[edge_condition(c) for c in filter.must] or None,
        should=[edge_condition(c) for c in filter.should] or None,
        must_not=[edge_condition(c) for c in filter.must_not] or None,
        min_should=_min_should(filter.min_should),
    )


def edge_condition(condition: Condition) -> Any:
    """The same condition for the engine."""
    match condition:
        case FieldCondition():
            return _field_condition(condition)
        case IsEmpty(key):
            return edge.IsEmptyCondition(key)
        case IsNull(key):
            return edge.IsNullCondition(key)
        case HasId(ids):
            return edge.HasIdCondition(set(ids))
        case HasVector(name):
            return edge.HasVectorCondition(name)
        case Nested(key, filter):
            return edge.NestedCondition(key, edge_filter(filter))
        case Slice(total, rank):
            with_slices: Any = edge  # whose stubs lack them
            return with_slices.SliceCondition(total, rank)
        case Filter():
            return edge_filter(condition)


def edge_index(field: PayloadFieldSchema) -> Any:
    """The same payload index for the engine."""
    params = {key: value for key, value in (field.params or {}).items() if key != "type"}
    match field.data_type:
        case PayloadFieldType.INTEGER if params:
            return edge.IntegerIndexParams(**params)
        case PayloadFieldType.TEXT:
            return _text_index(params)
    return getattr(edge.PayloadSchemaType, field.data_type.capitalize())


def _min_should(at_least: MinShould | None) -> Any:
    if at_least is None:
        return None
    return edge.MinShould([edge_condition(c) for c in at_least.conditions], at_least.min_count)


def _text_index(params: dict[str, Any]) -> Any:
    if "tokenizer" in params:
        params["tokenizer"] = getattr(edge.TokenizerType, params["tokenizer"].capitalize())
    if isinstance(params.get("stopwords"), str):
        params["stopwords"] = getattr(edge.Language, params["stopwords"].capitalize())
    elif "stopwords" in params:
        params["stopwords"] = edge.StopwordsSet(custom=set(params["stopwords"]["custom"]))
    if "stemmer" in params:
        language = params["stemmer"]["language"].capitalize()
        params["stemmer"] = edge.SnowballParams(getattr(edge.SnowballLanguage, language))
    return edge.TextIndexParams(**params)


def _field_condition(condition: FieldCondition) -> Any:
    operators: dict[str, Any] = {
        "match": (_match, condition.match),
        "range": (_range, condition.range),
        "geo_bounding_box": (_box, condition.geo_bounding_box),
        "geo_radius": (_circle, condition.geo_radius),
        "geo_polygon": (_polygon, condition.geo_polygon),
        "values_count": (_count, condition.values_count),
    }
    return edge.FieldCondition(
        key=condition.key,
        is_empty=condition.is_empty,
        is_null=condition.is_null,
        **{name: convert(value) for name, (convert, value) in operators.items() if value},
    )


def _match(match: Match) -> Any:
    match match:
        case MatchValue(bool() as value):
            # The interface takes Python's True for 1, but NumPy's for true.
            as_numpy: Any = np.bool_(value)
            return edge.MatchValue(as_numpy)
        case MatchValue(value):
            return edge.MatchValue(value)
        case MatchAny(values):
            return edge.MatchAny(_of_one_type(values))
        case MatchExcept(values):
            return edge.MatchExcept(_of_one_type(values))
        case MatchText(text):
            return edge.MatchText(text)
        case MatchTextAny(text):
            return edge.MatchTextAny(text)
        case MatchPhrase(text):
            return edge.MatchPhrase(text)
        case MatchPrefix(text):
            return edge.MatchPrefix(text)


def _of_one_type(values: Sequence[str | int]) -> Any:
    return list(values)


def _range(bounds: Range | DatetimeRange) -> Any:
    if isinstance(bounds, Range):
        return edge.RangeFloat(lt=bounds.lt, gt=bounds.gt, lte=bounds.lte, gte=bounds.gte)
    return edge.RangeDateTime(
        lt=_datetime(bounds.lt),
        gt=_datetime(bounds.gt),
        lte=_datetime(bounds.lte),
        gte=_datetime(bounds.gte),
    )


def _datetime(micros: int | None) -> str | None:
    return None if micros is None else f"{np.datetime64(micros, 'us')}Z"


def _count(bounds: ValuesCount) -> Any:
    return edge.ValuesCount(lt=bounds.lt, gt=bounds.gt, lte=bounds.lte, gte=bounds.gte)


def _box(box: GeoBoundingBox) -> Any:
    return edge.GeoBoundingBox(_point(box.top_left), _point(box.bottom_right))


def _circle(circle: GeoRadius) -> Any:
    return edge.GeoRadius(_point(circle.center), circle.radius_m)


def _polygon(polygon: GeoPolygon) -> Any:
    return edge.GeoPolygon(
        [_point(place) for place in polygon.exterior],
        [[_point(place) for place in ring] for ring in polygon.interiors],
    )


def _point(place: Geo) -> Any:
    return edge.GeoPoint(place.lon, place.lat)
