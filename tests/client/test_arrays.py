"""The array face: the same points and answers as the official client, as arrays."""

from __future__ import annotations

import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from qdrant_client import QdrantClient, models

import headrace
from headrace.client.arrays import ArrayCollection, Store
from headrace.client.errors import ArraysDisagree, MissingExtra
from headrace.engine.collection.collection import Collection
from headrace.engine.segment.segment import View
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import (
    BadRequest,
    HeadraceError,
    InvalidVector,
    NotFound,
    Unavailable,
    UnknownVectorName,
    WrongVectorDimension,
)
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.ids import PointId
from headrace.model.vectors import DenseBatch, Distance, MultiBatch, SparseBatch, SparseVector

DOT4 = {"vectors": {"size": 4, "distance": "Dot"}}
RNG_SEED = 7


def vectors(count: int, dim: int = 4) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(RNG_SEED).standard_normal((count, dim)).astype(np.float32)


def csr(rows: list[dict[int, float]]) -> SimpleNamespace:
    """Compressed rows with SciPy's attributes."""
    return SimpleNamespace(
        indptr=np.cumsum([0, *map(len, rows)]),
        indices=np.array([i for row in rows for i in row], dtype=np.int32),
        data=np.array([value for row in rows for value in row.values()]),
    )


@pytest.fixture
def collection(store: Store) -> ArrayCollection:
    return store.create_collection("c", DOT4)


@pytest.fixture
def all_kinds(store: Store) -> ArrayCollection:
    """A collection of dense, multi- and sparse vectors."""
    config = {
        "vectors": {
            "dense": models.VectorParams(size=4, distance=models.Distance.COSINE),
            "multi": {
                "size": 2,
                "distance": "Dot",
                "multivector_config": {"comparator": "max_sim"},
            },
        },
        "sparse_vectors": {"sparse": {}},
    }
    return store.create_collection("kinds", config)


# The same as the official client


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[ArrayCollection, QdrantClient]]:
    """One collection of 500 points through both faces."""
    client = headrace.connect(tmp_path)
    with headrace.open(tmp_path) as store:
        collection = store.create_collection("c", DOT4)
        n = np.arange(500)
        collection.upsert(n, vectors(500), {"n": n, "city": ["Berlin", "Paris"] * 250})
        yield collection, client
    client.close()


FILTERS: list[Any] = [
    None,
    models.Filter(must=[models.FieldCondition(key="city", match=models.MatchValue(value="Paris"))]),
    {"must": [{"key": "n", "range": {"lt": 100}}], "must_not": {"has_id": [3]}},
    {"should": [models.HasIdCondition(has_id=[1, 2])]},
    Filter(must=(FieldCondition("city", match=MatchValue("Berlin")),)),
]


@pytest.mark.parametrize("filter", FILTERS)
def test_searches_find_what_the_client_finds(
    both: tuple[ArrayCollection, QdrantClient], filter: Any
) -> None:
    collection, client = both
    queries = vectors(3) * 2
    found = collection.search(queries, limit=7, filter=filter, with_payload=True, offset=1)
    assert len(found) == 3
    for query, hits in zip(queries, found, strict=True):
        given = filter
        if isinstance(filter, Filter):
            given = models.Filter(
                must=[models.FieldCondition(key="city", match=models.MatchValue(value="Berlin"))]
            )
        elif isinstance(filter, dict):
            given = models.Filter.model_validate(filter)
        expected = client.query_points("c", query, limit=7, offset=1, query_filter=given).points
        assert hits.ids.tolist() == [point.id for point in expected]
        assert hits.scores.tolist() == pytest.approx([point.score for point in expected])
        assert hits.decoded_payloads() == [point.payload for point in expected]
        assert collection.count(filter) == client.count("c", given).count


def test_one_query_has_hits_without_another_dimension(
    both: tuple[ArrayCollection, QdrantClient],
) -> None:
    collection, client = both
    hits = collection.search(vectors(1)[0], limit=3, score_threshold=0.1, exact=True, hnsw_ef=20)
    expected = client.query_points("c", vectors(1)[0], limit=3, score_threshold=0.1).points
    assert hits.ids.tolist() == [point.id for point in expected]
    assert hits.ids.dtype == np.uint64
    assert hits.scores.dtype == np.float32
    assert hits.bounds.tolist() == [0, len(expected)]
    assert hits.payloads is None
    assert hits.decoded_payloads() == []


