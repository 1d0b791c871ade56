"""A new collection is asked for, and shown, as over REST."""

from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import grpc as qdrant
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest

from headrace.model.collection_config import (
    CollectionConfig,
    Datatype,
    Modifier,
    MultiVectorConfig,
    PayloadFieldSchema,
    PayloadFieldType,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.errors import BadRequest, HeadraceError, InvalidBody, MalformedInput, WrongInput
from headrace.model.vectors import Distance
from headrace.server.grpc.collections import collection_info_message, read_collection_config
from headrace.server.grpc.payload_indexes import payload_index_message, read_create_index
from headrace.service.service import CollectionInfo, PayloadIndexInfo

COSINE = qdrant.Distance.Cosine
NULL = qdrant.Value(null_value=qdrant.NULL_VALUE)


def vectors(**named: qdrant.VectorParams) -> qdrant.VectorsConfig:
    return qdrant.VectorsConfig(params_map=qdrant.VectorParamsMap(map=named))


FULL = qdrant.CreateCollection(
    collection_name="c",
    timeout=5,
    vectors_config=vectors(
        dense=qdrant.VectorParams(
            size=4,
            distance=COSINE,
            hnsw_config=qdrant.HnswConfigDiff(m=0, on_disk=False),
            on_disk=True,
            datatype=qdrant.Datatype.Float32,
            memory=qdrant.Memory.Cached,
        ),
        multi=qdrant.VectorParams(
            size=2,
            distance=qdrant.Distance.Manhattan,
            multivector_config=qdrant.MultiVectorConfig(),
        ),
    ),
    sparse_vectors_config=qdrant.SparseVectorConfig(
        map={
            "words": qdrant.SparseVectorParams(
                index=qdrant.SparseIndexConfig(full_scan_threshold=0, on_disk=False),
                modifier=qdrant.Modifier.Idf,
            ),
            "plain": qdrant.SparseVectorParams(modifier=qdrant.Modifier.Value("None")),
        }
    ),
    hnsw_config=qdrant.HnswConfigDiff(ef_construct=200, memory=qdrant.Memory.Cold),
    wal_config=qdrant.WalConfigDiff(wal_capacity_mb=64),
    optimizers_config=qdrant.OptimizersConfigDiff(
        deleted_threshold=0.5,
        max_optimization_threads=qdrant.MaxOptimizationThreads(value=3),
    ),
    shard_number=1,
    sharding_method=qdrant.ShardingMethod.Auto,
    replication_factor=1,
    on_disk_payload=False,
    payload=qdrant.PayloadStorageParams(memory=qdrant.Memory.Cold),
    strict_mode_config=qdrant.StrictModeConfig(
        enabled=False,
        max_query_limit=10,
        sparse_config=qdrant.StrictModeSparseConfig(
            sparse_config={"words": qdrant.StrictModeSparse(max_length=5)}
        ),
    ),
    metadata={"a": qdrant.Value(list_value=qdrant.ListValue(values=[NULL]))},
)

READ = CollectionConfig(
    vectors={
        "dense": VectorParams(
            size=4,
            distance=Distance.COSINE,
            hnsw_config={"m": 0, "on_disk": False},
            on_disk=True,
            memory="cached",
            datatype=Datatype.FLOAT32,
        ),
        "multi": VectorParams(
            size=2, distance=Distance.MANHATTAN, multivector_config=MultiVectorConfig()
        ),
    },
    sparse_vectors={
        "words": SparseVectorParams(
            index={"full_scan_threshold": 0, "on_disk": False}, modifier=Modifier.IDF
        ),
        "plain": SparseVectorParams(modifier=Modifier.NONE),
    },
    params={
        "shard_number": 1,
        "sharding_method": "auto",
        "replication_factor": 1,
        "on_disk_payload": False,
        "payload": {"memory": "cold"},
    },
    hnsw_config={"ef_construct": 200, "memory": "cold"},
    optimizers_config={"deleted_threshold": 0.5, "max_optimization_threads": 3},
    wal_config={"wal_capacity_mb": 64},
    strict_mode_config={
        "enabled": False,
        "max_query_limit": 10,
        "sparse_config": {"words": {"max_length": 5}},
    },
    metadata={"a": [None]},
)


def test_everything_that_may_be_asked_for_is_kept() -> None:
    assert read_collection_config(FULL) == READ


def test_a_collection_without_vectors_may_be_asked_for() -> None:
    assert read_collection_config(qdrant.CreateCollection()) == CollectionConfig()


def test_a_single_vector_has_no_name() -> None:
    message = qdrant.CreateCollection(
        vectors_config=qdrant.VectorsConfig(params=qdrant.VectorParams(size=3, distance=COSINE))
    )
    assert read_collection_config(message) == CollectionConfig(
        vectors={"": VectorParams(size=3, distance=Distance.COSINE)}
    )


def test_the_older_name_of_the_number_of_threads_is_read() -> None:
    config = qdrant.OptimizersConfigDiff(deprecated_max_optimization_threads=2)
    read = read_collection_config(qdrant.CreateCollection(optimizers_config=config))
    assert read.optimizers_config == {"max_optimization_threads": 2}


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"shard_number": 2}, BadRequest, "a `shard_number` above 1 is not supported"),
        ({"shard_number": 0}, InvalidBody, "shard_number: value 0 invalid"),
        ({"sharding_method": 1}, BadRequest, "the sharding method `custom` is not supported"),
        (
            {
                "quantization_config": qdrant.QuantizationConfig(
                    turboquant=qdrant.TurboQuantization()
                )
            },
            BadRequest,
            "the quantization `turbo` is not supported",
        ),
        (
            {"id_tracker": qdrant.IdTrackerParams(memory=qdrant.Memory.Cold)},
            BadRequest,
            "`id_tracker` is not supported",
        ),
        (
            {"hnsw_config": qdrant.HnswConfigDiff(ef_construct=1)},
            InvalidBody,
            "hnsw_config.ef_construct: value 1 invalid, must be 4 or larger",
        ),
        (
            {"vectors_config": vectors(a=qdrant.VectorParams(size=0, distance=COSINE))},
            HeadraceError,
            "size",
        ),
        (
            {"vectors_config": vectors(a=qdrant.VectorParams(size=65_537, distance=COSINE))},
            InvalidBody,
            "value 65537 invalid, must be from 1 to 65536",
        ),
        (
            {"vectors_config": vectors(a=qdrant.VectorParams(size=4))},
            MalformedInput,
            "missing field `distance`",
        ),
        (
            {"vectors_config": vectors(a=qdrant.VectorParams(size=4, distance=77))},  # type: ignore[arg-type]
            MalformedInput,
            "77 is not a value of `distance`",
        ),
        (
            {
                "vectors_config": vectors(
                    a=qdrant.VectorParams(size=4, distance=COSINE, datatype=qdrant.Datatype.Turbo8)
                )
            },
            HeadraceError,
            "turbo8",
        ),
        (
            {
                "vectors_config": vectors(a=qdrant.VectorParams(size=4, distance=COSINE)),
                "sparse_vectors_config": qdrant.SparseVectorConfig(
                    map={"a": qdrant.SparseVectorParams()}
                ),
            },
            WrongInput,
            "Dense and sparse vectors must have different names: a",
        ),
        (
            {"metadata": {"a": qdrant.Value(double_value=float("nan"))}},
            MalformedInput,
            "cannot convert to json number",
        ),
    ],
)
def test_what_is_not_supported_or_wrong_is_refused(
    fields: dict[str, Any], kind: type[HeadraceError], text: str
) -> None:
    with pytest.raises(kind) as raised:
        read_collection_config(qdrant.CreateCollection(**fields))
    assert text in raised.value.message


