"""What is a write, between the edge that took it and the log that keeps it?

`Operation` is one of the two currencies of the system: REST bodies, gRPC messages and
Kafka records become one of these at the edge, the log stores them, replay applies them.
Applying is deterministic: same log, same collection.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from headrace.model.collection_changes import CollectionChange
from headrace.model.collection_config import (
    PayloadFieldSchema,
    SparseVectorParams,
    VectorParams,
)
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.vectors import VectorBatch, decode_array, encode_array

# A payload as it is stored: the UTF-8 bytes of one JSON object.
PayloadJson = bytes

EMPTY_PAYLOAD: PayloadJson = b"{}"


class UpdateMode(StrEnum):
    """Which points an upsert may touch."""

    UPSERT = "upsert"
    INSERT_ONLY = "insert_only"
    UPDATE_ONLY = "update_only"


class PointSelector(msgspec.Struct, frozen=True, omit_defaults=True):
    """The points a write concerns: by ids if given, else by filter."""

    ids: tuple[PointId, ...] | None = None
    filter: Filter | None = None


class UpsertPoints(msgspec.Struct, frozen=True, tag="upsert", eq=False, omit_defaults=True):
    """Insert points, or replace whole points. Ids are unique within one operation.

    Attributes:
        ids: one per point.
        vectors: by vector name; a point may lack any of them.
        payloads: one JSON object per point, `{}` if none.
        mode: whether existing and new points are written.
        update_filter: existing points that do not match it are left alone.
    """

    ids: list[PointId]
    vectors: dict[str, VectorBatch]
    payloads: list[PayloadJson]
    mode: UpdateMode = UpdateMode.UPSERT
    update_filter: Filter | None = None


class DeletePoints(msgspec.Struct, frozen=True, tag="delete"):
    """Delete points; ids that are not stored are no error."""

    selector: PointSelector


class UpdateVectors(
    msgspec.Struct, frozen=True, tag="update_vectors", eq=False, omit_defaults=True
):
    """Set the named vectors of existing points; other vectors and the payload stay."""

    ids: list[PointId]
    vectors: dict[str, VectorBatch]
    update_filter: Filter | None = None


class DeleteVectors(msgspec.Struct, frozen=True, tag="delete_vectors"):
    """Remove named vectors from points."""

    selector: PointSelector
    names: tuple[str, ...]


class SetPayload(msgspec.Struct, frozen=True, tag="set_payload", omit_defaults=True):
    """Merge top-level keys into payloads, or into the object at `key`; null removes a key."""

    selector: PointSelector
    payload: PayloadJson
    key: str | None = None


class OverwritePayload(msgspec.Struct, frozen=True, tag="overwrite_payload"):
    """Replace whole payloads; nulls are kept."""

    selector: PointSelector
    payload: PayloadJson


class DeletePayload(msgspec.Struct, frozen=True, tag="delete_payload"):
    """Remove the values at payload paths."""

    selector: PointSelector
    keys: tuple[str, ...]


class ClearPayload(msgspec.Struct, frozen=True, tag="clear_payload"):
    """Make payloads `{}`."""

    selector: PointSelector


class CreatePayloadIndex(msgspec.Struct, frozen=True, tag="create_payload_index"):
    """Index one payload path; a different schema replaces the index, the same is no change."""

    key: str
    schema: PayloadFieldSchema


class DropPayloadIndex(msgspec.Struct, frozen=True, tag="drop_payload_index"):
    """Forget the index of one payload path, if there is one."""

    key: str


class CreateVectorName(msgspec.Struct, frozen=True, tag="create_vector_name", omit_defaults=True):
    """Add a vector name; no point has a vector of it. The same again is no change.

    Attributes:
        name: of the vector.
        dense: its parameters, if it is dense or a multi-vector.
        sparse: its parameters otherwise.
    """

    name: str
    dense: VectorParams | None = None
    sparse: SparseVectorParams | None = None

    @property
    def params(self) -> VectorParams | SparseVectorParams:
        """The parameters, whichever they are."""
        params = self.dense or self.sparse
        assert params is not None
        return params


class DropVectorName(msgspec.Struct, frozen=True, tag="drop_vector_name"):
    """Forget a vector name, if there is one, and its vector of every point."""

    name: str


class ChangeConfig(msgspec.Struct, frozen=True, tag="change_config"):
    """Change a collection's configuration."""

    change: CollectionChange


class SourcePartition(msgspec.Struct, frozen=True, array_like=True):
    """One ordered stream that writes arrive from, such as a topic partition.

    Attributes:
        source: who reads it, such as `connect-<connector name>`.
        stream: the topic.
        partition: its number.
    """

    source: str
    stream: str
    partition: int


class SourceOffset(msgspec.Struct, frozen=True, array_like=True):
    """How far a source partition has been taken: `next_offset` is the first one not taken."""

    partition: SourcePartition
    next_offset: int


class RewindSource(msgspec.Struct, frozen=True, tag="rewind_source"):
    """Take a source's writes again from an earlier offset on.

    Attributes:
        partition: of the source.
        next_offset: what the collection has taken from here on counts as not taken; a
            collection that has taken less stays as it is.
    """

    partition: SourcePartition
    next_offset: int


Operation = (
    UpsertPoints
    | DeletePoints
    | UpdateVectors
    | DeleteVectors
    | SetPayload
    | OverwritePayload
    | DeletePayload
    | ClearPayload
    | CreatePayloadIndex
    | DropPayloadIndex
    | CreateVectorName
    | DropVectorName
    | ChangeConfig
    | RewindSource
)


class WriteBatch(msgspec.Struct, frozen=True, eq=False, omit_defaults=True):
    """What one log record holds: applied whole or not at all."""

    operations: list[Operation]
    source_offsets: list[SourceOffset] = []


_encoder = msgspec.msgpack.Encoder(enc_hook=encode_array, uuid_format="bytes")
_decoder = msgspec.msgpack.Decoder(WriteBatch, ext_hook=decode_array)


def encode_write_batch(batch: WriteBatch) -> bytes:
    """The body of a log record, as MessagePack."""
    return _encoder.encode(batch)


def decode_write_batch(body: bytes | memoryview) -> WriteBatch:
    """The batch that `encode_write_batch` encoded; its arrays are views of `body`.

    Raises:
        msgspec.DecodeError: `body` is not such an encoding.
    """
    return _decoder.decode(body)
