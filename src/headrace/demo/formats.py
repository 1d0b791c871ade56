"""Which collections does the demo fill? One for each message format of the sink.

The formats are those of Qdrant's Kafka connector: default vector, several named vectors,
sparse, multi-vector, dense and sparse together with UUID ids.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from qdrant_client import models

from headrace.demo.dataset import Airport, unit_vectors
from headrace.demo.embedding import TEXT_DIM, WORD_DIM, TextEmbedding, WordWeights
from headrace.model.vectors import SparseVector

DEFAULT = "airports-default"
NAMED = "airports-named"
SPARSE = "airports-sparse"
MULTI = "airports-multi"
HYBRID = "airports-hybrid"

PAYLOAD_INDEXES: Mapping[str, models.PayloadSchemaType] = {
    "state": models.PayloadSchemaType.KEYWORD,
    "name_words": models.PayloadSchemaType.KEYWORD,
    "neighbours_100km": models.PayloadSchemaType.INTEGER,
    "latitude": models.PayloadSchemaType.FLOAT,
    "international": models.PayloadSchemaType.BOOL,
    "location": models.PayloadSchemaType.GEO,
}

# A namespace of the demo's own, so that an airport has the same UUID in every run.
_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "airports.headrace.demo")


def number_id(airport: Airport) -> int:
    """The airport's line in the file."""
    return airport.number


def uuid_id(airport: Airport) -> str:
    """A UUID that follows from the airport's code."""
    return str(uuid.uuid5(_UUID_NAMESPACE, airport.iata))


@dataclass(frozen=True)
class MessageFormat:
    """One message format, and the collection that it fills.

    Attributes:
        title: what the connector's page calls it.
        collection_name: the collection.
        vector_of: the `vector` of the airport with this rank in the data, ready for JSON.
        vectors_config: the collection's dense vectors, as qdrant-client takes them.
        sparse_vectors_config: its sparse ones.
        id_of: the point id of an airport.
    """

    title: str
    collection_name: str
    vector_of: Callable[[int], Any]
    vectors_config: models.VectorParams | dict[str, models.VectorParams] = field(
        default_factory=dict
    )
    sparse_vectors_config: dict[str, models.SparseVectorParams] | None = None
    id_of: Callable[[Airport], int | str] = number_id


def message_formats(
    airports: Sequence[Airport], embedding: TextEmbedding, weights: WordWeights
) -> list[MessageFormat]:
    """The five formats, with the vectors of these airports."""
    texts = embedding.of_texts([text_of(one) for one in airports])
    names = embedding.of_texts([one.name for one in airports])
    name_words = embedding.of_words([one.name for one in airports])
    places = unit_vectors([(one.latitude, one.longitude) for one in airports]).astype(np.float32)
    sparse = [sparse_json(weights.of_text(text_of(one))) for one in airports]
    text_params = models.VectorParams(size=TEXT_DIM, distance=models.Distance.COSINE)
    return [
        MessageFormat("Unnamed/Default vector", DEFAULT, lambda rank: texts[rank], text_params),
        MessageFormat(
            "Named multiple vectors",
            NAMED,
            lambda rank: {"name": names[rank], "place": places[rank]},
            {
                "name": text_params,
                "place": models.VectorParams(size=3, distance=models.Distance.EUCLID),
            },
        ),
        MessageFormat(
            "Sparse vectors",
            SPARSE,
            lambda rank: {"words": sparse[rank]},
            sparse_vectors_config={"words": models.SparseVectorParams()},
        ),
        MessageFormat(
            "Multi-vectors",
            MULTI,
            lambda rank: {"name_words": list(name_words[rank])},
            {
                "name_words": models.VectorParams(
                    size=WORD_DIM,
                    distance=models.Distance.COSINE,
                    multivector_config=models.MultiVectorConfig(
                        comparator=models.MultiVectorComparator.MAX_SIM
                    ),
                )
            },
        ),
        MessageFormat(
            "Combination of named dense and sparse vectors",
            HYBRID,
            lambda rank: {"text": texts[rank], "words": sparse[rank]},
            {"text": models.VectorParams(size=TEXT_DIM, distance=models.Distance.DOT)},
            {"words": models.SparseVectorParams()},
            uuid_id,
        ),
    ]


def text_of(airport: Airport) -> str:
    """The text that an airport is found by."""
    return f"{airport.name}, {airport.city}, {airport.state}, {airport.country}"


def sparse_json(vector: SparseVector) -> dict[str, Any]:
    """A sparse vector as a message carries it."""
    return {"indices": vector.indices, "values": vector.values}
