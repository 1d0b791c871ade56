"""Texts of records become vectors, by batch; what is wrong with one costs that one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.model.collection_config import CollectionConfig, Modifier, VectorParams
from headrace.model.errors import Unavailable
from headrace.model.vectors import Distance, SparseVector
from headrace.service.embedding_models import guarded, guarded_batch, register_from_setting
from headrace.service.inference import embed_bm25, register_model
from headrace.service.service import Service
from headrace.sink.auto_create import infer_collection_config
from headrace.sink.batch import Batch, KafkaRecord, decode_batch
from headrace.sink.changes import Merge, Upsert
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.embedding import Embedder
from headrace.sink.errors import ConfigError, Reason, TaskFailed
from headrace.sink.progress import TaskCounters
from headrace.sink.target import EmbeddedTarget
from headrace.sink.worker.validate import static_errors
from headrace.sink.writer import BatchWriter
from tests.sink.records import kafka_records

MINIMAL = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
PLAIN_TEXTS = {
    "vector.from.text": "text",
    "id.from": "key",
    "value.converter": "string",
    "qdrant.collection.name": "c",
}


class Model:
    """Length and spaces of texts, as the operator's function; says what it was called with."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.failures: list[Exception] = []

    def __call__(self, text: str, options: Mapping[str, Any], as_query: bool) -> Any:
        return self.batch([text], options, as_query)[0]

    def batch(self, texts: Sequence[str], options: Mapping[str, Any], as_query: bool) -> Any:
        if self.failures:
            raise self.failures.pop(0)
        assert not as_query
        self.batches.append(list(texts))
        if any("unspeakable" in text for text in texts):
            raise ValueError("a word that I do not know")
        return [[float(len(text)), float(text.count(" "))] for text in texts]


@pytest.fixture
def model() -> Model:
    """A model of the name `test/texts`."""
    model = Model()
    register_model("test/texts", guarded("test/texts", model), guarded_batch("x", model.batch))
    return model


def config_of(**settings: str) -> ConnectorConfig:
    changed = {name.replace("__", "."): text for name, text in settings.items()}
    return ConnectorConfig.from_mapping(MINIMAL | changed)


def embedded(records: Sequence[KafkaRecord], config: ConnectorConfig) -> Batch:
    batch = decode_batch(records, RecordDecoder.of(config))
    embedder = Embedder(config.shape.text)
    for _ in range(100):
        if not embedder.embed_some(batch):
            return batch
    raise AssertionError("embedding has no end")


def points(batch: Batch) -> dict[object, dict[str, Any]]:
    found: dict[object, dict[str, Any]] = {}
    for entries in batch.entries.values():
        for entry in entries:
            assert isinstance(entry.change, Upsert | Merge)
            found[entry.change.point_id] = entry.change.point.vectors
    return found


def envelope(point_id: int, **payload: object) -> bytes:
    return json.dumps({"collection_name": "c", "id": point_id, "payload": payload}).encode()


def dense(**settings: str) -> ConnectorConfig:
    return config_of(
        **{"vector__from__text": "text", "vector__from__text__model": "test/texts"} | settings
    )


def test_a_text_in_the_payload_becomes_the_default_vector(model: Model) -> None:
    found = points(embedded(kafka_records(envelope(1, text="a b c")), dense()))
    assert found[1][""].tolist() == [5.0, 2.0]
    assert found[1][""].dtype == np.float32


def test_texts_go_to_the_model_by_batch(model: Model) -> None:
    records = kafka_records(*(envelope(n, text=f"text {n}") for n in range(150)))
    assert len(points(embedded(records, dense()))) == 150
    assert [len(one) for one in model.batches] == [64, 64, 22]


def test_a_plain_text_whose_key_is_its_id_becomes_a_point(model: Model) -> None:
    config = ConnectorConfig.from_mapping(
        MINIMAL | PLAIN_TEXTS | {"vector.from.text.model": "test/texts"}
    )
    batch = embedded(kafka_records((b"7", b"plain words"), (b"8", b"123"), (b"9", b'"q"')), config)
    entries = batch.entries["c"]
    payloads = [entry.change.point.payload for entry in entries]  # type: ignore[union-attr]
    assert [json.loads(one)["text"] for one in payloads] == ["plain words", "123", '"q"']
    assert {key: one[""][0] for key, one in points(batch).items()} == {7: 11.0, 8: 3.0, 9: 3.0}


def test_bm25_is_the_sparse_vector_that_the_server_makes() -> None:
    config = config_of(vector__from__text="text")
    found = points(embedded(kafka_records(envelope(1, text="the quick foxes")), config))
    expected = embed_bm25("the quick foxes", {}, False)
    vector = found[1]["bm25"]
    assert isinstance(vector, SparseVector)
    assert vector.indices.tolist() == expected.indices.tolist()
    assert vector.values.tolist() == expected.values.tolist()


def test_a_vector_that_the_record_brings_is_kept(model: Model) -> None:
    value = {"collection_name": "c", "id": 1, "vector": [1.0, 2.0], "payload": {}}
    found = points(embedded(kafka_records(json.dumps(value).encode()), dense()))
    assert found[1][""].tolist() == [1.0, 2.0]
    assert model.batches == []


