"""Whatever bytes come in, the answer blames the caller or succeeds; nothing falls over."""

from __future__ import annotations

import random
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from qdrant_client import grpc as qdrant
from qdrant_client.grpc import (
    collections_service_pb2,
    points_service_pb2,
    snapshots_service_pb2,
)

from tests.server.grpc.grpc_server import Grpc

SEED = 20240607
CALLERS_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    # Limits of strict mode, which a request may have set.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

TEXTS = ["", "a", "a.b[].c", "a..b", "$score", "é" * 300, "\0", "../x", "con", "2024-01-01"]
INTEGERS = [0, 1, 2, 5, 127, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, -1, -(2**63)]
FLOATS = [0.0, 1.0, -1.5, 1e30, float("nan"), float("inf"), float("-inf")]
UUIDS = ["6ba7b810-9dad-11d1-80b4-00c04fd430c8", "urn:uuid:x", "5", ""]


class Maker:
    """Makes messages whose types are right and whose values are anything.

    Args:
        seed: of all choices.
        collection_name: put where a collection is named.
    """

    def __init__(self, seed: int, collection_name: str) -> None:
        self._random = random.Random(seed)
        self._collection_name = collection_name

    def fill_into(self, message: Message, depth: int = 0) -> None:
        """Set some fields of a message, and some of theirs."""
        for field in message.DESCRIPTOR.fields:
            if field.name == "collection_name":
                setattr(message, field.name, self._collection_name)
                continue
            if self._random.random() < 0.25 + 0.12 * depth:
                continue
            count = self._random.choice((0, 1, 1, 2, 4)) if field.is_repeated else 1
            for _ in range(count):
                self._fill_field_into(message, field.name, depth)

    def mangled(self, encoded: bytes) -> bytes:
        """The bytes with some of them changed, cut off or doubled."""
        mangled = bytearray(encoded)
        for _ in range(self._random.randint(0, 3)):
            if mangled:
                mangled[self._random.randrange(len(mangled))] = self._random.randrange(256)
        match self._random.randrange(6):
            case 0:
                return bytes(mangled[: self._random.randint(0, len(mangled))])
            case 1:
                return bytes(mangled + mangled)
        return bytes(mangled)

    def _fill_field_into(self, message: Message, name: str, depth: int) -> None:
        field = message.DESCRIPTOR.fields_by_name[name]
        nested = field.message_type
        if nested is None:
            self._fill_scalar_into(message, name)
        elif depth > 6:
            return
        elif nested.GetOptions().map_entry:
            entries = getattr(message, name)
            if nested.fields_by_name["value"].message_type is not None:
                self.fill_into(entries[self._random.choice(TEXTS)], depth + 1)
        elif field.is_repeated:
            self.fill_into(getattr(message, name).add(), depth + 1)
        else:
            child = getattr(message, name)
            child.SetInParent()
            self.fill_into(child, depth + 1)

    def _fill_scalar_into(self, message: Message, name: str) -> None:
        field = message.DESCRIPTOR.fields_by_name[name]
        for _ in range(20):
            try:
                value = self._scalar(name)
                if field.is_repeated:
                    getattr(message, name).append(value)
                else:
                    setattr(message, name, value)
            except (TypeError, ValueError, OverflowError):
                continue
            return

    def _scalar(self, name: str) -> str | int | float:
        if name == "uuid":
            return self._random.choice(UUIDS)
        match self._random.randrange(3):
            case 0:
                return self._random.choice(TEXTS)
            case 1:
                return self._random.choice(INTEGERS)
        return self._random.choice(FLOATS)


def requests(maker: Maker, rounds: int) -> Iterator[tuple[str, bytes]]:
    """Requests to every method of three services, well-typed and mangled."""
    services = (
        points_service_pb2.DESCRIPTOR.services_by_name["Points"],
        collections_service_pb2.DESCRIPTOR.services_by_name["Collections"],
        snapshots_service_pb2.DESCRIPTOR.services_by_name["Snapshots"],
    )
    for _ in range(rounds):
        for service in services:
            for method in service.methods:
                request = getattr(qdrant, method.input_type.name)()
                maker.fill_into(request)
                encoded = request.SerializeToString()
                path = f"/{service.full_name}/{method.name}"
                yield path, encoded
                yield path, maker.mangled(encoded)


def check(front: Grpc, collection: str, rounds: int) -> int:
    """Send the requests; returns how many succeeded."""
    config = front.service.collection_config(collection)
    succeeded = 0
    for path, encoded in requests(Maker(SEED, collection), rounds):
        if not front.service.collection_exists(collection):
            front.service.create_collection(collection, config)
        call = front.channel.unary_unary(
            path, request_serializer=bytes, response_deserializer=bytes
        )
        outcome = call.future(encoded)
        code = outcome.code()
        assert code in CALLERS_FAULT, (path, code, outcome.details(), encoded)
        succeeded += code is grpc.StatusCode.OK
    return succeeded


def test_malformed_requests_are_the_callers_fault(front: Grpc, collection: str) -> None:
    assert check(front, collection, rounds=6) > 20


@pytest.mark.slow
def test_ten_thousand_malformed_requests_are_the_callers_fault(
    front: Grpc, collection: str
) -> None:
    assert check(front, collection, rounds=120) > 500