def test_points_come_back_as_the_client_has_them(
    both: tuple[ArrayCollection, QdrantClient],
) -> None:
    collection, client = both
    points = collection.get([9, 3, 4711, 5, 9])
    records = client.retrieve("c", [9, 3, 4711, 5, 9], with_vectors=True)
    assert points.ids.tolist() == [record.id for record in records] == [9, 3, 5]
    assert np.array_equal(points.dense(), vectors(500)[[9, 3, 5]])
    assert points.decoded_payloads() == [record.payload for record in records]
    assert len(points) == 3


def test_writes_of_both_faces_are_seen_by_both(both: tuple[ArrayCollection, QdrantClient]) -> None:
    collection, client = both
    collection.set_payload({"new": 1, "city": None}, filter=FILTERS[1])
    collection.set_payload({"x": 1}, ids=np.array([0]), key="deep")
    assert client.retrieve("c", [1, 0])[0].payload == {"n": 1, "new": 1}
    assert client.retrieve("c", [0])[0].payload == {"n": 0, "city": "Berlin", "deep": {"x": 1}}
    collection.delete(np.arange(10))
    collection.delete(filter={"must": [{"key": "n", "range": {"gte": 490}}]})
    assert client.count("c").count == 480
    client.delete("c", points_selector=[10])
    assert collection.count() == 479


# Forms of arrays


def test_every_kind_of_vector_goes_in_and_comes_out(all_kinds: ArrayCollection) -> None:
    dense, multi = vectors(3), vectors(6, 2).reshape(3, 2, 2)
    sparse = csr([{9: 1.0, 2: 2.0}, {}, {5: 0.5}])
    all_kinds.upsert([1, 2, 3], {"dense": dense, "multi": multi, "sparse": sparse})
    points = all_kinds.get([3, 1, 2])
    normalised = dense / np.linalg.norm(dense, axis=1, keepdims=True)
    assert np.allclose(points.dense("dense"), normalised[[2, 0, 1]])
    found = points.vectors["multi"]
    assert isinstance(found, MultiBatch)
    assert np.array_equal(found.values.reshape(3, 2, 2), multi[[2, 0, 1]])
    found = points.vectors["sparse"]
    assert isinstance(found, SparseBatch)
    assert found.bounds.tolist() == [0, 1, 3, 3]
    assert found.indices.tolist() == [5, 2, 9]
    assert found.values.tolist() == [0.5, 2.0, 1.0]


def test_every_kind_of_vector_is_searched(all_kinds: ArrayCollection) -> None:
    dense, multi = vectors(3), vectors(6, 2).reshape(3, 2, 2)
    sparse = csr([{9: 1.0}, {2: 1.0}, {5: 0.5}])
    all_kinds.upsert([1, 2, 3], {"dense": dense, "multi": multi, "sparse": sparse})
    assert all_kinds.search(dense, using="dense", limit=1).ids.tolist() == [1, 2, 3]
    assert len(all_kinds.search(multi[0], using="multi", limit=1)) == 1
    assert len(all_kinds.search(multi, using="multi", limit=1)) == 3
    query = SparseVector(np.array([5], dtype=np.uint32), np.array([2.0], dtype=np.float32))
    assert all_kinds.search(query, using="sparse").ids.tolist() == [3]
    assert all_kinds.search([query, query], using="sparse").bounds.tolist() == [0, 1, 2]


def test_points_may_lack_vectors(all_kinds: ArrayCollection) -> None:
    some = DenseBatch(np.array([1]), vectors(1))
    all_kinds.upsert([1, 2, 3], {"dense": some})
    dense = all_kinds.get([2, 1], with_payload=False).dense("dense")
    assert np.isnan(dense).all(axis=1).tolist() == [False, True]
    with pytest.raises(InvalidVector):
        all_kinds.get([1], with_vectors=["multi"]).dense("dense")


def test_what_is_read_can_be_written(all_kinds: ArrayCollection, store: Store) -> None:
    sparse = csr([{9: 1.0}, {2: 1.0}, {5: 0.5}])
    all_kinds.upsert([1, UUID(int=5), 3], {"dense": vectors(3), "sparse": sparse}, [{"a": 1}] * 3)
    points = all_kinds.get([3, UUID(int=5), 1])
    copy = store.create_collection("copy", all_kinds.config)
    copy.upsert(points.ids, points.vectors, points.payloads)
    again = copy.get([1, UUID(int=5), 3])
    assert again.ids.tolist() == [1, UUID(int=5), 3]
    assert again.decoded_payloads() == [{"a": 1}] * 3
    assert np.allclose(again.dense("dense")[::-1], points.dense("dense"))


