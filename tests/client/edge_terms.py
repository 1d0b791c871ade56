"""What the official client's models are called in Qdrant's own engine.

From the client's models to the engine's, without Headrace between them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

# The stubs say less than the engine takes.
_EDGE: Any = edge
_E: Any = edge.Expression


def vector_params(params: models.VectorParams) -> Any:
    """A dense vector's parameters."""
    multi = params.multivector_config
    return edge.EdgeVectorParams(
        size=params.size,
        distance=distance(params.distance),
        multivector_config=None if multi is None else _max_sim(),
    )


def distance(name: models.Distance) -> Any:
    return getattr(edge.Distance, name.value)


def _max_sim() -> Any:
    return edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)


def sparse_params(params: models.SparseVectorParams) -> Any:
    """A sparse vector's parameters."""
    modifier = None if params.modifier is None else params.modifier.value.capitalize()
    return edge.EdgeSparseVectorParams(
        modifier=None if modifier is None else getattr(edge.Modifier, modifier)
    )


def vector(value: Any) -> Any:
    """A vector of any kind, or the vectors by name."""
    match value:
        case models.SparseVector():
            return edge.SparseVector(value.indices, value.values)
        case models.Document(model="qdrant/bm25"):
            return edge.Bm25().embed_query(value.text)
        case np.ndarray():
            return value.tolist()
        case dict():
            return {name: vector(one) for name, one in value.items()}
    return value


def client_vector(value: Any) -> Any:
    """The client's form of a vector that the engine gives."""
    if isinstance(value, edge.SparseVector):
        return models.SparseVector(indices=value.indices, values=value.values)
    if isinstance(value, dict):
        return {name: client_vector(one) for name, one in value.items()}
    return value


def payload_index(schema: Any) -> Any:
    """A payload index's type or parameters."""
    if isinstance(schema, str):
        return getattr(edge.PayloadSchemaType, schema.capitalize())
    given = {name: one for name, one in schema if one is not None}
    del given["type"]
    if "tokenizer" in given:
        given["tokenizer"] = getattr(edge.TokenizerType, given["tokenizer"].value.capitalize())
    return getattr(edge, type(schema).__name__)(**given)


def payload_selection(selector: Any) -> Any:
    """Which payload keys an answer has."""
    if isinstance(selector, models.PayloadSelectorExclude):
        return edge.PayloadSelector.Exclude(selector.exclude)
    return selector


def order_by(order: str | models.OrderBy) -> Any:
    if isinstance(order, str):
        return edge.OrderBy(order)
    direction = None if order.direction is None else order.direction.value.capitalize()
    return edge.OrderBy(
        order.key,
        direction=None if direction is None else getattr(edge.Direction, direction),
        start_from=_start(order.start_from),
    )


def _start(value: str | float | date | None) -> str | float | None:
    return _datetime(value) if isinstance(value, date) else value


def search_params(params: models.SearchParams | None) -> Any:
    if params is None:
        return None
    _assert_only(params, "hnsw_ef", "exact", "indexed_only")
    return edge.SearchParams(
        hnsw_ef=params.hnsw_ef,
        exact=bool(params.exact),
        indexed_only=bool(params.indexed_only),
    )


def filter(value: models.Filter | None) -> Any:
    if value is None:
        return None
    at_least = value.min_should
    return edge.Filter(
        must=_conditions(value.must),
        should=_conditions(value.should),
        must_not=_conditions(value.must_not),
        min_should=None
        if at_least is None
        else edge.MinShould([condition(one) for one in at_least.conditions], at_least.min_count),
    )


def _conditions(value: Any) -> Any:
    if value is None:
        return None
    return [condition(one) for one in (value if isinstance(value, list) else [value])]


def condition(value: Any) -> Any:
    match value:
        case models.Filter():
            return filter(value)
        case models.HasIdCondition():
            return edge.HasIdCondition(set(value.has_id))
        case models.HasVectorCondition():
            return edge.HasVectorCondition(value.has_vector)
        case models.IsEmptyCondition():
            return edge.IsEmptyCondition(value.is_empty.key)
        case models.IsNullCondition():
            return edge.IsNullCondition(value.is_null.key)
        case models.NestedCondition():
            return edge.NestedCondition(value.nested.key, filter(value.nested.filter))
        case models.SliceCondition():
            return _EDGE.SliceCondition(value.slice.total, value.slice.index)
        case models.FieldCondition():
            return _field_condition(value)
    raise AssertionError(f"no condition of the engine for {value!r}")