def test_a_vector_is_made_beside_those_that_the_record_brings(model: Model) -> None:
    value = {"collection_name": "c", "id": 1, "vector": {"a": [1.0]}, "payload": {"text": "x"}}
    config = dense(vector__from__text__vector="made")
    found = points(embedded(kafka_records(json.dumps(value).encode()), config))
    assert sorted(found[1]) == ["a", "made"]


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({}, "'text' value is required"),
        ({"text": None}, "'text' value cannot be null"),
        ({"text": 5}, "'text' must be a string, since it is to be embedded"),
        ({"text": " \n"}, "'text' is empty, and cannot be embedded"),
    ],
)
def test_a_record_without_a_text_is_a_bad_record(
    model: Model, payload: dict[str, object], text: str
) -> None:
    batch = embedded(kafka_records(envelope(1, **payload), envelope(2, text="good")), dense())
    ((refusal,), reason) = batch.refusals, Reason.INVALID_TEXT
    assert (refusal.error.message, refusal.error.reason) == (text, reason)
    assert set(points(batch)) == {2}


def test_a_merge_without_the_text_keeps_the_vector(model: Model) -> None:
    batch = embedded(kafka_records(envelope(1, a=1)), dense(write__method="merge"))
    assert points(batch) == {1: {}}
    assert batch.refusals == []


def test_a_text_that_the_model_refuses_costs_that_record_alone(model: Model) -> None:
    texts = ["a", "unspeakable", "b"]
    records = kafka_records(*(envelope(n, text=text) for n, text in enumerate(texts)))
    batch = embedded(records, dense())
    assert set(points(batch)) == {0, 2}
    assert [one.kafka_record.kafka_offset for one in batch.refusals] == [1]
    assert "a word that I do not know" in batch.refusals[0].error.message


@pytest.mark.parametrize("outage", [ConnectionError("refused"), TimeoutError("slow")])
def test_a_model_that_cannot_work_now_is_an_outage_and_goes_on_where_it_was(
    model: Model, outage: Exception
) -> None:
    config = dense()
    records = kafka_records(*(envelope(n, text="x") for n in range(100)))
    batch = decode_batch(records, RecordDecoder.of(config))
    embedder = Embedder(config.shape.text)
    assert embedder.embed_some(batch)
    model.failures = [outage]
    with pytest.raises(Unavailable, match=str(outage)):
        embedder.embed_some(batch)
    while embedder.embed_some(batch):
        pass
    assert [len(one) for one in model.batches] == [64, 36]
    assert batch.refusals == []


def test_a_broken_model_fails_the_task(model: Model) -> None:
    model.failures = [KeyError("weights")]
    with pytest.raises(TaskFailed, match="test/texts' is broken: KeyError"):
        embedded(kafka_records(envelope(1, text="x")), dense())


def test_a_model_that_gives_too_few_vectors_fails_the_task() -> None:
    register_model(
        "test/few", guarded("test/few", lambda *_: [1.0]), guarded_batch("x", lambda *_: [[1.0]])
    )
    config = dense(vector__from__text__model="test/few")
    with pytest.raises(TaskFailed, match="1 vectors were given for 2 texts"):
        embedded(kafka_records(envelope(1, text="x"), envelope(2, text="y")), config)


def test_a_model_that_is_not_there_fails_the_task_and_is_refused_over_rest() -> None:
    config = dense(vector__from__text__model="no/such")
    with pytest.raises(TaskFailed, match="--embedding-model"):
        embedded(kafka_records(envelope(1, text="x")), config)
    errors = static_errors(dict(config.raw), has_store=True)
    assert "the operator names one" in errors["vector.from.text.model"]
    # Whoever reaches the REST API must not have code imported.
    errors = static_errors(dict(config.raw) | {"vector.from.text.model": "os:system"}, True)
    assert set(errors) == {"vector.from.text.model"}


def test_a_function_in_a_module_is_called_by_batch_if_it_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lengths_model.py").write_text(
        "def embed(text, options, as_query):\n    return [1.0]\n"
        "embed.batch = lambda texts, options, as_query: [[float(len(one))] for one in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    register_from_setting("lengths_model:embed=lengths_model:embed")
    config = dense(vector__from__text__model="lengths_model:embed")
    found = points(embedded(kafka_records(envelope(1, text="four")), config))
    assert found[1][""].tolist() == [4.0]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("vector.from.text.model", "needs vector.from.text"),
        ("vector.from.text.vector", "needs vector.from.text"),
    ],
)
def test_settings_without_the_text_are_refused(key: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        ConnectorConfig.from_mapping(MINIMAL | {key: "x"})


@pytest.mark.parametrize("options", ["[]", "{", '{"k": -1}', '{"nothing": {}, "k": "x"}'])
def test_wrong_options_are_refused(options: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_of(vector__from__text="text", vector__from__text__options=options)
    assert caught.value.key == "vector.from.text.options"


def test_a_collection_made_for_bm25_weighs_words_by_their_rarity() -> None:
    config = config_of(vector__from__text="text", collection__auto__create="true")
    batch = embedded(kafka_records(envelope(1, text="some words")), config)
    assert config.auto_create is not None
    changes = [entry.change for entry in batch.entries["c"]]
    made = infer_collection_config(
        [one.point for one in changes if isinstance(one, Upsert)], config.auto_create
    )
    assert made.sparse_vectors["bm25"].modifier is Modifier.IDF


def test_texts_can_be_searched_once_they_are_written(tmp_path: Path, model: Model) -> None:
    with closing(Service.open(tmp_path)) as service:
        params = {"": VectorParams(size=2, distance=Distance.EUCLID)}
        service.create_collection("c", CollectionConfig(vectors=params))
        config = dense()
        writer = BatchWriter(
            config, EmbeddedTarget(service), None, TaskCounters(), lambda _: None, lambda: False
        )
        writer.write(
            embedded(kafka_records(envelope(1, text="a b"), envelope(2, text="x")), config)
        )
        assert service.points_count("c") == 2