def test_ids_are_numbers_uuids_and_their_texts(collection: ArrayCollection) -> None:
    given: list[Any] = [0, 2**64 - 1, UUID(int=1), str(UUID(int=2)), np.int32(4)]
    collection.upsert(given, vectors(5))
    assert collection.get(given).ids.tolist() == [0, 2**64 - 1, UUID(int=1), UUID(int=2), 4]
    assert collection.get(pa.array([0, 4], pa.uint64())).ids.tolist() == [0, 4]
    assert collection.get(pa.chunked_array([[str(UUID(int=1))]])).ids.tolist() == [UUID(int=1)]
    assert collection.get([]).ids.tolist() == []


@pytest.mark.parametrize("ids", [[-1], np.array([-1]), [2**64], [True], ["x"], [1.5], [None]])
def test_what_is_no_id_is_refused(collection: ArrayCollection, ids: Any) -> None:
    with pytest.raises(ArraysDisagree, match="point id"):
        collection.upsert(ids, vectors(1))


def test_of_points_with_one_id_the_last_wins(all_kinds: ArrayCollection) -> None:
    ids = [1, 2, 1, 3, 2]
    sparse = csr([{i: 1.0} for i in range(5)])
    some = DenseBatch(np.array([0, 2, 3]), vectors(3))
    all_kinds.upsert(ids, {"sparse": sparse, "dense": some}, [{"i": i} for i in range(5)])
    points = all_kinds.get([1, 2, 3])
    assert [payload["i"] for payload in points.decoded_payloads()] == [2, 4, 3]
    found = points.vectors["sparse"]
    assert isinstance(found, SparseBatch)
    assert found.indices.tolist() == [2, 4, 3]
    assert points.vectors["dense"].positions.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        (None, [{}, {}]),
        ([{"a": 1}, None], [{"a": 1}, {}]),
        ([b'{"a": 1}', {"b": None}], [{"a": 1}, {"b": None}]),
        ({"a": [1, None], "b": np.array([1.5, 2.5])}, [{"a": 1, "b": 1.5}, {"b": 2.5}]),
        ({}, [{}, {}]),
        ({"t": np.array(["2024-01-01", "2024-01-02"], "M8[ns]")},
         [{"t": "2024-01-01T00:00:00Z"}, {"t": "2024-01-02T00:00:00Z"}]),
        ({"t": [datetime(2024, 1, 1), None]}, [{"t": "2024-01-01T00:00:00Z"}, {}]),
        (pa.table({"a": [1, None], "s": ["x", "y"]}), [{"a": 1, "s": "x"}, {"s": "y"}]),
        ({"a": pa.array([[1], [2]])}, [{"a": [1]}, {"a": [2]}]),
        ({"a": (x for x in (1, 2))}, [{"a": 1}, {"a": 2}]),
    ],
)  # fmt: skip
def test_payloads_are_rows_or_columns(
    collection: ArrayCollection, payloads: Any, expected: list[Any]
) -> None:
    collection.upsert([1, 2], vectors(2), payloads)
    assert collection.get([1, 2]).decoded_payloads() == expected