def info(config: CollectionConfig, **payload_schema: PayloadIndexInfo) -> CollectionInfo:
    return CollectionInfo(
        config=config,
        points_count=5,
        indexed_vectors_count=4,
        is_optimizing=False,
        index_error=None,
        segments_count=1,
        payload_schema=payload_schema,
    )


def test_a_collection_is_shown_as_it_was_asked_for() -> None:
    shown = collection_info_message(info(READ))
    config = shown.config
    assert config.params.vectors_config == FULL.vectors_config
    assert config.params.sparse_vectors_config == FULL.sparse_vectors_config
    assert config.params.payload == FULL.payload
    assert config.params.shard_number == 1
    assert not config.params.on_disk_payload
    assert config.strict_mode_config == FULL.strict_mode_config
    assert config.metadata == FULL.metadata
    assert config.hnsw_config.ef_construct == 200
    assert config.hnsw_config.m == 16
    assert config.wal_config.wal_capacity_mb == 64
    assert config.optimizer_config.max_optimization_threads.value == 3
    assert config.optimizer_config.deleted_threshold == 0.5
    assert (shown.points_count, shown.indexed_vectors_count, shown.segments_count) == (5, 4, 1)


def test_what_was_not_asked_for_is_shown_with_its_default() -> None:
    shown = GrpcToRest.convert_collection_info(collection_info_message(info(CollectionConfig())))
    assert shown.status == models.CollectionStatus.GREEN
    assert shown.optimizer_status == models.OptimizersStatusOneOf.OK
    assert shown.config.params.shard_number == 1
    assert shown.config.hnsw_config.full_scan_threshold == 10_000
    assert shown.config.optimizer_config.max_optimization_threads is None
    assert shown.config.metadata is None
    assert shown.config.quantization_config is None


