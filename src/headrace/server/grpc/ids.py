"""How does a point id cross the wire?"""

from __future__ import annotations

from collections.abc import Iterable

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.ids import PointId, parse_uuid


def read_point_id(message: qdrant.PointId) -> PointId:
    """The id that a message carries.

    Raises:
        MalformedInput: it carries none, or text that is no UUID.
    """
    match message.WhichOneof("point_id_options"):
        case "num":
            return message.num
        case "uuid":
            uuid = parse_uuid(message.uuid)
            if uuid is None:
                raise MalformedInput(f"Unable to parse UUID: {message.uuid}")
            return uuid
        case _:
            raise MalformedInput("No ID options provided")


def read_point_ids(messages: Iterable[qdrant.PointId]) -> tuple[PointId, ...]:
    """The ids of a list, in its order.

    Raises: as `read_point_id`.
    """
    return tuple(read_point_id(message) for message in messages)


def point_id_message(point_id: PointId) -> qdrant.PointId:
    """The message of an id; UUIDs lower-case and hyphenated."""
    if isinstance(point_id, int):
        return qdrant.PointId(num=point_id)
    return qdrant.PointId(uuid=str(point_id))