@pytest.mark.parametrize(
    "payloads",
    [
        [{}],
        [1, 2],
        [b"1", b"{}"],
        [b"{", b"{}"],
        {"a": [1]},
        {"a": "xy"},
        {"a": 1},
        [{"a": 2**70}] * 2,
        [{"a": {1}}] * 2,
    ],
)
def test_what_is_no_payload_is_refused(collection: ArrayCollection, payloads: Any) -> None:
    with pytest.raises(ArraysDisagree, match=r"payload|values of"):
        collection.upsert([1, 2], vectors(2), payloads)
    assert collection.count() == 0


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (vectors(2, 5), WrongVectorDimension),
        (vectors(3), ArraysDisagree),
        (vectors(1), ArraysDisagree),
        (vectors(0), ArraysDisagree),
        (pa.array([[1.0] * 4], pa.list_(pa.float32(), 4)), ArraysDisagree),
        (vectors(2)[0], InvalidVector),
        (np.full((2, 4), np.nan), InvalidVector),
        (np.full((2, 4), 1e300), InvalidVector),
        ({"other": vectors(2)}, UnknownVectorName),
        (MultiBatch(np.arange(2), np.arange(3), vectors(2)), InvalidVector),
        (DenseBatch(np.array([1, 0]), vectors(2)), ArraysDisagree),
        (DenseBatch(np.array([0]), vectors(2)), ArraysDisagree),
        (pa.array([[1.0] * 5] * 2), WrongVectorDimension),
        (pa.array(["a", "b"]), InvalidVector),
        (pa.array([[1.0] * 4, [1.0] * 3]), InvalidVector),
    ],
)
def test_vectors_that_do_not_fit_are_refused_before_anything_is_written(
    collection: ArrayCollection, given: Any, error: type[HeadraceError]
) -> None:
    with np.errstate(over="ignore"), pytest.raises(error):
        collection.upsert([1, 2], given)
    assert collection.count() == 0


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("multi", np.empty((2, 0, 2))),
        ("multi", MultiBatch(np.arange(2), np.array([0, 1]), vectors(2, 2))),
        ("multi", MultiBatch(np.arange(2), np.array([0, 0, 2]), vectors(2, 2))),
        ("sparse", vectors(2)),
        ("sparse", csr([{1: 1.0}])),
        ("multi", np.ones((1, 2, 2))),
        ("sparse", csr([{-1: 1.0}, {}])),
        ("sparse", SparseBatch(np.arange(2), np.array([0, 2, 2]), np.array([3, 3], np.uint32),
                               np.ones(2, np.float32))),
        ("sparse", SparseBatch(np.arange(2), np.array([0, 1, 2]), np.array([3], np.uint32),
                               np.ones(2, np.float32))),
    ],
)  # fmt: skip
def test_multi_and_sparse_vectors_that_are_none_are_refused(
    all_kinds: ArrayCollection, name: str, given: Any
) -> None:
    with pytest.raises((InvalidVector, ArraysDisagree)):
        all_kinds.upsert([1, 2], {name: given})


@pytest.mark.parametrize("query", [np.ones((1, 1, 4)), np.full(4, np.inf)])
def test_queries_that_do_not_fit_are_refused(collection: ArrayCollection, query: Any) -> None:
    collection.upsert([1], vectors(1))
    with pytest.raises(InvalidVector):
        collection.search(query)
    with pytest.raises(WrongVectorDimension):
        collection.search(np.ones(3))


@pytest.mark.parametrize("counts", [{"limit": -1}, {"offset": -1}])
def test_a_negative_limit_or_offset_is_refused(
    collection: ArrayCollection, counts: dict[str, int]
) -> None:
    collection.upsert([1, 2], vectors(2))
    with pytest.raises(BadRequest, match="the minimum is 0"):
        collection.search(vectors(1)[0], **counts)  # type: ignore[arg-type]
    assert collection.search(vectors(1)[0], limit=np.int64(1)).ids.tolist()  # type: ignore[arg-type]


def test_a_selection_is_by_ids_or_by_filter(collection: ArrayCollection) -> None:
    with pytest.raises(BadRequest):
        collection.delete()
    with pytest.raises(BadRequest):
        collection.set_payload({"a": 1}, ids=[1], filter={})


# Arrow


def test_a_collection_goes_through_arrow_and_back(all_kinds: ArrayCollection, store: Store) -> None:
    dense = DenseBatch(np.array([0, 2]), vectors(2))
    multi = MultiBatch(np.array([1, 2]), np.array([0, 1, 3]), vectors(3, 2))
    all_kinds.upsert(
        [1, 2, 3],
        {"dense": dense, "multi": multi, "sparse": csr([{9: 1.0, 2: 2.0}, {}, {5: 0.5}])},
        [{"a": 1}, {}, {"a": 2, "b": [1, {"c": None}]}],
    )
    reader = all_kinds.to_arrow()
    assert isinstance(reader, pa.RecordBatchReader)
    table = reader.read_all()
    assert table.column_names == ["id", "dense", "multi", "sparse", "payload"]
    assert table["dense"].is_null().to_pylist() == [False, True, False]
    assert table["multi"].is_null().to_pylist() == [True, False, False]
    copy = store.create_collection("copy", all_kinds.config)
    copy.upsert_arrow(table)
    assert copy.to_arrow().read_all().equals(table)
    assert copy.get([1, 2, 3]).to_arrow().equals(table.to_batches()[0])