def _field_condition(value: models.FieldCondition) -> Any:
    ways: dict[str, Callable[[Any], Any]] = {
        "match": _match,
        "range": _range,
        "geo_bounding_box": _box,
        "geo_radius": lambda one: edge.GeoRadius(place(one.center), one.radius),
        "geo_polygon": lambda one: edge.GeoPolygon(
            _ring(one.exterior), [_ring(ring) for ring in one.interiors or []]
        ),
        "values_count": lambda one: edge.ValuesCount(
            lt=one.lt, gt=one.gt, lte=one.lte, gte=one.gte
        ),
        "is_empty": bool,
        "is_null": bool,
    }
    given = {name: getattr(value, name) for name in ways}
    terms = {name: ways[name](one) for name, one in given.items() if one is not None}
    return edge.FieldCondition(key=value.key, **terms)


def _match(value: Any) -> Any:
    match value:
        case models.MatchValue():
            # The interface takes Python's True for 1, but NumPy's for true.
            one: Any = np.bool_(value.value) if isinstance(value.value, bool) else value.value
            return edge.MatchValue(one)
        case models.MatchAny():
            return edge.MatchAny(value.any)
        case models.MatchExcept():
            return edge.MatchExcept(value.except_)
        case models.MatchText():
            return edge.MatchText(value.text)
        case models.MatchTextAny():
            return edge.MatchTextAny(value.text_any)
        case models.MatchPhrase():
            return edge.MatchPhrase(value.phrase)
        case models.MatchPrefix():
            return edge.MatchPrefix(value.prefix)
    raise AssertionError(f"no match of the engine for {value!r}")


def _range(value: models.Range | models.DatetimeRange) -> Any:
    bounds = {name: getattr(value, name) for name in ("lt", "gt", "lte", "gte")}
    if isinstance(value, models.Range):
        return edge.RangeFloat(**bounds)
    return edge.RangeDateTime(**{name: _datetime(bound) for name, bound in bounds.items()})


def _datetime(value: Any) -> str | None:
    if not isinstance(value, datetime):
        return None if value is None else str(value)
    return value.isoformat() if value.tzinfo else f"{value.isoformat()}Z"


def _box(value: models.GeoBoundingBox) -> Any:
    return edge.GeoBoundingBox(place(value.top_left), place(value.bottom_right))


def _ring(value: models.GeoLineString) -> Any:
    return [place(one) for one in value.points]


def place(value: models.GeoPoint) -> Any:
    return edge.GeoPoint(value.lon, value.lat)


def formula(query: models.FormulaQuery) -> Any:
    return edge.Formula(expression(query.formula), query.defaults or {})


def expression(value: Any) -> Any:
    match value:
        case float() | int():
            return _E.Constant(float(value))
        case str():
            return _E.Variable(value)
        case models.SumExpression():
            return _E.Sum([expression(one) for one in value.sum])
        case models.MultExpression():
            return _E.Mult([expression(one) for one in value.mult])
        case models.NegExpression():
            return _E.Neg(expression(value.neg))
        case models.AbsExpression():
            return _E.Abs(expression(value.abs))
        case models.SqrtExpression():
            return _E.Sqrt(expression(value.sqrt))
        case models.ExpExpression():
            return _E.Exp(expression(value.exp))
        case models.LnExpression():
            return _E.Ln(expression(value.ln))
        case models.Log10Expression():
            return _E.Log10(expression(value.log10))
        case models.DivExpression():
            div = value.div
            return _E.Div(expression(div.left), expression(div.right), div.by_zero_default)
        case models.PowExpression():
            return _E.Pow(expression(value.pow.base), expression(value.pow.exponent))
        case models.GeoDistance():
            return _E.GeoDistance(place(value.geo_distance.origin), value.geo_distance.to)
        case models.DatetimeExpression():
            return _E.Datetime(value.datetime)
        case models.DatetimeKeyExpression():
            return _E.DatetimeKey(value.datetime_key)
        case models.ExpDecayExpression():
            return _decay(edge.DecayKind.Exp, value.exp_decay)
        case models.LinDecayExpression():
            return _decay(edge.DecayKind.Lin, value.lin_decay)
        case models.GaussDecayExpression():
            return _decay(edge.DecayKind.Gauss, value.gauss_decay)
    return _E.Condition(condition(value))


def _decay(kind: Any, params: models.DecayParamsExpression) -> Any:
    return _E.Decay(
        kind,
        expression(params.x),
        target=None if params.target is None else expression(params.target),
        midpoint=params.midpoint,
        scale=params.scale,
    )


def fusion(query: models.FusionQuery | models.RrfQuery) -> Any:
    if isinstance(query, models.RrfQuery):
        return _EDGE.Fusion.Rrf(k=query.rrf.k, weights=query.rrf.weights)
    return _EDGE.Fusion.Rrf(k=2) if query.fusion is models.Fusion.RRF else _EDGE.Fusion.Dbsf()


def _assert_only(value: Any, *known: str) -> None:
    """Nothing is asked of Headrace that the engine is not asked."""
    given: Sequence[str] = [name for name, one in value if one is not None]
    assert set(given) <= set(known), f"{given} are more than {known}"
