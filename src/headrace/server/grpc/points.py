"""How does a stored point become part of an answer?"""

from __future__ import annotations

from qdrant_client import grpc as qdrant

from headrace.model.points import Record, ScoredPoint
from headrace.server.grpc.ids import point_id_message
from headrace.server.grpc.payload import write_payload_into
from headrace.server.grpc.vectors import write_vectors_into


def retrieved_point_message(record: Record) -> qdrant.RetrievedPoint:
    """A point as reading and listing answer it.

    Raises:
        BadRequest: its payload nests deeper than a reader of protobuf follows.
    """
    message = qdrant.RetrievedPoint(id=point_id_message(record.id))
    _write_content_into(record, message)
    return message


def scored_point_message(point: ScoredPoint) -> qdrant.ScoredPoint:
    """A point as searching answers it.

    Raises: as `retrieved_point_message`.
    """
    record = point.record
    message = qdrant.ScoredPoint(
        id=point_id_message(record.id), score=point.score, version=record.version
    )
    _write_content_into(record, message)
    return message


def _write_content_into(
    record: Record, message: qdrant.RetrievedPoint | qdrant.ScoredPoint
) -> None:
    if record.payload is not None:
        write_payload_into(record.payload, message.payload)
    if record.vectors is not None:
        write_vectors_into(record.vectors, message.vectors)
    if isinstance(record.order_value, int):
        message.order_value.int = record.order_value
    elif record.order_value is not None:
        message.order_value.float = record.order_value