def test_a_filter_and_selections_narrow_what_goes_to_arrow(all_kinds: ArrayCollection) -> None:
    all_kinds.upsert(np.arange(9), {"dense": vectors(9)}, {"n": range(9)})
    reader = all_kinds.to_arrow(
        {"must": [{"key": "n", "range": {"gte": 7}}]}, with_payload=False, with_vectors=["dense"]
    )
    assert reader.read_all().column_names == ["id", "dense"]
    ids = all_kinds.to_arrow(with_payload=False, with_vectors=False).read_all()
    assert ids.to_pydict() == {"id": list(range(9))}
    with pytest.raises(UnknownVectorName):
        all_kinds.to_arrow(with_vectors=["none"])


def test_payload_fields_become_typed_columns(collection: ArrayCollection) -> None:
    payloads = [{"n": 1, "city": "Köln", "x": 1}, {"city": None}, {"n": 3}]
    collection.upsert([1, 2, 3], vectors(3), payloads)
    fields = {"n": pa.int64(), "city": pa.string()}
    table = collection.to_arrow(payload_fields=fields, with_vectors=False).read_all()
    assert table["payload"].to_pylist() == [
        {"n": 1, "city": "Köln"},
        {"n": None, "city": None},
        {"n": 3, "city": None},
    ]
    with pytest.raises(ArraysDisagree, match="does not fit"):
        collection.to_arrow(payload_fields={"city": pa.int64()}).read_all()
    empty = collection.to_arrow(payload_fields={}, with_vectors=False).read_all()
    assert empty["payload"].to_pylist() == [{}, {}, {}]


def test_a_table_of_columns_becomes_points_with_payload_fields(collection: ArrayCollection) -> None:
    flat = pa.array(vectors(3).reshape(-1))
    table = pa.table(
        {
            "id": pa.array([1, 2, 3]),
            "vector": pa.FixedSizeListArray.from_arrays(flat, 4),
            "city": ["Berlin", None, "Paris"],
            "n": [1, 2, 3],
        }
    )
    collection.upsert_arrow(table.to_reader())
    points = collection.get([1, 2, 3])
    assert np.array_equal(points.dense(), vectors(3))
    assert points.decoded_payloads()[1] == {"n": 2}
    collection.upsert_arrow(table.slice(1))
    assert np.array_equal(collection.get([2, 3]).dense(), vectors(3)[1:])
    with pytest.raises(ArraysDisagree, match="other payload"):
        collection.upsert_arrow(table.append_column("payload", pa.array(["{}"] * 3)))
    with pytest.raises(ArraysDisagree, match="no column 'id'"):
        collection.upsert_arrow(table.drop_columns(["id"]))


def test_ids_are_text_in_arrow_once_there_are_uuids(collection: ArrayCollection) -> None:
    collection.upsert([1, UUID(int=3)], vectors(2))
    table = collection.to_arrow(with_vectors=False).read_all()
    assert table["id"].to_pylist() == ["1", str(UUID(int=3))]
    hits = collection.search(vectors(1)[0], with_payload=True).to_arrow()
    assert set(hits["id"].to_pylist()) == {"1", str(UUID(int=3))}
    assert hits["payload"].to_pylist() == ["{}", "{}"]


def test_a_vector_named_as_another_column_is_refused(store: Store) -> None:
    config = CollectionConfig(vectors={"payload": VectorParams(4, Distance.DOT)})
    collection = store.create_collection("c", config)
    with pytest.raises(ArraysDisagree, match="cannot be a column"):
        collection.to_arrow()


def test_a_reader_shows_the_collection_as_it_was(collection: ArrayCollection) -> None:
    with patch("headrace.client.arrays._POINTS_PER_PIECE", 10):
        collection.upsert(np.arange(100), vectors(100))
        reader = collection.to_arrow(with_payload=False)
        collection.upsert(np.arange(200), vectors(200) * 0 + 1)
        collection.delete(np.arange(50))
        batches = list(reader)
    assert [len(batch) for batch in batches] == [10] * 10
    read = np.concatenate([batch["vector"].flatten().to_numpy() for batch in batches])
    assert np.array_equal(read.reshape(100, 4), vectors(100))


def test_without_pyarrow_the_error_names_the_extra(collection: ArrayCollection) -> None:
    collection.upsert([1], vectors(1), {"a": [1]})
    with (
        patch.dict(sys.modules, {"pyarrow": None}),
        pytest.raises(MissingExtra, match=r"headrace\[arrow\]"),
    ):
        collection.to_arrow()


