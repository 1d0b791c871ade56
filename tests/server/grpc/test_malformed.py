"""Whatever bytes come in, the answer blames the caller or succeeds; nothing falls over."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import pytest
from qdrant_client import grpc as qdrant
from qdrant_client import models
from qdrant_client.grpc import (
    collections_service_pb2,
    points_service_pb2,
    snapshots_service_pb2,
)

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance
from tests.server.grpc.conftest import NewCollection
from tests.server.grpc.grpc_server import Grpc
from tests.server.grpc.messages import Maker, good_requests
from tests.server.log_position import last_seq_no

SEED = 20240607
CALLERS_FAULT = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    # Limits of strict mode, which a request may have set.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

COMPRESSIONS = [None, grpc.Compression.Gzip, grpc.Compression.Deflate]


def requests(
    maker: Maker, collection: str, chance: random.Random, rounds: int
) -> Iterator[tuple[str, bytes]]:
    """Requests to every method of three services, well-typed, mangled, and no messages at all."""
    services = (
        points_service_pb2.DESCRIPTOR.services_by_name["Points"],
        collections_service_pb2.DESCRIPTOR.services_by_name["Collections"],
        snapshots_service_pb2.DESCRIPTOR.services_by_name["Snapshots"],
    )
    good = [(f"/qdrant.Points/{name}", message) for name, message in good_requests(collection)]
    for _ in range(rounds):
        for service in services:
            for method in service.methods:
                request = getattr(qdrant, method.input_type.name)()
                maker.fill_into(request)
                encoded = request.SerializeToString()
                path = f"/{service.full_name}/{method.name}"
                yield path, encoded
                yield path, maker.mangled(encoded)
        for path, message in good:
            yield path, message.SerializeToString()
            yield path, maker.mangled(message.SerializeToString())
            yield path, odd_bytes(message.SerializeToString(), chance)


def odd_bytes(encoded: bytes, chance: random.Random) -> bytes:
    """What is no message, or one that nests or counts beyond reason."""
    match chance.randrange(7):
        case 0:
            return chance.randbytes(chance.randrange(1, 2_000))
        case 1:
            return encoded[: chance.randrange(len(encoded))]
        case 2:
            filter = b""
            for _ in range(chance.choice([50, 99, 101, 1_000])):
                filter = delimited(2, delimited(4, filter))
            return encoded + delimited(2, filter)
        case 3:
            return encoded + b"\x12" + b"\xff" * chance.choice([4, 9, 20])
        case 4:
            return encoded + delimited(1, "ü".encode()[:1]) + delimited(7, b"\xff\xfe")
        case 5:
            # Groups, which this protocol never has.
            return encoded + b"\x0b" * chance.choice([1, 90, 5_000])
        case _:
            return encoded * chance.choice([2, 50])


def delimited(field: int, content: bytes) -> bytes:
    """A length-delimited field."""
    length = bytearray()
    left = len(content)
    while left > 0x7F:
        length.append(left & 0x7F | 0x80)
        left >>= 7
    length.append(left)
    return bytes([field << 3 | 2, *length]) + content


def check(front: Grpc, collection: str, bystander: str, rounds: int) -> Counter[str]:
    """Send the requests; returns how often each status came.

    What is refused has changed nothing: no record was appended to the collection's log.
    """
    chance = random.Random(SEED)
    config = front.service.collection_config(collection)
    before = all_points(front, bystander)
    codes: Counter[str] = Counter()
    for path, encoded in requests(Maker(SEED, collection), collection, chance, rounds):
        if not front.service.collection_exists(collection):
            front.service.create_collection(collection, config)
        seq_no = last_seq_no(front.service, collection)
        call = front.channel.unary_unary(
            path, request_serializer=bytes, response_deserializer=bytes
        )
        outcome = call.future(encoded, compression=chance.choice(COMPRESSIONS))
        code = outcome.code()
        assert code in CALLERS_FAULT, (path, code, outcome.details(), encoded)
        if code is not grpc.StatusCode.OK:
            assert last_seq_no(front.service, collection) == seq_no, (path, encoded)
        codes[code.name] += 1
    assert all_points(front, bystander) == before
    return codes


def all_points(front: Grpc, collection: str) -> bytes:
    request = qdrant.ScrollPoints(
        collection_name=collection,
        limit=100,
        with_vectors=qdrant.WithVectorsSelector(enable=True),
        with_payload=qdrant.WithPayloadSelector(enable=True),
    )
    answer = front.points.Scroll(request)
    answer.ClearField("time")
    return bytes(answer.SerializeToString(deterministic=True))


@pytest.fixture
def bystander(front: Grpc, new_collection: NewCollection) -> str:
    """A collection that no request names, and which must stay as it is."""
    params = VectorParams(size=4, distance=Distance.DOT)
    name = new_collection(CollectionConfig(vectors={DEFAULT_VECTOR_NAME: params}))
    vector = [1.0, 2.0, 3.0, 4.0]
    points = [models.PointStruct(id=n, vector=vector, payload={"n": n}) for n in range(50)]
    front.client.upsert(name, points=points)
    return name


def test_malformed_requests_are_the_callers_fault(
    front: Grpc, collection: str, bystander: str
) -> None:
    codes = check(front, collection, bystander, rounds=5)
    assert codes["OK"] > 20
    assert codes["INVALID_ARGUMENT"] > 200


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_malformed_requests_are_the_callers_fault(
    front: Grpc,
    collection: str,
    bystander: str,
    record_property: Callable[[str, object], None],
) -> None:
    codes = check(front, collection, bystander, rounds=95)
    assert codes.total() > 10_000
    record_property("codes", dict(codes))


@pytest.mark.parametrize("seed", range(3))
def test_bytes_that_are_no_http2_end_a_connection_and_nothing_else(
    front: Grpc, collection: str, seed: int
) -> None:
    chance = random.Random(seed)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    host, _, port = front.address.rpartition(":")
    for _ in range(20):
        noise = chance.randbytes(chance.randrange(1, 3_000))
        start = chance.choice([b"", preface, preface + settings, b"GET / HTTP/1.1\r\n\r\n"])
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(start + noise)
    request = qdrant.CountPoints(collection_name=collection, exact=True)
    assert front.points.Count(request).result.count == 0
