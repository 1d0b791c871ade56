"""What is a step of a scenario, and when are two answers to it the same?"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import grpc
import numpy as np
import orjson
import pytest
from pydantic import BaseModel
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

# What differs from one call, or one directory, to the next.
_VOLATILE = {
    "time",
    "creation_time",
    "checksum",
    "size",
    "peer_id",
    "shard_key",
    "id",
    "started_at",
    "uptime",
}
_FROM_SNAPSHOTS = {"name"}

DEPRECATED = {"recreate_collection"}


class Step(NamedTuple):
    """One call.

    Attributes:
        is_ordered: False if the order of the answer's lists means nothing.
        label: what tells it from other calls of the method, if something must.
    """

    method: str
    arguments: Mapping[str, Any]
    is_ordered: bool = True
    label: str = ""


def step(method: str, *, is_ordered: bool = True, label: str = "", **arguments: Any) -> Step:
    return Step(method, arguments, is_ordered, label)


# How the two protocols say who must act; see `headrace.server.errors`.
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    422: grpc.StatusCode.INVALID_ARGUMENT,
}
# REST names the part of the request and its own path; a message has neither.
_WHERE = re.compile(r"^Validation error in [^\[]*\[(?:search_request\.|name: |collection_name: )?")

REFUSALS = (UnexpectedResponse, ValueError, NotImplementedError, grpc.RpcError)


def answers_of(client: QdrantClient, steps: Sequence[Step]) -> list[Any]:
    """The answer to each step, in a form that compares."""
    answers = []
    for one in steps:
        try:
            with pytest.deprecated_call() if one.method in DEPRECATED else nullcontext():
                answer = getattr(client, one.method)(**one.arguments)
        except REFUSALS as error:
            answer = error
        answers.append(normal(answer, one.is_ordered))
    return answers


async def answers_of_async(client: AsyncQdrantClient, steps: Sequence[Step]) -> list[Any]:
    """As `answers_of`, awaited."""
    answers = []
    for one in steps:
        try:
            with pytest.deprecated_call() if one.method in DEPRECATED else nullcontext():
                answer = getattr(client, one.method)(**one.arguments)
                if inspect.isawaitable(answer):
                    answer = await answer
        except REFUSALS as error:
            answer = error
        answers.append(normal(answer, one.is_ordered))
    return answers


def over_any_protocol(answer: Any) -> Any:
    """A normal answer without what REST and gRPC write differently.

    Numbers of vectors and scores are float32, which JSON shows by its shortest text; a
    message has no list and no map that is not there.
    """
    match answer:
        case ("UnexpectedResponse", status, {"status": {"error": text}}) if status in _CODES:
            return "refused", _CODES[status].name, _WHERE.sub("", text)
        case ("RpcError", name, text):
            return "refused", name, _WHERE.sub("", text)
        case float():
            return float(np.float32(answer))
        case dict():
            return {
                name: None if value in ([], {}) else over_any_protocol(value)
                for name, value in answer.items()
            }
        case list() | tuple():
            return [over_any_protocol(one) for one in answer]
    return answer


def normal(value: Any, is_ordered: bool = True) -> Any:
    """A value without what may differ between two stores that hold the same."""
    if isinstance(value, UnexpectedResponse):
        try:
            content = normal(orjson.loads(value.content))
        except orjson.JSONDecodeError:
            content = value.content
        return "UnexpectedResponse", value.status_code, content
    if isinstance(value, grpc.RpcError):
        return "RpcError", value.code().name, value.details()
    if isinstance(value, Exception):
        return type(value).__name__, str(value)
    if isinstance(value, models.SnapshotDescription):
        return normal(value.model_dump(exclude=_FROM_SNAPSHOTS))
    if isinstance(value, (models.Record, models.ScoredPoint)):
        return value.model_dump()
    if isinstance(value, BaseModel):
        return normal({name: getattr(value, name) for name in type(value).model_fields}, is_ordered)
    if isinstance(value, Mapping):
        return {
            name: normal(one, is_ordered) for name, one in value.items() if name not in _VOLATILE
        }
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        members = [normal(one, is_ordered) for one in value]
        return members if is_ordered else sorted(members, key=repr)
    return value
