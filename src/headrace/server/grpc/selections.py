"""Which points does a write concern, and what of a point does an answer carry?"""

from __future__ import annotations

from qdrant_client import grpc as qdrant

from headrace.model.errors import MalformedInput
from headrace.model.operations import PointSelector
from headrace.model.queries import PayloadSelection, VectorSelection
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.ids import read_point_ids
from headrace.server.grpc.rules import canonical_path


def read_point_selector(message: qdrant.PointsSelector) -> PointSelector:
    """The points that a write names, by ids or by filter; an empty filter names all.

    Raises:
        MalformedInput: it names none, or as `read_filter`.
        InvalidBody, BadRequest: as `read_filter`.
    """
    match message.WhichOneof("points_selector_one_of"):
        case "points":
            return PointSelector(ids=read_point_ids(message.points.ids))
        case "filter":
            return PointSelector(filter=read_filter(message.filter))
        case _:
            raise MalformedInput("PointSelector is missing")


def read_payload_selection(message: qdrant.WithPayloadSelector) -> PayloadSelection:
    """The part of the payload that is asked for.

    Raises:
        MalformedInput: the message says nothing, or names no payload path.
    """
    match message.WhichOneof("selector_options"):
        case "enable":
            return PayloadSelection(enabled=message.enable)
        case "include":
            return PayloadSelection(include=tuple(map(canonical_path, message.include.fields)))
        case "exclude":
            return PayloadSelection(exclude=tuple(map(canonical_path, message.exclude.fields)))
        case _:
            raise MalformedInput("No PayloadSelector")


def read_vector_selection(message: qdrant.WithVectorsSelector) -> VectorSelection:
    """The vectors that are asked for; an empty message asks for none, as in Qdrant."""
    if message.WhichOneof("selector_options") == "include":
        return VectorSelection(enabled=True, names=tuple(message.include.names))
    return VectorSelection(enabled=message.enable)
