"""Records that go into the store as columns arrive as those that go one by one do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.model.collection_config import CollectionConfig, MultiVectorConfig, VectorParams
from headrace.model.vectors import Distance
from headrace.service.service import Service
from headrace.sink.batch import decode_batch
from headrace.sink.decode import RecordDecoder
from headrace.sink.entries import UpsertColumns
from tests.sink.contract.sink import Sink, make_collection, value_of
from tests.sink.records import kafka_records


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service.open(tmp_path / "data")
    yield service
    service.close()


def values(*ids: int, dim: int = 2) -> list[bytes]:
    return [value_of(id=i, vector=[i] * dim, payload={"n": i}) for i in ids]


def test_these_records_are_columns(service: Service) -> None:
    batch = decode_batch(kafka_records(*values(1, 2)), RecordDecoder.of(Sink(service).config))
    assert isinstance(batch.entries["c"], UpsertColumns)


def test_they_are_stored_with_vector_payload_and_offset(service: Service) -> None:
    make_collection(service)
    sink = Sink(service)
    sink.take(*values(1, 2, 3))
    point = sink.point(2)
    assert point is not None
    assert np.asarray((point.vectors or {})[""]).tolist() == [2, 2]
    assert sink.payload(3) == {"n": 3}
    assert [*service.source_offsets("c").values()] == [3]
    assert sink.counters.points_written == 3


def test_a_batch_that_comes_again_is_written_once(service: Service) -> None:
    make_collection(service)
    sink = Sink(service)
    sink.take(*values(1, 2))
    before = sink.point(1)
    sink.take_records(kafka_records(*values(1, 2)))
    after = sink.point(1)
    assert before is not None
    assert after is not None
    assert after.version == before.version
    assert sink.counters.records_repeated == 2


def test_a_batch_that_comes_again_with_more_writes_what_is_new(service: Service) -> None:
    make_collection(service)
    sink = Sink(service)
    sink.take(*values(1, 2))
    sink.take_records(kafka_records(*values(1, 2, 3)))
    assert service.points_count("c") == 3
    assert sink.counters.records_repeated == 2


def test_vectors_of_another_width_are_each_refused(service: Service) -> None:
    make_collection(service, dim=3)
    sink = Sink(service)
    sink.take(*values(1, 2))
    assert len(sink.reasons) == 2
    assert all("expected dim: 3, got 2" in reason for reason in sink.reasons)
    assert service.points_count("c") == 0


def test_a_collection_without_that_vector_refuses_each(service: Service) -> None:
    named = {"text": VectorParams(size=2, distance=Distance.DOT)}
    service.create_collection("c", CollectionConfig(vectors=named))
    sink = Sink(service)
    sink.take(*values(1, 2))
    assert len(sink.reasons) == 2
    assert service.points_count("c") == 0


def test_a_collection_of_multi_vectors_takes_them_as_one_row_each(service: Service) -> None:
    multi = {
        "": VectorParams(size=2, distance=Distance.DOT, multivector_config=MultiVectorConfig())
    }
    service.create_collection("c", CollectionConfig(vectors=multi))
    sink = Sink(service)
    sink.take(*values(1, 2))
    assert not sink.reasons
    assert service.points_count("c") == 2


def test_the_collection_is_made_of_the_first(service: Service) -> None:
    sink = Sink(service)
    sink.take(*values(1, 2, dim=5))
    made = service.collection_config("c").vectors[""]
    assert made.size == 5
    assert service.points_count("c") == 2


def test_a_lost_partition_is_not_written(service: Service) -> None:
    make_collection(service)
    sink = Sink(service)
    records = kafka_records(*values(1, 2))
    batch = decode_batch(records, RecordDecoder.of(sink.config))
    batch.lose({records[0].partition})
    sink.write(batch)
    assert service.points_count("c") == 0