@pytest.mark.parametrize(
    ("data_type", "options", "params"),
    [
        ("keyword", None, None),
        ("uuid", qdrant.UuidIndexParams(), {"type": "uuid"}),
        (
            "keyword",
            qdrant.KeywordIndexParams(
                is_tenant=True, prefix=qdrant.KeywordPrefixParams(), memory=qdrant.Memory.Cold
            ),
            {"type": "keyword", "is_tenant": True, "prefix": True, "memory": "cold"},
        ),
        (
            "integer",
            qdrant.IntegerIndexParams(lookup=True, range=False, is_principal=False),
            {"type": "integer", "lookup": True, "range": False, "is_principal": False},
        ),
        ("float", qdrant.FloatIndexParams(on_disk=True), {"type": "float", "on_disk": True}),
        ("bool", qdrant.BoolIndexParams(enable_hnsw=False), {"type": "bool", "enable_hnsw": False}),
        ("geo", qdrant.GeoIndexParams(on_disk=False), {"type": "geo", "on_disk": False}),
        (
            "datetime",
            qdrant.DatetimeIndexParams(is_principal=True),
            {"type": "datetime", "is_principal": True},
        ),
        (
            "text",
            qdrant.TextIndexParams(
                tokenizer=qdrant.TokenizerType.Whitespace,
                lowercase=False,
                ascii_folding=True,
                min_token_len=0,
                max_token_len=9,
                phrase_matching=True,
                stopwords=qdrant.StopwordsSet(languages=["english"], custom=["x"]),
                stemmer=qdrant.StemmingAlgorithm(snowball=qdrant.SnowballParams(language="german")),
            ),
            {
                "type": "text",
                "tokenizer": "whitespace",
                "lowercase": False,
                "ascii_folding": True,
                "min_token_len": 0,
                "max_token_len": 9,
                "phrase_matching": True,
                "stopwords": {"languages": ["english"], "custom": ["x"]},
                "stemmer": {"type": "snowball", "language": "german"},
            },
        ),
        (
            "text",
            qdrant.TextIndexParams(
                stemmer=qdrant.StemmingAlgorithm(disabled=qdrant.DisabledStemmer())
            ),
            {"type": "text", "stemmer": {"type": "none"}},
        ),
    ],
)
def test_a_payload_index_is_read_and_shown(
    data_type: str, options: Any, params: dict[str, Any] | None
) -> None:
    request = qdrant.CreateFieldIndexCollection(
        field_name='"a".b',
        field_type=qdrant.FieldType.Value(f"FieldType{data_type.capitalize()}"),
        field_index_params=(
            None
            if options is None
            else qdrant.PayloadIndexParams(**{f"{data_type}_index_params": options})
        ),
    )
    operation = read_create_index(request)
    assert operation.key == "a.b"
    assert operation.schema == PayloadFieldSchema(PayloadFieldType(data_type), params)
    shown = payload_index_message(PayloadIndexInfo(operation.schema, points=7))
    assert shown.points == 7
    assert shown.data_type == qdrant.PayloadSchemaType.Value(data_type.capitalize())
    assert shown.HasField("params") == (options is not None)
    if options is not None:
        assert getattr(shown.params, f"{data_type}_index_params") == options


def test_stop_words_of_one_language_are_shown_as_a_set() -> None:
    schema = PayloadFieldSchema(PayloadFieldType.TEXT, {"type": "text", "stopwords": "english"})
    shown = payload_index_message(PayloadIndexInfo(schema, points=0))
    assert list(shown.params.text_index_params.stopwords.languages) == ["english"]


TEXT = qdrant.FieldType.FieldTypeText


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"field_name": ""}, InvalidBody, "field_name: value"),
        ({"field_type": None}, MalformedInput, "field type is missing"),
        ({"field_type": 77}, MalformedInput, "77 is not a FieldType"),
        ({"field_name": "a..b"}, MalformedInput, "Invalid json path: 'a..b'"),
        (
            {
                "field_index_params": qdrant.PayloadIndexParams(
                    geo_index_params=qdrant.GeoIndexParams()
                )
            },
            MalformedInput,
            "field_type (text) and field_index_params (geo_index_params) do not match",
        ),
        (
            {
                "field_index_params": qdrant.PayloadIndexParams(
                    text_index_params=qdrant.TextIndexParams(scoring=qdrant.TextScoringParams())
                )
            },
            BadRequest,
            "`scoring` of a payload index is not supported",
        ),
        (
            {
                "field_index_params": qdrant.PayloadIndexParams(
                    text_index_params=qdrant.TextIndexParams(nested="a")
                )
            },
            BadRequest,
            "`nested` of a payload index is not supported",
        ),
        (
            {
                "field_index_params": qdrant.PayloadIndexParams(
                    text_index_params=qdrant.TextIndexParams(tokenizer=qdrant.TokenizerType.Code)
                )
            },
            MalformedInput,
            "unknown variant `code`",
        ),
        (
            {
                "field_index_params": qdrant.PayloadIndexParams(
                    text_index_params=qdrant.TextIndexParams(stemmer=qdrant.StemmingAlgorithm())
                )
            },
            MalformedInput,
            "Stemming algorithm is missing",
        ),
    ],
)
def test_a_payload_index_that_is_not_possible_is_refused(
    fields: dict[str, Any], kind: type[HeadraceError], text: str
) -> None:
    wanted: dict[str, Any] = {"field_name": "a", "field_type": TEXT, **fields}
    request = qdrant.CreateFieldIndexCollection(**wanted)
    with pytest.raises(kind) as raised:
        read_create_index(request)
    assert text in raised.value.message
