"""Calls of every method of Qdrant's client, in an order that makes sense of them.

The same calls are made to an engine in this process and to a server, over REST and gRPC, and
must have the same answers, refusals included.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from qdrant_client import models

from tests.client.scenario_of_kinds import STEPS_OF_KINDS
from tests.client.steps import Step, step

COLLECTION = "scenario"
PLAIN = "plain"
UUIDS: list[int | str | UUID] = [str(UUID(int=i)) for i in range(1, 4)]


def in_collection(
    method: str, *, is_ordered: bool = True, label: str = "", **arguments: Any
) -> Step:
    return Step(method, {"collection_name": COLLECTION, **arguments}, is_ordered, label)


def _point(i: int) -> models.PointStruct:
    rng = np.random.default_rng(i)
    return models.PointStruct(
        id=i,
        vector={
            "text": rng.standard_normal(4).round(3).tolist(),
            "tokens": rng.standard_normal((2, 4)).round(3).tolist(),
            "words": models.SparseVector(indices=[i % 5, 7], values=[1 + i / 64, 0.5 + i / 128]),
        },
        payload={
            "city": ["Berlin", "Paris", "Köln"][i % 3],
            "n": i,
            "price": i / 4,
            "tags": ["a", "b"][: i % 3],
            "nested": [{"x": i, "y": i % 2}],
            "at": f"2024-01-{i + 1:02}T00:00:00Z",
            "place": {"lon": 13.4 + i / 10, "lat": 52.5},
            "text": "The quick brown fox" if i % 2 else "A slow red hen",
        },
    )


_BERLIN = models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))
_FILTERS = [
    models.Filter(must=[_BERLIN]),
    models.Filter(must_not=[_BERLIN]),
    models.Filter(should=[_BERLIN, models.HasIdCondition(has_id=[1, 2])]),
    models.Filter(
        min_should=models.MinShould(
            conditions=[_BERLIN, models.FieldCondition(key="n", range=models.Range(gte=5))],
            min_count=2,
        )
    ),
    models.Filter(must=[models.FieldCondition(key="tags", values_count=models.ValuesCount(gt=1))]),
    models.Filter(must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="tags"))]),
    models.Filter(
        must=[models.FieldCondition(key="at", range=models.DatetimeRange(lt=datetime(2024, 1, 5)))]
    ),
    models.Filter(
        must=[
            models.FieldCondition(
                key="place",
                geo_radius=models.GeoRadius(
                    center=models.GeoPoint(lon=13.4, lat=52.5), radius=20_000
                ),
            )
        ]
    ),
    models.Filter(
        must=[
            models.NestedCondition(
                nested=models.Nested(
                    key="nested",
                    filter=models.Filter(
                        must=[models.FieldCondition(key="y", match=models.MatchValue(value=1))]
                    ),
                )
            )
        ]
    ),
    models.Filter(must=[models.FieldCondition(key="text", match=models.MatchText(text="fox"))]),
]
_FILTERS += [
    models.Filter(must=[models.FieldCondition(key=key, match=match)])
    for key, match in (
        ("city", models.MatchAny(any=["Berlin", "Köln"])),
        ("city", models.MatchExcept(**{"except": ["Berlin"]})),
        ("n", models.MatchAny(any=[1, 2, 3])),
        ("text", models.MatchTextAny(text_any="fox hen")),
        ("text", models.MatchPhrase(phrase="quick brown")),
        ("nested[].x", models.MatchValue(value=4)),
    )
]
_FILTERS += [
    models.Filter(must=[models.IsNullCondition(is_null=models.PayloadField(key="city"))]),
    models.Filter(
        must=[
            models.FieldCondition(
                key="place",
                geo_bounding_box=models.GeoBoundingBox(
                    top_left=models.GeoPoint(lon=13.0, lat=53.0),
                    bottom_right=models.GeoPoint(lon=14.0, lat=52.0),
                ),
            )
        ]
    ),
    models.Filter(
        must=[
            models.FieldCondition(
                key="place",
                geo_polygon=models.GeoPolygon(
                    exterior=models.GeoLineString(
                        points=[
                            models.GeoPoint(lon=lon, lat=lat)
                            for lon, lat in ((13, 52), (15, 52), (15, 53), (13, 53), (13, 52))
                        ]
                    )
                ),
            )
        ]
    ),
    models.Filter(must_not=[models.Filter(should=[_BERLIN])]),
]
_DENSE = [0.1, 0.9, -0.3, 0.2]
_QUERIES: list[dict[str, Any]] = [
    {"query": _DENSE, "using": "text"},
    {"query": _DENSE, "using": "text", "with_vectors": True, "score_threshold": 0.2},
    {"query": 3, "using": "text", "limit": 3, "offset": 1},
    {"query": [_DENSE, _DENSE[::-1]], "using": "tokens"},
    {"query": models.SparseVector(indices=[1, 7], values=[1.0, 2.0]), "using": "words"},
    {"query": np.array(_DENSE), "using": "text", "with_payload": ["city"]},
    {
        "query": models.RecommendQuery(
            recommend=models.RecommendInput(positive=[1, 2], negative=[3])
        ),
        "using": "text",
    },
    {
        "query": models.DiscoverQuery(
            discover=models.DiscoverInput(
                target=1, context=[models.ContextPair(positive=2, negative=3)]
            )
        ),
        "using": "text",
    },
    {"query": models.OrderByQuery(order_by="n"), "limit": 4},
    {
        "prefetch": [
            models.Prefetch(query=_DENSE, using="text", limit=5),
            models.Prefetch(
                query=models.SparseVector(indices=[1], values=[1.0]), using="words", limit=5
            ),
        ],
        "query": models.FusionQuery(fusion=models.Fusion.RRF),
    },
    {
        "prefetch": models.Prefetch(query=_DENSE, using="text", limit=8),
        "query": models.FormulaQuery(
            formula=models.SumExpression(sum=["$score", models.MultExpression(mult=[0.1, "n"])])
        ),
    },
    {
        "query": models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[1, _DENSE],
                negative=[3],
                strategy=models.RecommendStrategy.BEST_SCORE,
            )
        ),
        "using": "text",
    },
    {
        "query": models.RecommendQuery(
            recommend=models.RecommendInput(
                positive=[2], strategy=models.RecommendStrategy.SUM_SCORES
            )
        ),
        "using": "text",
    },
    {
        "query": models.ContextQuery(context=[models.ContextPair(positive=2, negative=3)]),
        "using": "text",
        "limit": 50,
    },
    {
        "query": models.NearestQuery(
            nearest=_DENSE, mmr=models.Mmr(diversity=0.5, candidates_limit=12)
        ),
        "using": "text",
        "label": "MMR",
    },
    {
        "query": models.OrderByQuery(
            order_by=models.OrderBy(key="n", direction=models.Direction.DESC, start_from=9)
        ),
        "limit": 3,
    },
    {
        "prefetch": [
            models.Prefetch(
                prefetch=models.Prefetch(query=_DENSE, using="text", limit=9),
                query=[_DENSE, _DENSE],
                using="tokens",
                filter=_FILTERS[0],
                limit=4,
                score_threshold=-5.0,
                params=models.SearchParams(exact=True),
            ),
            models.Prefetch(query=5, using="text", limit=5),
        ],
        "query": models.FusionQuery(fusion=models.Fusion.DBSF),
    },
    {
        "prefetch": [
            models.Prefetch(query=_DENSE, using="text", limit=5),
            models.Prefetch(query=5, using="text", limit=5),
        ],
        "query": models.RrfQuery(rrf=models.Rrf(k=10, weights=[1.0, 0.5])),
    },
    {
        "prefetch": models.Prefetch(query=_DENSE, using="text", limit=8),
        "query": models.FormulaQuery(
            formula=models.SumExpression(
                sum=[
                    models.DivExpression(
                        div=models.DivParams(left="price", right=2.0, by_zero_default=1.0)
                    ),
                    models.MultExpression(mult=[0.5, _BERLIN]),
                    models.NegExpression(neg=models.AbsExpression(abs="n")),
                    models.SqrtExpression(sqrt=models.ExpExpression(exp=0.1)),
                    models.PowExpression(pow=models.PowParams(base=2.0, exponent=0.5)),
                    models.GeoDistance(
                        geo_distance=models.GeoDistanceParams(
                            origin=models.GeoPoint(lon=13.0, lat=52.0), to="place"
                        )
                    ),
                    models.ExpDecayExpression(
                        exp_decay=models.DecayParamsExpression(
                            x=models.DatetimeKeyExpression(datetime_key="at"),
                            target=models.DatetimeExpression(datetime="2024-01-09T00:00:00Z"),
                            scale=86400.0,
                        )
                    ),
                ]
            ),
            defaults={"price": 1.0, "place": {"lon": 13.0, "lat": 52.0}},
        ),
    },
    {"query": 2, "using": "text", "with_payload": models.PayloadSelectorExclude(exclude=["n"])},
    {
        "query": 2,
        "using": "text",
        "search_params": models.SearchParams(hnsw_ef=32, exact=True, indexed_only=False),
        "with_vectors": ["words"],
    },
    {
        "query": 1,
        "using": "text",
        "lookup_from": models.LookupLocation(collection=COLLECTION, vector="text"),
    },
    {"query": models.Document(text="quick fox", model="qdrant/bm25"), "using": "words"},
    {"query": _DENSE},
    {"query": [0.1], "using": "text"},
    {"query": _DENSE, "using": "nothing"},
    {"query": 4711, "using": "text"},
    {"query": _DENSE, "using": "text", "timeout": 30},
    {"query": _DENSE, "using": "text", "consistency": models.ReadConsistencyType.MAJORITY},
]


STEPS: list[Step] = [
    step("info"),
    step("get_collections"),
    in_collection("get_collection", label="a missing collection's"),
    in_collection(
        "create_collection",
        vectors_config={
            "text": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "tokens": models.VectorParams(
                size=4,
                distance=models.Distance.DOT,
                multivector_config=models.MultiVectorConfig(
                    comparator=models.MultiVectorComparator.MAX_SIM
                ),
            ),
        },
        sparse_vectors_config={"words": models.SparseVectorParams()},
    ),
    in_collection("create_collection", label="a second time"),
    step(
        "create_collection",
        collection_name=PLAIN,
        vectors_config=models.VectorParams(size=2, distance=models.Distance.EUCLID),
        timeout=60,
    ),
    in_collection("collection_exists"),
    step("collection_exists", collection_name="missing"),
    in_collection("upsert", points=[_point(i) for i in range(12)]),
    in_collection("upsert", points=[_point(12)], wait=False),
    in_collection("upsert", points=[models.PointStruct(id=1, vector={"text": [1.0]})]),
    step("upload_points", collection_name=COLLECTION, points=[_point(i) for i in range(12, 20)]),
    step(
        "upload_points",
        collection_name=COLLECTION,
        points=[_point(i) for i in range(20, 30)],
        batch_size=64,
        parallel=2,
        wait=True,
    ),
    step(
        "upload_collection",
        collection_name=PLAIN,
        vectors=np.arange(40, dtype=np.float32).reshape(20, 2),
        ids=range(20),
        payload=[{"i": i} for i in range(20)],
        batch_size=7,
        wait=True,
    ),
    step(
        "upsert",
        collection_name=PLAIN,
        points=models.Batch(ids=UUIDS, vectors=[[1.0, 2.0]] * 3, payloads=[{"u": 1}] * 3),
    ),
    in_collection("get_collection"),
    in_collection("count"),
    *(in_collection("count", count_filter=one) for one in _FILTERS),
    in_collection("count", exact=False, timeout=5),
    in_collection("create_payload_index", field_name="city", field_schema="keyword"),
    in_collection("create_payload_index", field_name="n", field_schema="integer"),
    in_collection(
        "create_payload_index",
        field_name="text",
        field_schema=models.TextIndexParams(
            type=models.TextIndexType.TEXT, tokenizer=models.TokenizerType.WORD
        ),
    ),
    *(in_collection("scroll", scroll_filter=one, limit=50) for one in _FILTERS),
    in_collection("scroll", limit=4, offset=7, with_vectors=True),
    in_collection("scroll", order_by="n", limit=3),
    step("scroll", collection_name=PLAIN, limit=50, with_vectors=True),
    in_collection("retrieve", ids=[5, 1, 999, 5], with_vectors=["words"]),
    step("retrieve", collection_name=PLAIN, ids=UUIDS[:1]),
    *(in_collection("query_points", **one) for one in _QUERIES),
    *(in_collection("query_points", query=_DENSE, using="text", query_filter=f) for f in _FILTERS),
    in_collection(
        "query_points",
        query=models.SampleQuery(sample=models.Sample.RANDOM),
        limit=1000,
        is_ordered=False,
    ),
    in_collection(
        "query_batch_points",
        requests=[models.QueryRequest(query=i, using="text", limit=2) for i in (1, 2)],
    ),
    in_collection("query_points_groups", query=_DENSE, using="text", group_by="city", limit=2),
    in_collection(
        "query_points_groups",
        query=_DENSE,
        using="text",
        group_by="n",
        group_size=1,
        limit=3,
        query_filter=_FILTERS[1],
        score_threshold=0.0,
        with_payload=["city"],
        with_lookup=models.WithLookup(collection=PLAIN, with_payload=True, with_vectors=True),
    ),
    in_collection("query_points_groups", query=_DENSE, using="text", group_by="nothing"),
    in_collection("facet", key="n", limit=3, facet_filter=_FILTERS[1], exact=True),
    in_collection(
        "upsert",
        points=[_point(40)],
        update_mode=models.UpdateMode.UPDATE_ONLY,
        ordering=models.WriteOrdering.STRONG,
    ),
    in_collection("upsert", points=[_point(2)], update_filter=_FILTERS[0], timeout=20),
    in_collection("count", count_filter=models.Filter(must=[models.HasIdCondition(has_id=[40])])),
    in_collection(
        "scroll", scroll_filter=models.Filter(must=[models.HasVectorCondition(has_vector="words")])
    ),
    in_collection("scroll", order_by="nothing", label="by a field without an index"),
    in_collection("facet", key="city"),
    in_collection("facet", key="price", label="of a field without an index"),
    in_collection("search_matrix_pairs", sample=100, limit=2, using="text", is_ordered=False),
    in_collection("search_matrix_offsets", sample=0, using="text"),
    in_collection("set_payload", payload={"new": 1}, points=[1, 2]),
    in_collection("set_payload", payload={"new": 1}, points=[4711]),
    in_collection("set_payload", payload={"z": 1}, points=[1], key="nested[0]"),
    in_collection("overwrite_payload", payload={"only": True}, points=[3]),
    in_collection("delete_payload", keys=["city"], points=_FILTERS[0]),
    in_collection("clear_payload", points_selector=[4]),
    in_collection(
        "update_vectors", points=[models.PointVectors(id=1, vector={"text": [1.0, 0.0, 0.0, 0.0]})]
    ),
    in_collection("delete_vectors", vectors=["tokens"], points=[1]),
    in_collection(
        "batch_update_points",
        update_operations=[
            models.SetPayloadOperation(
                set_payload=models.SetPayload(payload={"batch": 1}, points=[5])
            ),
            models.DeleteOperation(delete=models.PointIdsList(points=[6])),
        ],
    ),
    in_collection("delete", points_selector=[7, 4711]),
    in_collection(
        "delete",
        points_selector=models.Filter(
            must=[models.FieldCondition(key="n", range=models.Range(gt=25))]
        ),
    ),
    in_collection("scroll", limit=100, with_vectors=True),
    in_collection("delete_payload_index", field_name="n"),
    in_collection(
        "update_collection", metadata={"owner": "tests"}, hnsw_config=models.HnswConfigDiff(m=8)
    ),
    in_collection("get_collection"),
    step(
        "update_collection_aliases",
        change_aliases_operations=[
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=COLLECTION, alias_name="alias")
            )
        ],
    ),
    step("get_aliases"),
    in_collection("get_collection_aliases"),
    step("count", collection_name="alias", label="by alias"),
    in_collection(
        "create_vector_name",
        vector_name="late",
        vector_name_config=models.DenseVectorNameConfig(
            dense=models.DenseVectorConfig(size=2, distance=models.Distance.DOT)
        ),
    ),
    in_collection("delete_vector_name", vector_name="words"),
    in_collection("get_optimizations"),
    step("cluster_status"),
    step("cluster_telemetry"),
    in_collection("collection_cluster_info"),
    in_collection(
        "cluster_collection_update",
        cluster_operation=models.DropReplicaOperation(
            drop_replica=models.Replica(shard_id=0, peer_id=1)
        ),
    ),
    in_collection("create_shard_key", shard_key="k"),
    in_collection("delete_shard_key", shard_key="k"),
    in_collection("list_shard_keys"),
    step("recover_current_peer"),
    step("remove_peer", peer_id=1),
    in_collection("create_snapshot"),
    in_collection("list_snapshots"),
    in_collection("delete_snapshot", snapshot_name="missing"),
    in_collection("recover_snapshot", location="http://127.0.0.1:1/missing"),
    in_collection("create_shard_snapshot", shard_id=0),
    in_collection("list_shard_snapshots", shard_id=0),
    in_collection("delete_shard_snapshot", shard_id=0, snapshot_name="missing"),
    in_collection("recover_shard_snapshot", shard_id=0, location="http://127.0.0.1:1/missing"),
    step("create_full_snapshot"),
    step("list_full_snapshots"),
    step("delete_full_snapshot", snapshot_name="missing"),
    step(
        "recreate_collection",
        collection_name=PLAIN,
        vectors_config=models.VectorParams(size=3, distance=models.Distance.DOT),
    ),
    step("count", collection_name=PLAIN),
    *STEPS_OF_KINDS,
    in_collection("delete_collection"),
    in_collection("delete_collection"),
    in_collection("count", label="of a deleted collection"),
    step("count", collection_name="a/b", label="of no name"),
]


def step_ids() -> list[str]:
    return [f"{number}-{one.method}-{one.label}".rstrip("-") for number, one in enumerate(STEPS)]
