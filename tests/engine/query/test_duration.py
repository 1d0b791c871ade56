"""Only queries that look at little are called short."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import pytest

from headrace.engine.query import duration
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import UnknownVectorName
from headrace.model.filters import FieldCondition, Filter, MatchValue
from headrace.model.operations import PointSelector, SetPayload
from headrace.model.points import PointStruct
from headrace.model.queries import (
    NO_PAYLOAD,
    WHOLE_PAYLOAD,
    Mmr,
    Nearest,
    OrderBy,
    PayloadSelection,
    Prefetch,
    Query,
    SearchParams,
)
from headrace.model.upserts import build_upsert
from headrace.model.vectors import Distance, FloatMatrix
from headrace.service.service import Service

DIM = 64
POINTS = 600
CONFIG = CollectionConfig(
    vectors={"": VectorParams(DIM, Distance.DOT)},
    optimizers_config={"indexing_threshold": 64},
)
FILTER = Filter(must=(FieldCondition("n", match=MatchValue(1)),))


def vectors(count: int) -> FloatMatrix:
    return np.random.default_rng(3).standard_normal((count, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    opened = Service.open(tmp_path_factory.mktemp("data"))
    opened.create_collection("c", CONFIG)
    points = [
        PointStruct(number, {"": vector}, b'{"n":%d}' % (number % 3))
        for number, vector in enumerate(vectors(POINTS))
    ]
    opened.write("c", [build_upsert(points, CONFIG)])
    for _ in range(600):
        if not opened.is_indexing("c"):
            break
        time.sleep(0.05)
    assert opened.collection_info("c").indexed_vectors_count == POINTS
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def few_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that this small collection is too large to be scanned."""
    monkeypatch.setattr(duration, "_SCANNED_COMPONENTS_MAX", DIM * POINTS // 2)


NEAREST = Nearest(vectors(1)[0])


def test_the_nearest_few_by_a_graph_are_short(service: Service) -> None:
    assert service.is_short("c", Query(NEAREST, limit=10, offset=20))
    assert service.is_short("c", Query(Nearest(7), params=SearchParams(hnsw_ef=200)))


@pytest.mark.parametrize(
    "query",
    [
        Query(NEAREST, params=SearchParams(exact=True)),
        Query(NEAREST, params=SearchParams(hnsw_ef=5_000)),
        Query(NEAREST, limit=5_000),
        Query(NEAREST, limit=10, offset=5_000),
        Query(NEAREST, prefetch=(Prefetch(NEAREST),)),
        Query(Nearest(NEAREST.target, mmr=Mmr())),
        Query(OrderBy("n")),
        Query(None),
    ],
    ids=lambda query: repr(query)[:60],
)
def test_what_may_look_at_much_is_not_called_short(service: Service, query: Query) -> None:
    assert not service.is_short("c", query)


def test_a_filter_is_short_once_its_rows_are_known(service: Service) -> None:
    query = Query(NEAREST, filter=FILTER)
    assert not service.is_short("c", query)
    service.query("c", query)
    assert service.is_short("c", query)


def test_a_search_that_makes_sketches_first_is_not_short(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = Query(NEAREST, filter=FILTER)
    service.query("c", query)
    monkeypatch.setattr(IndexedVectors, "makes_sketches", lambda *_: True)
    assert not service.is_short("c", query)
    assert service.is_short("c", Query(NEAREST))


def test_a_query_that_shows_much_payload_is_not_short(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Query(NEAREST, with_payload=WHOLE_PAYLOAD)
    part = Query(NEAREST, with_payload=PayloadSelection(include=("n",)))
    without = Query(NEAREST, with_payload=NO_PAYLOAD)
    few = Query(NEAREST, limit=1, with_payload=WHOLE_PAYLOAD)
    assert all(service.is_short("c", query) for query in (whole, part, without, few))
    monkeypatch.setattr(duration, "_PAYLOAD_BYTES_MAX", 9 * len(b'{"n":0}'))
    assert [service.is_short("c", query) for query in (whole, part)] == [False, False]
    assert all(service.is_short("c", query) for query in (without, few))


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("points", [1, 3_000])
def test_the_largest_payload_is_known(tmp_path: Path, points: int, is_restarted: bool) -> None:
    service = Service.open(tmp_path)
    config = CollectionConfig()
    service.create_collection("c", config)
    large = b'{"text":"%s"}' % (b"x" * 5_000)
    payloads = [large] + [b"{}"] * (points - 1)
    rows = [PointStruct(n, {}, one) for n, one in enumerate(payloads)]
    service.write("c", [build_upsert(rows, config)])
    if is_restarted:
        service._engine.collection("c").checkpoint()
        service.close()
        service = Service.open(tmp_path)
    assert service.payload_bytes_max("c") == len(large)
    larger = orjson.dumps({"more": "y" * 9_000})
    service.write("c", [SetPayload(PointSelector(ids=(points - 1,)), larger)])
    assert service.payload_bytes_max("c") >= len(larger)
    service.close()


def test_many_rows_without_a_graph_are_not_short(tmp_path: Path) -> None:
    service = Service.open(tmp_path)
    config = CollectionConfig({"": VectorParams(DIM, Distance.DOT)})
    service.create_collection("c", config)
    points = [PointStruct(n, {"": one}, b"{}") for n, one in enumerate(vectors(POINTS))]
    service.write("c", [build_upsert(points[:10], config)])
    assert service.is_short("c", Query(NEAREST))
    service.write("c", [build_upsert(points, config)])
    assert not service.is_short("c", Query(NEAREST))
    service.close()


def test_a_vector_that_is_not_there_is_an_error_here_too(service: Service) -> None:
    with pytest.raises(UnknownVectorName):
        service.is_short("c", Query(NEAREST, using="other"))
