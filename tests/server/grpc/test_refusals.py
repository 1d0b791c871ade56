"""What is wrong in a message is told in the message's own words, not in those of a JSON body."""

from __future__ import annotations

import math
from typing import Any

import grpc
import pytest
from qdrant_client import grpc as qdrant

from tests.server.grpc.grpc_server import Grpc

KEYWORD, INTEGER, TEXT = (
    qdrant.FieldType.FieldTypeKeyword,
    qdrant.FieldType.FieldTypeInteger,
    qdrant.FieldType.FieldTypeText,
)


def index(field_type: Any, **params: Any) -> qdrant.CreateFieldIndexCollection:
    return qdrant.CreateFieldIndexCollection(
        field_name="a",
        field_type=field_type,
        field_index_params=qdrant.PayloadIndexParams(**params),
    )


def text_index(**params: Any) -> qdrant.CreateFieldIndexCollection:
    return index(TEXT, text_index_params=qdrant.TextIndexParams(**params))


SIZELESS = qdrant.VectorParams(distance=qdrant.Distance.Dot)
NAMELESS = qdrant.CreateAlias(collection_name="c", alias_name="a/b")


@pytest.mark.parametrize(
    ("service", "method", "message", "text"),
    [
        (
            "points",
            "CreateFieldIndex",
            qdrant.CreateFieldIndexCollection(field_name="a..b", field_type=KEYWORD),
            "field_name: Invalid json path: 'a..b'",
        ),
        (
            "points",
            "CreateFieldIndex",
            index(
                INTEGER, integer_index_params=qdrant.IntegerIndexParams(lookup=False, range=False)
            ),
            "Validation error in body: [field_index_params.integer_index_params: "
            "the 'lookup' and 'range' capabilities can't be both disabled]",
        ),
        (
            "points",
            "CreateFieldIndex",
            text_index(stopwords=qdrant.StopwordsSet(languages=["klingon"])),
            "field_index_params.text_index_params.stopwords.languages[0]: "
            "unknown variant `klingon`, expected one of `arabic`",
        ),
        (
            "collections",
            "Create",
            qdrant.CreateCollection(vectors_config=qdrant.VectorsConfig(params=SIZELESS)),
            "vectors_config: missing field `size`",
        ),
        (
            "collections",
            "Create",
            qdrant.CreateCollection(
                hnsw_config=qdrant.HnswConfigDiff(ef_construct=1),
                vectors_config=qdrant.VectorsConfig(
                    params_map=qdrant.VectorParamsMap(
                        map={"a/b": qdrant.VectorParams(size=2, distance=qdrant.Distance.Dot)}
                    )
                ),
            ),
            'Validation error in body: [vectors_config.?: vector name cannot contain "/" char; '
            "hnsw_config.ef_construct: value 1 invalid, must be 4 or larger]",
        ),
        (
            "collections",
            "Update",
            qdrant.UpdateCollection(
                optimizers_config=qdrant.OptimizersConfigDiff(deleted_threshold=3)
            ),
            "Validation error in body: [optimizers_config.deleted_threshold: value 3.0 invalid, "
            "must be from 0.0 to 1.0]",
        ),
        (
            "collections",
            "Create",
            qdrant.CreateCollection(
                quantization_config=qdrant.QuantizationConfig(
                    scalar=qdrant.ScalarQuantization(
                        type=qdrant.QuantizationType.Int8, quantile=math.nan
                    )
                )
            ),
            "`quantile` is not a finite number",
        ),
        (
            "points",
            "CreateVectorName",
            qdrant.CreateVectorNameRequest(
                vector_name="x",
                dense_config=qdrant.DenseVectorCreationConfig(distance=qdrant.Distance.Dot),
            ),
            "dense_config: missing field `size`",
        ),
        (
            "collections",
            "UpdateAliases",
            qdrant.ChangeAliases(actions=[qdrant.AliasOperations(create_alias=NAMELESS)]),
            "Validation error in body: [actions[0].create_alias.alias_name: "
            'collection name cannot contain "/" char]',
        ),
    ],
)
def test_a_refusal_speaks_of_the_message(
    front: Grpc, collection: str, service: str, method: str, message: Any, text: str
) -> None:
    if method == "Create":
        message.collection_name = "not-made"
    elif method != "UpdateAliases":
        message.collection_name = collection
    with pytest.raises(grpc.RpcError) as refusal:
        getattr(getattr(front, service), method)(message)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.value.details() or "").startswith(text)
