"""What can be set when a collection is made?

The structs mirror Qdrant's `CollectionConfig` in names and defaults, so that the JSON of
a collection's configuration is a plain encoding of them. Fields that were not set are
left out of the JSON (`omit_defaults`), as Qdrant leaves them out.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from headrace.model.errors import UnknownVectorName
from headrace.model.vectors import Distance

VECTOR_DIM_MAX = 65_536


class Datatype(StrEnum):
    """How the components of a vector are stored."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    UINT8 = "uint8"


class Modifier(StrEnum):
    """How sparse query weights are changed before scoring."""

    NONE = "none"
    IDF = "idf"


class MultiVectorConfig(msgspec.Struct, frozen=True):
    """How two sets of vectors are compared; MaxSim is the one way there is."""

    comparator: str = "max_sim"


class VectorParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """One dense or multi-vector name of a collection.

    `hnsw_config` and `quantization_config` are kept as they were sent (validated).
    """

    size: int
    distance: Distance
    hnsw_config: dict[str, Any] | None = None
    quantization_config: dict[str, Any] | None = None
    on_disk: bool | None = None
    memory: str | None = None
    datatype: Datatype | None = None
    multivector_config: MultiVectorConfig | None = None

    @property
    def is_cold(self) -> bool:
        """Whether the vectors are to be read from disk; `memory` goes before `on_disk`."""
        return bool(self.on_disk) if self.memory is None else self.memory == "cold"

    @property
    def is_multi(self) -> bool:
        """Whether each point carries a list of vectors under this name."""
        return self.multivector_config is not None


class SparseVectorParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sparse vector name of a collection."""

    index: dict[str, Any] | None = None
    modifier: Modifier | None = None

    @property
    def datatype(self) -> Datatype:
        """How the weights in the index are stored."""
        return Datatype((self.index or {}).get("datatype") or Datatype.FLOAT32)


def same_space(
    one: VectorParams | SparseVectorParams, other: VectorParams | SparseVectorParams
) -> bool:
    """Whether vectors mean the same under both: all but what may be changed later is equal."""
    return _space(one) == _space(other)


def _space(params: VectorParams | SparseVectorParams) -> tuple[Any, ...]:
    if isinstance(params, SparseVectorParams):
        return (params.modifier or Modifier.NONE, params.datatype)
    datatype = params.datatype or Datatype.FLOAT32
    return (params.size, params.distance, datatype, params.multivector_config)


class CollectionConfig(msgspec.Struct, frozen=True, omit_defaults=True):
    """A collection's configuration as its creator gave it; Qdrant's defaults fill the rest.

    Attributes:
        vectors: dense and multi-vector names; the default vector's name is "".
        sparse_vectors: sparse names.
        params: other members of Qdrant's `CollectionParams` that were set.
        hnsw_config, optimizers_config, wal_config, quantization_config,
        strict_mode_config, metadata: as sent, validated at the edge.
    """

    vectors: dict[str, VectorParams] = {}
    sparse_vectors: dict[str, SparseVectorParams] = {}
    params: dict[str, Any] = {}
    hnsw_config: dict[str, Any] = {}
    optimizers_config: dict[str, Any] = {}
    wal_config: dict[str, Any] = {}
    quantization_config: dict[str, Any] | None = None
    strict_mode_config: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    def vector_params(self, name: str) -> VectorParams | SparseVectorParams:
        """The parameters of one vector name.

        Raises:
            UnknownVectorName: the collection has no such vector.
        """
        params = self.find_vector(name)
        if params is None:
            raise UnknownVectorName(name)
        return params

    def find_vector(self, name: str) -> VectorParams | SparseVectorParams | None:
        """The parameters of one vector name, if the collection has it."""
        return self.vectors.get(name) or self.sparse_vectors.get(name)


class PayloadFieldType(StrEnum):
    """The kinds of payload index."""

    KEYWORD = "keyword"
    INTEGER = "integer"
    FLOAT = "float"
    BOOL = "bool"
    GEO = "geo"
    DATETIME = "datetime"
    UUID = "uuid"
    TEXT = "text"


class PayloadFieldSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """The schema of one indexed payload field.

    Attributes:
        data_type: the kind of index.
        params: what the creator sent if it sent an object (with `type`), else None.
    """

    data_type: PayloadFieldType
    params: dict[str, Any] | None = None
