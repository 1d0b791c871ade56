"""Calls on every kind of vector, payload index, filter and query, and writes between them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from tests.client.steps import Step

KINDS = "kinds"


def of_kinds(method: str, *, label: str = "", **arguments: Any) -> Step:
    return Step(method, {"collection_name": KINDS, **arguments}, True, label)


_DISTANCES = {
    "euclid": models.VectorParams(size=3, distance=models.Distance.EUCLID),
    "manhattan": models.VectorParams(size=3, distance=models.Distance.MANHATTAN),
    "late": models.VectorParams(
        size=3,
        distance=models.Distance.COSINE,
        multivector_config=models.MultiVectorConfig(
            comparator=models.MultiVectorComparator.MAX_SIM
        ),
    ),
}
_INDEXES = {
    "color": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, prefix=True),
    "many": models.IntegerIndexParams(
        type=models.IntegerIndexType.INTEGER, lookup=True, range=True
    ),
    "weight": "float",
    "is_new": "bool",
    "at": "datetime",
    "place": "geo",
    "owner": "uuid",
    "title": models.TextIndexParams(
        type=models.TextIndexType.TEXT,
        tokenizer=models.TokenizerType.WORD,
        lowercase=True,
        phrase_matching=True,
    ),
}


def _point_of_kinds(i: int) -> models.PointStruct:
    rng = np.random.default_rng(1000 + i)
    vectors: dict[str, Any] = {
        "euclid": rng.standard_normal(3).round(3).tolist(),
        "manhattan": rng.standard_normal(3).round(3).tolist(),
        "late": rng.standard_normal((1 + i % 3, 3)).round(3).tolist(),
        "idf": models.SparseVector(
            indices=sorted({i % 3, 3 + i % 4, 9}), values=(rng.random(3) + 0.1).round(3).tolist()
        ),
    }
    if i % 7 == 0:
        del vectors["manhattan"]
    payload: dict[str, Any] = {
        "color": ["red", ["red", "green"], [], None][i % 4],
        "many": [i, 60 - i],
        "weight": i / 8 - 1,
        "is_new": i % 3 == 0,
        "at": f"2024-02-{i % 28 + 1:02}T{i % 24:02}:30:00+01:00",
        "place": {"lon": i - 12.5, "lat": 2.0 * i - 20},
        "owner": str(UUID(int=i % 4)).upper(),
        "title": ["The Old Mill", "a new mill race", "Mill, old and new"][i % 3],
        "parts": [{"n": i, "ok": True}, {"n": i % 5, "ok": False}],
        "maybe": [None, [None], [], "", 0][i % 5],
    }
    if i % 6 == 0:
        del payload["color"]
    id: int | str = i if i % 2 else str(UUID(int=i))
    return models.PointStruct(id=id, vector=vectors, payload=payload)


def _field(key: str, **terms: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, **terms)])


_RED = models.FieldCondition(key="color", match=models.MatchValue(value="red"))
_PREFIXED = _field("color", match=models.MatchPrefix(prefix="re"))
_WEIGHED = _field("weight", range=models.Range(gte=-0.5, lt=1))
_OWNED = _field("owner", match=models.MatchValue(value=str(UUID(int=3)).upper()))
_SEVEN = _field("many", match=models.MatchValue(value=7))
_TEN = _field("many[0]", match=models.MatchValue(value=10))
_HEAVY = _field("weight", range=models.Range(gt=2.3))
_FILTERS_OF_KINDS = [
    models.Filter(),
    models.Filter(must=[], should=[], must_not=[]),
    _PREFIXED,
    _field("color", match=models.MatchExcept(**{"except": ["red"]})),
    _field("color", match=models.MatchAny(any=[])),
    _field("color", is_empty=True),
    _field("color", is_empty=False),
    _field("color", is_null=True),
    _field("color", is_null=False),
    _field("color", values_count=models.ValuesCount(lt=1)),
    models.Filter(must_not=_field("color", match=models.MatchValue(value="green")).must),
    _SEVEN,
    _field("many", match=models.MatchExcept(**{"except": [3, 57]})),
    _field("many", range=models.Range(gt=46.5)),
    _field("many[1]", range=models.Range(lte=34)),
    _WEIGHED,
    _field("weight", range=models.Range()),
    _field("is_new", match=models.MatchValue(value=True)),
    _field(
        "at",
        range=models.DatetimeRange(gte=datetime(2024, 2, 10, 9, tzinfo=UTC), lt=date(2024, 2, 20)),
    ),
    _OWNED,
    _field("title", match=models.MatchPhrase(phrase="Old Mill")),
    _field("parts[].n", match=models.MatchAny(any=[1, 2])),
    _field("maybe", match=models.MatchValue(value="")),
    models.Filter(must_not=[models.IsEmptyCondition(is_empty=models.PayloadField(key="maybe"))]),
    models.Filter(
        must_not=[
            models.NestedCondition(
                nested=models.Nested(
                    key="parts",
                    filter=models.Filter(
                        must=[models.FieldCondition(key="n", range=models.Range(gt=20))],
                        must_not=[
                            models.FieldCondition(key="ok", match=models.MatchValue(value=False))
                        ],
                    ),
                )
            )
        ]
    ),
    models.Filter(must=[models.HasVectorCondition(has_vector="manhattan")]),
    models.Filter(must=[models.HasVectorCondition(has_vector="nothing")]),
    models.Filter(must=[models.HasIdCondition(has_id=[1, str(UUID(int=2)), 2])]),
    models.Filter(must=[models.HasIdCondition(has_id=[])]),
    models.Filter(must=[models.SliceCondition(slice=models.Slice(total=3, index=1))]),
    models.Filter(
        should=[models.Filter(must=[_RED]), *(_field("many", range=models.Range(lt=5)).must or [])],
        must_not=[models.HasIdCondition(has_id=[3])],
    ),
    _field(
        "place",
        geo_polygon=models.GeoPolygon(
            exterior=models.GeoLineString(
                points=[
                    models.GeoPoint(lon=lon, lat=lat)
                    for lon, lat in ((-10, -30), (10, -30), (10, 30), (-10, 30), (-10, -30))
                ]
            ),
            interiors=[
                models.GeoLineString(
                    points=[
                        models.GeoPoint(lon=lon, lat=lat)
                        for lon, lat in ((-2, -9), (4, -9), (4, 9), (-2, 9), (-2, -9))
                    ]
                )
            ],
        ),
    ),
    _field(
        "place",
        geo_bounding_box=models.GeoBoundingBox(
            top_left=models.GeoPoint(lon=3.0, lat=80.0),
            bottom_right=models.GeoPoint(lon=-6.0, lat=-80.0),
        ),
    ),
]
_EXAMPLE: dict[str, Any] = {
    "euclid": [0.3, -0.2, 0.9],
    "manhattan": [0.3, -0.2, 0.9],
    "late": [[0.3, -0.2, 0.9], [1.0, 0.4, 0.1]],
    "idf": models.SparseVector(indices=[0, 4, 9], values=[0.7, 0.9, 0.2]),
}
_UUID_8 = str(UUID(int=8))


def _queries_of(using: str) -> list[dict[str, Any]]:
    """Every kind of query by vector, on one vector name."""
    example = _EXAMPLE[using]
    pairs = [
        models.ContextPair(positive=1, negative=_UUID_8),
        models.ContextPair(positive=example, negative=5),
    ]
    kinds: list[dict[str, Any]] = [
        {"query": example, "limit": 4, "with_vectors": [using]},
        {"query": 9, "query_filter": _PREFIXED},
        {"query": example, "score_threshold": 1.5, "limit": 40},
        {
            "query": models.RelevanceFeedbackQuery(
                relevance_feedback=models.RelevanceFeedbackInput(
                    target=example,
                    feedback=[
                        models.FeedbackItem(example=3, score=0.9),
                        models.FeedbackItem(example=_UUID_8, score=0.1),
                        models.FeedbackItem(example=example, score=0.5),
                    ],
                    strategy=models.NaiveFeedbackStrategy(
                        naive=models.NaiveFeedbackStrategyParams(a=0.7, b=0.6, c=0.4)
                    ),
                )
            )
        },
        {
            "query": models.DiscoverQuery(
                discover=models.DiscoverInput(target=example, context=pairs)
            )
        },
        {"query": models.ContextQuery(context=pairs), "limit": 50},
    ]
    kinds += [
        {
            "query": models.RecommendQuery(
                recommend=models.RecommendInput(
                    positive=[1, example], negative=[_UUID_8], strategy=strategy
                )
            )
        }
        for strategy in models.RecommendStrategy
    ]
    return [{"using": using, **one} for one in kinds]


_FUSED = [
    models.Prefetch(query=_EXAMPLE["euclid"], using="euclid", limit=12),
    models.Prefetch(
        prefetch=models.Prefetch(query=_EXAMPLE["manhattan"], using="manhattan", limit=15),
        query=_EXAMPLE["late"],
        using="late",
        limit=9,
    ),
]
_QUERIES_OF_KINDS: list[dict[str, Any]] = [
    *(query for using in _EXAMPLE for query in _queries_of(using)),
    {"limit": 5, "offset": 3},
    {"query": models.OrderByQuery(order_by="many"), "limit": 12},
    {"query": models.OrderByQuery(order_by="many"), "limit": 80, "offset": 25},
    {
        "query": models.OrderByQuery(
            order_by=models.OrderBy(
                key="at", start_from=datetime(2024, 2, 7), direction=models.Direction.DESC
            )
        ),
        "limit": 3,
        "with_payload": ["at"],
    },
    {"prefetch": _FUSED, "query": models.OrderByQuery(order_by="weight"), "limit": 30},
    {"prefetch": _FUSED, "query": models.FusionQuery(fusion=models.Fusion.DBSF), "limit": 30},
    {
        "prefetch": _FUSED,
        "query": models.FusionQuery(fusion=models.Fusion.RRF),
        "query_filter": _WEIGHED,
        "score_threshold": 0.2,
    },
    {
        "prefetch": _FUSED,
        "query": models.FormulaQuery(
            formula=models.SumExpression(
                sum=[
                    "$score[0]",
                    models.MultExpression(mult=[0.5, "$score[1]"]),
                    models.LnExpression(ln=models.SumExpression(sum=["weight", 9.0])),
                    models.Log10Expression(log10=50.0),
                    models.LinDecayExpression(
                        lin_decay=models.DecayParamsExpression(x="weight", target=1.0, scale=4.0)
                    ),
                    models.GaussDecayExpression(
                        gauss_decay=models.DecayParamsExpression(
                            x="weight", scale=2.0, midpoint=0.25
                        )
                    ),
                ]
            ),
            defaults={"$score[0]": 1.5, "weight": 0.25},
        ),
        "limit": 30,
        "score_threshold": 2.0,
    },
    {
        "prefetch": _FUSED,
        "query": models.FormulaQuery(formula="nothing"),
        "label": "formula without a value",
    },
    {"query": models.FusionQuery(fusion=models.Fusion.RRF)},
    {"prefetch": _FUSED, "label": "prefetches alone"},
    {"query": models.OrderByQuery(order_by="nothing"), "label": "by a field without an index"},
    {"query": [0.5, 0.5], "using": "euclid"},
    {
        "query": models.NearestQuery(nearest=5, mmr=models.Mmr(diversity=0.8, candidates_limit=20)),
        "using": "euclid",
        "limit": 6,
        "with_vectors": ["euclid"],
        "label": "MMR of distances",
    },
]
_WRITES_OF_KINDS: list[Step] = [
    of_kinds("set_payload", payload={"color": None, "a": {"b": [1, {"c": None}]}}, points=[1, 3]),
    of_kinds("set_payload", payload={"c": 2}, points=[1], key="a.b[1]"),
    of_kinds("set_payload", payload={"c": 2}, points=[1], key="a.b[7]"),
    of_kinds("set_payload", payload={"c": 2}, points=[3], key="new[].x"),
    of_kinds("set_payload", payload={"seen": 1}, points=_PREFIXED),
    of_kinds("overwrite_payload", payload={"many": 1000, "gone": None}, points=_OWNED),
    of_kinds("delete_payload", keys=["parts[].ok", "a.b[0]", "nothing"], points=[1, 5]),
    of_kinds("delete_payload", keys=["parts[]"], points=[7]),
    of_kinds("clear_payload", points_selector=_SEVEN),
    of_kinds("delete_vectors", vectors=["late", "idf"], points=_HEAVY),
    of_kinds("delete_vectors", vectors=["nothing"], points=[1]),
    of_kinds(
        "update_vectors",
        points=[
            models.PointVectors(id=7, vector={"manhattan": [1.0, 2.0, 3.0], "late": [[0.0, 3, 4]]}),
            models.PointVectors(
                id=7, vector={"idf": models.SparseVector(indices=[8, 2], values=[1.0, 2.0])}
            ),
        ],
    ),
    of_kinds(
        "update_vectors", points=[models.PointVectors(id=4711, vector={"euclid": [1.0, 2.0, 3.0]})]
    ),
    of_kinds(
        "upsert",
        points=[models.PointStruct(id=i, vector={}, payload={"fresh": i}) for i in (1, 101)],
        update_mode=models.UpdateMode.INSERT_ONLY,
    ),
    of_kinds(
        "upsert",
        points=[models.PointStruct(id=i, vector={}, payload={"fresh": i}) for i in (3, 102)],
        update_mode=models.UpdateMode.UPDATE_ONLY,
    ),
    of_kinds(
        "upsert",
        points=[
            models.PointStruct(id=5, vector={"euclid": [3.0, 2.0, 1.0]}),
            models.PointStruct(id=5, vector={"late": [[0.0, 0.0, 0.0]]}, payload={"last": True}),
        ],
    ),
    of_kinds("upsert", points=[models.PointStruct(id=6, vector={"nothing": [1.0]})]),
    of_kinds(
        "batch_update_points",
        update_operations=[
            models.UpsertOperation(
                upsert=models.PointsList(
                    points=[models.PointStruct(id=103, vector={"euclid": [0.0, 1.0, 0.0]})]
                )
            ),
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload={"only": 1}, points=[103])
            ),
            models.DeletePayloadOperation(
                delete_payload=models.DeletePayload(keys=["title"], points=[9])
            ),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[11])),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(
                    points=[models.PointVectors(id=11, vector={"euclid": [9.0, 9.0, 9.0]})]
                )
            ),
            models.DeleteVectorsOperation(
                delete_vectors=models.DeleteVectors(vector=["euclid"], points=[13])
            ),
            models.DeleteOperation(delete=models.FilterSelector(filter=_TEN)),
        ],
    ),
]
STEPS_OF_KINDS: list[Step] = [
    of_kinds(
        "create_collection",
        vectors_config=_DISTANCES,
        sparse_vectors_config={"idf": models.SparseVectorParams(modifier=models.Modifier.IDF)},
    ),
    of_kinds("upsert", points=[_point_of_kinds(i) for i in range(30)]),
    *(of_kinds("count", count_filter=one) for one in _FILTERS_OF_KINDS),
    of_kinds(
        "count",
        count_filter=_field("title", match=models.MatchText(text="mill OLD")),
        label="text without an index",
    ),
    *(
        of_kinds("create_payload_index", field_name=key, field_schema=schema)
        for key, schema in _INDEXES.items()
    ),
    of_kinds("get_collection"),
    *(of_kinds("scroll", scroll_filter=one, limit=40) for one in _FILTERS_OF_KINDS),
    of_kinds("count", count_filter=_field("title", match=models.MatchText(text="mill OLD"))),
    of_kinds("scroll", order_by="weight", limit=40),
    of_kinds(
        "scroll",
        order_by=models.OrderBy(key="many", direction=models.Direction.DESC, start_from=7),
        limit=9,
    ),
    of_kinds("scroll", limit=3, offset=str(UUID(int=9)), with_vectors=True),
    of_kinds("scroll", limit=100, with_payload=["parts[].n", "place"]),
    of_kinds("retrieve", ids=[str(UUID(int=4)).upper(), 3], with_payload=False, with_vectors=True),
    *(of_kinds("facet", key=key, limit=50, exact=True) for key in ("color", "many", "is_new")),
    of_kinds("facet", key="owner", facet_filter=_PREFIXED),
    *(of_kinds("query_points", **one) for one in _QUERIES_OF_KINDS),
    *_WRITES_OF_KINDS,
    of_kinds("get_collection"),
    *(of_kinds("scroll", scroll_filter=one, limit=40) for one in _FILTERS_OF_KINDS),
    *(of_kinds("query_points", **one) for one in _QUERIES_OF_KINDS if one.get("using") != "idf"),
    of_kinds(
        "query_points", query=_EXAMPLE["idf"], using="idf", label="frequencies after deletions"
    ),
    of_kinds("delete_collection"),
]
