"""Both fronts of one server say the same of the same store: answers, and why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

import grpc
import httpx
import numpy as np
import pytest
from pydantic import BaseModel
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as qdrant
from qdrant_client.conversions.conversion import GrpcToRest

from headrace.model.vectors import SparseVector, Vector
from headrace.server.options import ServeOptions
from headrace.server.run import serve_in_thread
from headrace.service.inference import register_model

POINTS = [
    models.PointStruct(
        id=number,
        vector={
            "dense": [float(number % 4), 1.0, -1.0 * number, 0.5],
            "words": models.SparseVector(indices=[number, 70], values=[1.0, 2.0]),
        },
        payload={"kind": "ab"[number % 2], "number": number},
    )
    for number in range(1, 13)
]


@dataclass(frozen=True)
class Fronts:
    """One server by both of its fronts; the clients differ in the protocol alone."""

    http: httpx.Client
    channel: grpc.Channel
    rest: QdrantClient
    grpc: QdrantClient

    def points(self, method: str, request: Any) -> Any:
        return self.call("Points", method, request)

    def call(self, service: str, method: str, request: Any) -> Any:
        stub = getattr(qdrant, f"{service}Stub")(self.channel)
        return getattr(stub, method)(request)


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fronts]:
    options = ServeOptions(tmp_path_factory.mktemp("both"), http_port=0, grpc_port=0)
    with serve_in_thread(options) as serving:
        assert serving.grpc_address is not None
        port = int(serving.grpc_address.rpartition(":")[2])
        rest = QdrantClient(url=serving.rest_url)
        preferring = QdrantClient(url=serving.rest_url, grpc_port=port, prefer_grpc=True)
        with (
            httpx.Client(base_url=serving.rest_url) as http,
            grpc.insecure_channel(serving.grpc_address) as channel,
        ):
            yield Fronts(http, channel, rest, preferring)
        rest.close()
        preferring.close()


@pytest.fixture(scope="session")
def filled(fronts: Fronts) -> str:
    """A collection that tests only read."""
    return filled_collection(fronts)


@pytest.fixture
def fresh(fronts: Fronts) -> Iterator[str]:
    """A collection that a test may change."""
    name = filled_collection(fronts)
    yield name
    fronts.rest.delete_collection(name)


def filled_collection(fronts: Fronts) -> str:
    name = f"c-{uuid4().hex}"
    fronts.grpc.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=4, distance=models.Distance.COSINE)},
        sparse_vectors_config={"words": models.SparseVectorParams()},
    )
    fronts.grpc.create_payload_index(name, "kind", models.PayloadSchemaType.KEYWORD, wait=True)
    fronts.grpc.upsert(name, POINTS, wait=True)
    return name


READS: dict[str, Callable[[QdrantClient, str], Any]] = {
    "collection": lambda client, name: client.get_collection(name),
    "exists": lambda client, name: client.collection_exists(name),
    "aliases": lambda client, name: client.get_collection_aliases(name),
    "cluster": lambda client, name: client.collection_cluster_info(name).model_dump(
        exclude={"resharding_operations"}
    ),
    "shard keys": lambda client, name: client.list_shard_keys(name).shard_keys or [],
    "retrieve": lambda client, name: client.retrieve(name, [3, 1], with_vectors=True),
    "count": lambda client, name: client.count(name),
    "scroll": lambda client, name: client.scroll(name, limit=5, with_vectors=["words"]),
    "nearest": lambda client, name: client.query_points(name, [1.0, 0, 0, 0], using="dense"),
    "batch": lambda client, name: client.query_batch_points(
        name, [models.QueryRequest(query=3, using="dense", params=models.SearchParams(exact=True))]
    ),
    "groups": lambda client, name: client.query_points_groups(
        name, "kind", query=2, using="dense", limit=2, group_size=2
    ),
    "facet": lambda client, name: client.facet(name, "kind"),
    "oversampling": lambda client, name: client.query_points(
        name,
        [1.0, 0, 0, 0],
        using="dense",
        search_params=models.SearchParams(
            quantization=models.QuantizationSearchParams(oversampling=2.0)
        ),
    ),
    "snapshots": lambda client, name: client.list_snapshots(name),
    "version": lambda client, name: client.info(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_read_has_the_same_answer(
    fronts: Fronts, filled: str, read: Callable[[QdrantClient, str], Any]
) -> None:
    assert in_float32(read(fronts.grpc, filled)) == in_float32(read(fronts.rest, filled))


EXAMPLES = {"positive": [1, 2], "negative": [5], "using": "dense", "limit": 4}


def ids(*numbers: int) -> list[qdrant.PointId]:
    return [qdrant.PointId(num=number) for number in numbers]


def example(number: int) -> qdrant.VectorExample:
    return qdrant.VectorExample(id=qdrant.PointId(num=number))


ONE = qdrant.Vector(data=[1.0, 0.0, 0.0, 0.0])
PAIR = qdrant.ContextExamplePair(positive=example(1), negative=example(9))
PAIR_JSON = {"positive": 1, "negative": 9}

OLDER: list[tuple[str, dict[str, Any], str, Any]] = [
    (
        "search",
        {"vector": {"name": "dense", "vector": [1.0, 0, 0, 0]}, "limit": 3, "offset": 1},
        "Search",
        qdrant.SearchPoints(vector=[1.0, 0, 0, 0], vector_name="dense", limit=3, offset=1),
    ),
    (
        "search",
        {"vector": {"name": "words", "vector": {"indices": [70], "values": [1.0]}}, "limit": 3},
        "Search",
        qdrant.SearchPoints(
            vector=[1.0],
            sparse_indices=qdrant.SparseIndices(data=[70]),
            vector_name="words",
            limit=3,
        ),
    ),
    (
        "recommend",
        EXAMPLES,
        "Recommend",
        qdrant.RecommendPoints(positive=ids(1, 2), negative=ids(5), using="dense", limit=4),
    ),
    (
        "recommend",
        {
            "positive": [1, [1.0, 0.0, 0.0, 0.0]],
            "strategy": "best_score",
            "using": "dense",
            "limit": 9,
            "offset": 2,
            "score_threshold": 0.1,
            "with_payload": True,
            "filter": {"must": [{"key": "kind", "match": {"value": "a"}}]},
        },
        "Recommend",
        qdrant.RecommendPoints(
            positive=ids(1),
            positive_vectors=[ONE],
            strategy=qdrant.RecommendStrategy.BestScore,
            using="dense",
            limit=9,
            offset=2,
            score_threshold=0.1,
            with_payload=qdrant.WithPayloadSelector(enable=True),
            filter=qdrant.Filter(
                must=[
                    qdrant.Condition(
                        field=qdrant.FieldCondition(key="kind", match=qdrant.Match(keyword="a"))
                    )
                ]
            ),
        ),
    ),
    (
        "recommend",
        {"negative": [1], "strategy": "sum_scores", "using": "dense", "limit": 2},
        "Recommend",
        qdrant.RecommendPoints(
            negative=ids(1),
            strategy=qdrant.RecommendStrategy.SumScores,
            using="dense",
            limit=2,
        ),
    ),
    (
        "discover",
        {"target": 3, "context": [PAIR_JSON], "using": "dense", "limit": 5},
        "Discover",
        qdrant.DiscoverPoints(
            target=qdrant.TargetVector(single=example(3)), context=[PAIR], using="dense", limit=5
        ),
    ),
    (
        "discover",
        {"target": [1.0, 0.0, 0.0, 0.0], "using": "dense", "limit": 5},
        "Discover",
        qdrant.DiscoverPoints(
            target=qdrant.TargetVector(single=qdrant.VectorExample(vector=ONE)),
            using="dense",
            limit=5,
        ),
    ),
    (
        "discover",
        {"context": [PAIR_JSON], "using": "dense", "limit": 5},
        "Discover",
        qdrant.DiscoverPoints(context=[PAIR], using="dense", limit=5),
    ),
]


@pytest.mark.parametrize(("route", "body", "method", "request_"), OLDER)
def test_an_older_search_has_the_same_answer(
    fronts: Fronts, filled: str, route: str, body: dict[str, Any], method: str, request_: Any
) -> None:
    request_.collection_name = filled
    found = result_of(fronts, filled, route, body)
    assert found
    assert as_json(fronts.points(method, request_).result) == found


@pytest.mark.parametrize("route", ["search", "recommend", "discover"])
def test_an_older_batch_has_the_same_answer(fronts: Fronts, filled: str, route: str) -> None:
    entries = [(body, request) for one, body, _, request in OLDER if one == route]
    for _, request in entries:
        request.collection_name = filled
    batch: Any = getattr(qdrant, f"{route.title()}BatchPoints")(
        collection_name=filled, **{f"{route}_points": [request for _, request in entries]}
    )
    answers = fronts.points(f"{route.title()}Batch", batch).result
    searches = {"searches": [body for body, _ in entries]}
    assert [as_json(answer.result) for answer in answers] == result_of(
        fronts, filled, f"{route}/batch", searches
    )


def test_recommendations_are_grouped_alike(fronts: Fronts, filled: str) -> None:
    sizes: dict[str, Any] = {"group_by": "kind", "group_size": 2, "limit": 2}
    request = qdrant.RecommendPointGroups(
        collection_name=filled, positive=ids(1, 2), negative=ids(5), using="dense", **sizes
    )
    groups = fronts.points("RecommendGroups", request).result.groups
    found = result_of(fronts, filled, "recommend/groups", {**EXAMPLES, **sizes})["groups"]
    assert [group.id.string_value for group in groups] == [group["id"] for group in found]
    assert [as_json(group.hits) for group in groups] == [group["hits"] for group in found]


def result_of(fronts: Fronts, name: str, route: str, body: Any) -> Any:
    response = fronts.http.post(f"/collections/{name}/points/{route}", json=body)
    assert response.status_code == 200, response.text
    return in_float32(response.json()["result"])


def as_json(points: Any) -> list[dict[str, Any]]:
    """Points as REST shows them; gRPC has no way to say that there is no payload."""
    converted = map(GrpcToRest.convert_scored_point, points)
    shown = [point.model_dump(exclude_none=True) for point in converted]
    return [
        {name: in_float32(value) for name, value in one.items() if value != {}} for one in shown
    ]


def in_float32(value: Any) -> Any:
    """An answer with its numbers as wide as both protocols carry them."""
    match value:
        case BaseModel():
            return in_float32(value.model_dump())
        case dict():
            return {name: in_float32(one) for name, one in value.items()}
        case list() | tuple():
            return [in_float32(one) for one in value]
        case float():
            return float(np.float32(value))
        case _:
            return value


CHANGES: dict[str, dict[str, Any]] = {
    "hints": {
        "optimizers_config": models.OptimizersConfigDiff(
            indexing_threshold=5, flush_interval_sec=9
        ),
        "hnsw_config": models.HnswConfigDiff(m=8),
    },
    "vectors": {
        "vectors_config": {
            "dense": models.VectorParamsDiff(
                hnsw_config=models.HnswConfigDiff(m=4),
                on_disk=True,
                quantization_config=models.Disabled.DISABLED,
            )
        },
        "sparse_vectors_config": {
            "words": models.SparseVectorParams(index=models.SparseIndexParams(on_disk=True))
        },
    },
    "params": {"collection_params": models.CollectionParamsDiff(on_disk_payload=False)},
    "strict mode": {"strict_mode_config": models.StrictModeConfig(enabled=True, max_query_limit=4)},
    "metadata": {"metadata": {"a": 1, "b": [2.5, None]}},
    "quantization off": {"quantization_config": models.Disabled.DISABLED},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_collection_is_changed_alike(fronts: Fronts, change: dict[str, Any]) -> None:
    names = [filled_collection(fronts), filled_collection(fronts)]
    before = fronts.rest.get_collection(names[0])
    for name, client in zip(names, (fronts.grpc, fronts.rest), strict=True):
        assert client.update_collection(name, **change)
    by_grpc, by_rest = (fronts.rest.get_collection(name) for name in names)
    assert by_grpc == by_rest
    assert (by_grpc == before) is ("quantization_config" in change)
    for name in names:
        fronts.rest.delete_collection(name)


BM25 = "qdrant/bm25"


def test_texts_become_the_same_vectors(fronts: Fronts, fresh: str) -> None:
    for number, text in ((50, "the dog runs"), (51, "a cat sleeps all day")):
        vector = qdrant.Vector(
            document=qdrant.Document(
                text=text,
                model=BM25,
                options={"language": qdrant.Value(string_value="english")},
            )
        )
        point = qdrant.PointStruct(
            id=qdrant.PointId(num=number),
            vectors=qdrant.Vectors(vectors=qdrant.NamedVectors(vectors={"words": vector})),
        )
        request = qdrant.UpsertPoints(collection_name=fresh, points=[point], wait=True)
        fronts.points("Upsert", request)
        body = {
            "id": number + 10,
            "vector": {"words": {"text": text, "model": BM25, "options": {"language": "english"}}},
        }
        sent = fronts.http.put(
            f"/collections/{fresh}/points", params={"wait": "true"}, json={"points": [body]}
        )
        assert sent.status_code == 200, sent.text
    stored = fronts.rest.retrieve(fresh, [50, 60, 51, 61], with_vectors=True)
    assert stored[0].vector == stored[1].vector
    assert stored[2].vector == stored[3].vector
    nearest = qdrant.VectorInput(document=qdrant.Document(text="running dogs", model=BM25))
    found = fronts.points(
        "Query",
        qdrant.QueryPoints(
            collection_name=fresh, query=qdrant.Query(nearest=nearest), using="words", limit=2
        ),
    )
    assert {point.id.num for point in found.result} == {50, 60}
    body = {"query": {"text": "running dogs", "model": BM25}, "using": "words", "limit": 2}
    assert as_json(found.result) == result_of(fronts, fresh, "query", body)["points"]


def test_the_texts_of_a_call_are_embedded_together(fronts: Fronts, fresh: str) -> None:
    calls = []

    def embed(text: str, options: Mapping[str, Any], as_query: bool) -> Vector:
        raise AssertionError("one by one")

    def embed_batch(
        texts: Sequence[str], options: Mapping[str, Any], as_query: bool
    ) -> list[Vector]:
        calls.append((list(texts), as_query))
        one = np.ones(1, dtype=np.uint32)
        return [SparseVector(one, one.astype(np.float32) * len(text)) for text in texts]

    register_model("test/batch-of-calls", embed, embed_batch)
    vectors = {
        number: qdrant.Vectors(
            vectors=qdrant.NamedVectors(
                vectors={
                    "words": qdrant.Vector(
                        document=qdrant.Document(text=text, model="test/batch-of-calls")
                    )
                }
            )
        )
        for number, text in ((70, "ab"), (71, "abc"))
    }
    ids = {number: qdrant.PointId(num=number) for number in vectors}
    fronts.points(
        "Upsert",
        qdrant.UpsertPoints(
            collection_name=fresh,
            points=[qdrant.PointStruct(id=ids[n], vectors=one) for n, one in vectors.items()],
        ),
    )
    fronts.points(
        "UpdateVectors",
        qdrant.UpdatePointVectors(
            collection_name=fresh,
            points=[qdrant.PointVectors(id=ids[n], vectors=one) for n, one in vectors.items()],
        ),
    )
    assert calls == [(["ab", "abc"], False)] * 2
    stored = fronts.rest.retrieve(fresh, [70, 71], with_vectors=True)
    assert [one.vector["words"].values for one in stored] == [[2.0], [3.0]]  # type: ignore[index, union-attr, call-overload]


def test_a_lone_vector_is_changed_without_a_name(fronts: Fronts) -> None:
    name = f"c-{uuid4().hex}"
    params = models.VectorParams(size=4, distance=models.Distance.DOT)
    fronts.grpc.create_collection(name, vectors_config=params)
    diff = qdrant.VectorParamsDiff(hnsw_config=qdrant.HnswConfigDiff(m=5))
    assert fronts.grpc.update_collection(name, vectors_config=qdrant.VectorsConfigDiff(params=diff))
    vectors = fronts.rest.get_collection(name).config.params.vectors
    assert isinstance(vectors, models.VectorParams)
    assert vectors.hnsw_config is not None
    assert vectors.hnsw_config.m == 5
    fronts.grpc.delete_collection(name)


def test_limits_of_strict_mode_hold_on_both_fronts(fronts: Fronts, fresh: str) -> None:
    limits = models.StrictModeConfig(enabled=True, max_query_limit=4, max_timeout=5)
    fronts.grpc.update_collection(fresh, strict_mode_config=limits)
    request = qdrant.ScrollPoints(collection_name=fresh, limit=5)
    assert error_of(fronts, "Scroll", request) == rest_error(fronts, fresh, "scroll", {"limit": 5})
    slow = qdrant.CountPoints(collection_name=fresh, timeout=6)
    assert error_of(fronts, "Count", slow) == rest_error(fronts, fresh, "count?timeout=6", {})
    search = qdrant.SearchPoints(
        collection_name=fresh, vector=[1, 2, 3, 4], vector_name="dense", limit=5
    )
    assert "Limit exceeded 5 > 4" in error_of(fronts, "Search", search)


def test_aliases_are_made_renamed_listed_and_removed(fronts: Fronts, fresh: str) -> None:
    first, second = f"a-{uuid4().hex}", f"a-{uuid4().hex}"
    make = models.CreateAlias(collection_name=fresh, alias_name=first)
    assert fronts.grpc.update_collection_aliases([models.CreateAliasOperation(create_alias=make)])
    assert fronts.grpc.get_collection_aliases(fresh) == fronts.rest.get_collection_aliases(fresh)
    assert fronts.grpc.count(first) == fronts.grpc.count(fresh)
    rename = models.RenameAlias(old_alias_name=first, new_alias_name=second)
    fronts.grpc.update_collection_aliases([models.RenameAliasOperation(rename_alias=rename)])
    assert fronts.grpc.get_aliases() == fronts.rest.get_aliases()
    (alias,) = fronts.grpc.get_collection_aliases(fresh).aliases
    assert alias == models.AliasDescription(alias_name=second, collection_name=fresh)
    remove = models.DeleteAlias(alias_name=second)
    fronts.grpc.update_collection_aliases([models.DeleteAliasOperation(delete_alias=remove)])
    assert not fronts.grpc.get_collection_aliases(fresh).aliases


ALIAS_ERRORS: list[Any] = [
    {"create_alias": {"collection_name": "none", "alias_name": "x"}},
    {"create_alias": {"collection_name": "none", "alias_name": "a/b"}},
    {"create_alias": {"collection_name": "none", "alias_name": ""}},
    {"rename_alias": {"old_alias_name": "none", "new_alias_name": "x"}},
    {},
]


@pytest.mark.parametrize("action", ALIAS_ERRORS)
def test_a_change_of_aliases_is_refused_alike(fronts: Fronts, action: Any) -> None:
    kinds: dict[str, Any] = {
        "create_alias": qdrant.CreateAlias,
        "rename_alias": qdrant.RenameAlias,
    }
    message = qdrant.AliasOperations(**{kind: kinds[kind](**action[kind]) for kind in action})
    response = fronts.http.post("/collections/aliases", json={"actions": [action]})
    with pytest.raises(grpc.RpcError) as raised:
        fronts.call("Collections", "UpdateAliases", qdrant.ChangeAliases(actions=[message]))
    text = response.json()["status"]["error"]
    text = text.removeprefix("Format error in JSON body: ").replace(" in JSON body", " in body")
    assert cast(Any, raised.value).details() == text


REFUSED: list[tuple[str, str, Any, str, Any]] = [
    (
        "POST",
        "points/recommend",
        {"limit": 1, "using": "dense"},
        "Recommend",
        qdrant.RecommendPoints(limit=1, using="dense"),
    ),
    (
        "POST",
        "points/recommend",
        {"positive": [99], "limit": 1, "using": "dense"},
        "Recommend",
        qdrant.RecommendPoints(positive=ids(99), limit=1, using="dense"),
    ),
    (
        "POST",
        "points/recommend",
        {"positive": [1], "limit": 1, "using": "other"},
        "Recommend",
        qdrant.RecommendPoints(positive=ids(1), limit=1, using="other"),
    ),
    (
        "POST",
        "points/discover",
        {"limit": 1, "using": "dense"},
        "Discover",
        qdrant.DiscoverPoints(limit=1, using="dense"),
    ),
    (
        "POST",
        "points/query",
        {"score_threshold": 1},
        "Query",
        qdrant.QueryPoints(score_threshold=1),
    ),
    (
        "POST",
        "points/query/groups",
        {"score_threshold": 1, "group_by": "kind"},
        "QueryGroups",
        qdrant.QueryPointGroups(score_threshold=1, group_by="kind"),
    ),
    (
        "PUT",
        "vectors/dense",
        {"dense": {"size": 5, "distance": "Dot"}},
        "CreateVectorName",
        qdrant.CreateVectorNameRequest(
            vector_name="dense",
            dense_config=qdrant.DenseVectorCreationConfig(size=5, distance=qdrant.Distance.Dot),
        ),
    ),
]


@pytest.mark.parametrize(("verb", "path", "body", "method", "request_"), REFUSED)
def test_what_is_refused_is_refused_in_the_same_words(
    fronts: Fronts, filled: str, verb: str, path: str, body: Any, method: str, request_: Any
) -> None:
    request_.collection_name = filled
    options = {} if body is None else {"json": body}
    response = fronts.http.request(verb, f"/collections/{filled}/{path}", **options)
    assert response.status_code >= 400, response.text
    assert error_of(fronts, method, request_) == response.json()["status"]["error"]


def test_a_vector_name_that_is_there_may_be_made_again(fronts: Fronts, fresh: str) -> None:
    config = models.DenseVectorNameConfig(
        dense=models.DenseVectorConfig(size=4, distance=models.Distance.COSINE)
    )
    for client in (fronts.grpc, fronts.rest):
        made = client.create_vector_name(fresh, "dense", config)
        assert made.status == models.UpdateStatus.COMPLETED
        gone = client.delete_vector_name(fresh, "none")
        assert gone.status == models.UpdateStatus.COMPLETED


@pytest.mark.parametrize("by_grpc", [True, False])
def test_vector_names_are_added_and_removed(fronts: Fronts, fresh: str, by_grpc: bool) -> None:
    client, other = (fronts.grpc, fronts.rest) if by_grpc else (fronts.rest, fronts.grpc)
    dense = models.DenseVectorNameConfig(
        dense=models.DenseVectorConfig(
            size=2,
            distance=models.Distance.EUCLID,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
        )
    )
    sparse = models.SparseVectorNameConfig(
        sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF)
    )
    client.create_vector_name(fresh, "many", dense)
    client.create_vector_name(fresh, "bag", sparse)
    params = other.get_collection(fresh).config.params
    assert isinstance(params.vectors, dict)
    assert params.vectors["many"].multivector_config is not None
    assert (params.sparse_vectors or {})["bag"].modifier == models.Modifier.IDF
    bag = models.SparseVector(indices=[3], values=[1.0])
    client.upsert(
        fresh, [models.PointStruct(id=900, vector={"many": [[1.0, 2.0]], "bag": bag}, payload={})]
    )
    assert other.retrieve(fresh, [900], with_vectors=True)[0].vector == {
        "many": [[1.0, 2.0]],
        "bag": bag,
    }
    client.delete_vector_name(fresh, "many")
    assert other.retrieve(fresh, [900], with_vectors=True)[0].vector == {"bag": bag}
    assert "many" not in (other.get_collection(fresh).config.params.vectors or {})


QUANTIZATIONS: dict[str, Any] = {
    "scalar": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(
            type=models.ScalarType.INT8, quantile=0.5, always_ram=True
        )
    ),
    "product": models.ProductQuantization(
        product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X32)
    ),
    "binary": models.BinaryQuantization(
        binary=models.BinaryQuantizationConfig(
            encoding=models.BinaryQuantizationEncoding.TWO_BITS,
            query_encoding=models.BinaryQuantizationQueryEncoding.SCALAR4BITS,
        )
    ),
}


@pytest.mark.parametrize("quantization", QUANTIZATIONS.values(), ids=QUANTIZATIONS)
def test_quantization_is_the_same_over_both(fronts: Fronts, quantization: Any) -> None:
    for client, other in ((fronts.grpc, fronts.rest), (fronts.rest, fronts.grpc)):
        name = f"quantised-{uuid4().hex}"
        vectors = models.VectorParams(
            size=4, distance=models.Distance.DOT, quantization_config=quantization
        )
        client.create_collection(name, vectors, quantization_config=quantization)
        shown = other.get_collection(name).config
        assert shown.quantization_config == quantization
        assert shown.params.vectors.quantization_config == quantization  # type: ignore[union-attr]
        client.update_collection(
            name,
            quantization_config=models.Disabled.DISABLED,
            vectors_config={
                "": models.VectorParamsDiff(quantization_config=models.Disabled.DISABLED)
            },
        )
        shown = other.get_collection(name).config
        assert shown.quantization_config is None
        assert shown.params.vectors.quantization_config is None  # type: ignore[union-attr]


CLUSTER: dict[str, Callable[[QdrantClient, str], Any]] = {
    "create shard key": lambda client, name: client.create_shard_key(name, "k"),
    "delete shard key": lambda client, name: client.delete_shard_key(name, "k"),
    "move shard": lambda client, name: client.cluster_collection_update(
        name,
        models.MoveShardOperation(
            move_shard=models.MoveShard(shard_id=0, to_peer_id=1, from_peer_id=0)
        ),
    ),
}


@pytest.mark.parametrize("change", CLUSTER.values(), ids=CLUSTER)
def test_changes_of_a_cluster_are_refused_by_a_single_node(
    fronts: Fronts, filled: str, change: Callable[[QdrantClient, str], Any]
) -> None:
    for client in (fronts.grpc, fronts.rest):
        with pytest.raises(Exception, match="Distributed mode disabled"):
            change(client, filled)
        with pytest.raises(Exception, match="Not found: Collection `none` doesn"):
            change(client, "none")


def test_snapshots_of_one_front_are_seen_by_the_other(fronts: Fronts, fresh: str) -> None:
    made = fronts.grpc.create_snapshot(fresh, wait=True)
    assert made is not None
    (listed,) = fronts.rest.list_snapshots(fresh)
    assert (listed.name, listed.checksum) == (made.name, made.checksum)
    assert fronts.grpc.delete_snapshot(fresh, made.name, wait=True)
    assert fronts.rest.list_snapshots(fresh) == []


def test_calls_are_counted_in_the_metrics(fronts: Fronts, filled: str) -> None:
    fronts.grpc.count(filled)
    with pytest.raises(grpc.RpcError):
        fronts.grpc.count("none")
    metrics = fronts.http.get("/metrics").text
    assert 'grpc_responses_total{endpoint="/qdrant.Points/Count",status="0"}' in metrics
    assert 'grpc_responses_total{endpoint="/qdrant.Points/Count",status="5"}' in metrics


def error_of(fronts: Fronts, method: str, request: Any) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        fronts.points(method, request)
    return str(cast(Any, raised.value).details())


def rest_error(fronts: Fronts, name: str, route: str, body: Any) -> str:
    response = fronts.http.post(f"/collections/{name}/points/{route}", json=body)
    return str(response.json()["status"]["error"])