def test_arrays_do_not_import_pyarrow() -> None:
    program = (
        "import headrace, sys, numpy as np\n"
        "with headrace.open(':memory:') as store:\n"
        "    c = store.create_collection('c', {'vectors': {'size': 1, 'distance': 'Dot'}})\n"
        "    c.upsert([1], np.ones((1, 1)), {'a': [1]})\n"
        "    c.search(np.ones(1)), c.get([1])\n"
        "print('pyarrow' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "False\n"


# Stores


def test_collections_are_made_listed_and_deleted(store: Store) -> None:
    store.create_collection("b", DOT4)
    store.create_collection("a", CollectionConfig(vectors={"": VectorParams(4, Distance.DOT)}))
    assert store.collection_names() == ["a", "b"]
    collection = store.collection("a")
    assert store.delete_collection("a")
    assert not store.delete_collection("a")
    with pytest.raises(NotFound):
        store.collection("a")
    with pytest.raises(NotFound):
        collection.count()


def test_a_closed_store_is_refused(tmp_path: Path) -> None:
    with headrace.open(tmp_path) as store:
        collection = store.create_collection("c", DOT4)
    with pytest.raises(Unavailable):
        collection.count()
    with pytest.raises(Unavailable):
        store.collection_names()


def test_arrays_are_written_and_read_while_threads_write(collection: ArrayCollection) -> None:
    stop = threading.Event()
    failed: list[BaseException] = []

    def write() -> None:
        try:
            while not stop.is_set():
                collection.upsert(np.arange(50), vectors(50), {"n": range(50)})
        except BaseException as error:
            failed.append(error)

    collection.upsert(np.arange(50), vectors(50), {"n": range(50)})
    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(100):
        points = collection.get(np.arange(60)[::-1])
        assert points.ids.tolist() == list(range(49, -1, -1))
        assert np.array_equal(points.dense(), vectors(50)[::-1])
    stop.set()
    for writer in writers:
        writer.join()
    assert not failed


def test_points_that_change_while_they_are_looked_up_are_read_in_their_new_state(
    store: Store, collection: ArrayCollection
) -> None:
    collection.upsert([1, 2], vectors(2), {"n": [1, 2]})
    locate = Collection.locate

    def locate_and_change(self: Collection, point_id: PointId) -> tuple[View, int]:
        found = locate(self, point_id)
        with patch.object(Collection, "locate", locate):
            collection.upsert([2], vectors(3)[2:], {"n": [22]})
        return found

    with patch.object(Collection, "locate", locate_and_change):
        points = collection.get([1, 4711, 2])
    assert points.ids.tolist() == [1, 2]
    assert points.decoded_payloads() == [{"n": 1}, {"n": 22}]
    assert np.array_equal(points.dense(), vectors(3)[[0, 2]])


# Size


def test_a_large_upsert_is_several_writes_and_makes_no_object_per_point(store: Store) -> None:
    count, dim = 100_000, 32
    collection = store.create_collection("c", {"vectors": {"size": dim, "distance": "Dot"}})
    given, ids = vectors(count, dim), np.arange(count)
    writes: list[Any] = []
    with patch.object(ArrayCollection, "_write", lambda self, operation: writes.append(operation)):
        tracemalloc.start()
        try:
            collection.upsert(ids, given)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert sum(len(operation.ids) for operation in writes) == count
    assert 1 < len(writes) < 10
    # An id takes 40 bytes, and 72 more while the ids are compared; a `PointStruct` with its
    # dictionary and array takes 390. The vectors are not copied at all.
    assert peak_bytes < 200 * count
    assert all(np.shares_memory(operation.vectors[""].values, given) for operation in writes)


def test_100_000_vectors_come_out_as_they_went_in(store: Store) -> None:
    count, dim = 100_000, 32
    collection = store.create_collection("c", {"vectors": {"size": dim, "distance": "Dot"}})
    given, ids = vectors(count, dim), np.arange(count)
    collection.upsert(ids, given)
    assert collection.count() == count
    assert np.array_equal(collection.get(ids[::-1000]).dense(), given[::-1000])
    table = collection.to_arrow(with_payload=False).read_all()
    read = table["vector"].combine_chunks().flatten().to_numpy()
    assert np.array_equal(read.reshape(count, dim), given)
