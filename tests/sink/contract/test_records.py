"""Section 1 of the sink's contract, sentence by sentence: from a record to an operation."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest

from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    SetPayload,
    SourcePartition,
)
from headrace.model.vectors import SparseVector
from headrace.service.service import Service
from headrace.sink.changes import Delete, PayloadPatch, Upsert, VectorPatch
from headrace.sink.kafka_record import KafkaRecord
from tests.sink.contract.sink import Sink, change_of, changes_of, make_collection, refusal_of
from tests.sink.contract.sink import value_of as value
from tests.sink.test_registry import (
    POINT_FIELDS,
    Registry,
    avro,
    descriptor_text,
    frame,
    proto_field,
)

UUID_TEXT = "a10435b5-2a58-427a-a3a0-a5d845b147b7"


def upsert_of(record_value: bytes, **settings: str) -> Upsert:
    change = change_of(record_value, None, **settings)
    assert isinstance(change, Upsert)
    return change


def dense(vector: object) -> list[Any]:
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    found: list[Any] = vector.tolist()
    return found


# One value, one object


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    yield registry
    registry.close()


THE_POINT = {"collection_name": "c", "id": 2**53 + 1, "vector": [0.5, 1.0], "payload": {"n": 7}}
AVRO_SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Point",
    "fields": [
        {"name": "collection_name", "type": "string"},
        {"name": "id", "type": "long"},
        {"name": "vector", "type": {"type": "array", "items": "float"}},
        {"name": "payload", "type": {"type": "map", "values": "long"}},
    ],
}


def encoded(registry: Registry, kind: str) -> bytes:
    """The same point, as each format has it."""
    text = json.dumps(THE_POINT).encode()
    match kind:
        case "json":
            return text
        case "msgpack":
            return msgspec.msgpack.encode(THE_POINT)
        case "avro":
            registry.schemas[7] = {"schema": json.dumps(AVRO_SCHEMA)}
            return avro(AVRO_SCHEMA, THE_POINT)
        case "json-schema":
            registry.schemas[8] = {"schema": '{"type":"object"}', "schemaType": "JSON"}
            return frame(8, text)
    message = [
        {"name": "Point", "field": POINT_FIELDS},
        {"name": "Payload", "field": [proto_field("n", 1, "INT32")]},
    ]
    registry.schemas[9] = {
        "schemaType": "PROTOBUF",
        "schema": descriptor_text(name="a", package="p", syntax="proto3", messageType=message),
    }
    wire = b"\x0a\x01c" + b"\x10" + varint(2**53 + 1)
    wire += b"\x1a\x08" + struct.pack("<ff", 0.5, 1.0) + b"\x22\x02\x08\x07"
    return frame(9, b"\x00" + wire)


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(0x80 | number & 0x7F)
        number >>= 7
    return bytes([*digits, number])


@pytest.mark.parametrize("kind", ["json", "avro", "protobuf", "json-schema", "msgpack"])
def test_one_record_value_is_one_object_in_every_format(registry: Registry, kind: str) -> None:
    settings = {"value__converter": kind}
    if kind not in ("json", "msgpack"):
        settings["value__converter__schema__registry__url"] = registry.url
    change = upsert_of(encoded(registry, kind), **settings)
    assert (change.collection_name, change.point.id) == ("c", 2**53 + 1)
    assert dense(change.point.vectors[""]) == [0.5, 1.0]
    assert json.loads(change.point.payload) == {"n": 7}


def test_a_value_that_is_no_object_is_an_error() -> None:
    for text in (b"5", b'"x"', b"[1]", b"true"):
        assert refusal_of(text).message == "Record value must be an object"


# collection_name


def test_a_collection_name_is_a_string_and_not_empty() -> None:
    assert upsert_of(b'{"collection_name":"c","id":1}').collection_name == "c"
    for text in ("5", '""', "null", "[]"):
        refusal_of(b'{"collection_name":%s,"id":1}' % text.encode())


@pytest.mark.parametrize(
    "settings",
    [
        {"qdrant__collection__name": "mine"},
        {"topic__to__collection": "topic:mine"},
        {"collection__name__format": "mine", "topic__to__collection": "topic:mine"},
    ],
    ids=["the connector's", "a mapping's", "a mapping's over a format"],
)
def test_a_collection_name_is_required_unless_the_connector_or_a_mapping_gives_it(
    settings: dict[str, str],
) -> None:
    assert refusal_of(b'{"id":1}').message == "'collection_name' value is required"
    if "collection__name__format" in settings:
        settings = {**settings, "collection__name__format": "of-${topic}"}
    assert upsert_of(b'{"id":1}', **settings).collection_name == "mine"


# id


@pytest.mark.parametrize("number", [0, 1, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1])
def test_an_id_is_an_integer_of_64_bits_and_exact_over_the_whole_range(
    service: Service, number: int
) -> None:
    sink = Sink(service)
    sink.take(value(id=number, vector=[1.0]))
    assert sink.point(number) is not None
    assert service.points_count("c") == 1


@pytest.mark.parametrize(
    "text", [UUID_TEXT, UUID_TEXT.replace("-", ""), f"urn:uuid:{UUID_TEXT}", f"{{{UUID_TEXT}}}"]
)
def test_an_id_is_a_uuid_in_each_form_that_the_server_takes(text: str) -> None:
    assert upsert_of(value(id=text)).point.id == UUID(UUID_TEXT)


def test_the_id_5_0_is_5() -> None:
    found = upsert_of(b'{"collection_name":"c","id":5.0}').point.id
    assert (found, type(found)) == (5, int)


@pytest.mark.parametrize("literal", ["-1", "1.5", "true", '"123"', str(2**64), '"1-1-1-1-1"'])
def test_what_is_no_id_is_an_error(literal: str) -> None:
    text = b'{"collection_name":"c","id":%s}' % literal.encode()
    assert refusal_of(text).message.startswith("Point ID must be ")


# vector


@pytest.mark.parametrize("name", ["vector", "vectors"])
@pytest.mark.parametrize("fields", [{}, {"": None}, {"": {}}], ids=["absent", "null", "{}"])
def test_absent_null_or_empty_is_no_vectors(name: str, fields: dict[str, Any]) -> None:
    named = dict.fromkeys([name] * len(fields), next(iter(fields.values()), None))
    assert upsert_of(value(**named)).point.vectors == {}


def test_vectors_is_an_alias_of_vector() -> None:
    assert dense(upsert_of(value(vectors=[0.5])).point.vectors[""]) == [0.5]


def test_a_list_of_numbers_is_the_default_dense_vector() -> None:
    vectors = upsert_of(value(vector=[1, 0.5, -2])).point.vectors
    assert list(vectors) == [""]
    assert dense(vectors[""]) == [1.0, 0.5, -2.0]


def test_a_list_of_lists_is_a_multi_vector_whose_rows_are_not_empty_and_of_one_width() -> None:
    vectors = upsert_of(value(vector=[[1, 2], [3, 4], [5, 6]])).point.vectors
    assert dense(vectors[""]) == [[1, 2], [3, 4], [5, 6]]
    wrong: list[Any] = [[[1, 2], [3]], [[1], []], [[], []], [[1], 2]]
    for rows in wrong:
        assert refusal_of(value(vector=rows)).message.startswith("Multi vector ")


def test_an_object_is_named_vectors_each_dense_multi_or_sparse() -> None:
    named = {"d": [1, 2], "m": [[1], [2]], "s": {"indices": [7, 0], "values": [0.5, 1]}}
    vectors = upsert_of(value(vector=named)).point.vectors
    assert dense(vectors["d"]) == [1, 2]
    assert dense(vectors["m"]) == [[1], [2]]
    sparse = vectors["s"]
    assert isinstance(sparse, SparseVector)
    assert (sparse.indices.tolist(), sparse.values.tolist()) == ([7, 0], [0.5, 1.0])


@pytest.mark.parametrize(
    ("indices", "values"),
    [([1], [1.0, 2.0]), ([1, 1], [1.0, 2.0]), ([-1], [1.0]), ([2**32], [1.0])],
    ids=["unequal lengths", "an index twice", "below 0", "above 2^32-1"],
)
def test_a_sparse_vector_has_equal_lengths_and_unique_indices_of_32_bits(
    indices: list[int], values: list[float]
) -> None:
    largest = {"indices": [2**32 - 1, 0], "values": [1.0, 2.0]}
    assert "s" in upsert_of(value(vector={"s": largest})).point.vectors
    refusal_of(value(vector={"s": {"indices": indices, "values": values}}))


# payload


@pytest.mark.parametrize("fields", [{}, {"payload": None}, {"payload": {}}])
def test_a_payload_is_an_object_and_absent_or_null_is_an_empty_one(fields: dict[str, Any]) -> None:
    assert upsert_of(value(**fields)).point.payload == b"{}"
    others: list[Any] = [[], 1, "x", True]
    for other in others:
        assert refusal_of(value(payload=other)).message == "Payload must be an object."


@pytest.mark.parametrize("number", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_integers_of_a_payload_are_exact(service: Service, number: int) -> None:
    sink = Sink(service)
    sink.take(value(vector=[1.0], payload={"n": number}))
    assert sink.payload(1) == {"n": number}


@pytest.mark.parametrize("literal", ["5.0", "1e300", "-0.0"])
def test_floats_of_a_payload_stay_floats(service: Service, literal: str) -> None:
    sink = Sink(service)
    sink.take(b'{"collection_name":"c","id":1,"vector":[1],"payload":{"f":%s}}' % literal.encode())
    stored = sink.payload(1)["f"]
    assert (type(stored), repr(stored)) == (float, repr(float(literal)))


def test_a_payload_nested_120_levels_deep_is_stored(service: Service) -> None:
    sink = Sink(service)
    nested: Any = 1
    for _ in range(119):
        nested = {"a": nested}
    sink.take(value(vector=[1.0], payload={"a": nested}))
    assert sink.payload(1) == {"a": nested}


# The rest of a value


def test_other_top_level_fields_are_ignored() -> None:
    change = upsert_of(value(vector=[1], shard_key="x", extra={"vector": [[2]]}))
    assert dense(change.point.vectors[""]) == [1.0]
    assert change.point.payload == b"{}"


def test_a_null_value_deletes_the_point_of_the_key(service: Service) -> None:
    sink = Sink(service)
    sink.take(value(id=1, vector=[1.0]), value(id=2, vector=[1.0]))
    sink.take((b'{"id":1,"collection_name":"c"}', None))
    assert sink.point(1) is None
    assert sink.point(2) is not None


@pytest.mark.parametrize(
    ("kafka_key", "point_id"),
    [(b"1", 1), (b'"%s"' % UUID_TEXT.encode(), UUID(UUID_TEXT)), (b'{"id":1}', 1)],
)
def test_a_bare_id_is_key_enough_when_the_collection_is_known(
    kafka_key: bytes, point_id: int | UUID
) -> None:
    known = {"qdrant__collection__name": "mine"}
    assert change_of(None, kafka_key, **known) == Delete("mine", point_id)
    assert "'collection_name'" in refusal_of(None, kafka_key).message


@pytest.mark.parametrize("literal", ["1e39", "-1e39", "NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "vector", ["[1,%s]", '{"d":[1,%s]}', '{"s":{"indices":[1,2],"values":[1,%s]}}']
)
def test_an_element_that_is_not_finite_in_float32_is_an_error_that_names_it(
    literal: str, vector: str
) -> None:
    text = b'{"collection_name":"c","id":1,"vector":%s}' % (vector % literal).encode()
    message = refusal_of(text).message
    assert message.startswith("Vector element 1 is not finite in float32: ")


@pytest.mark.parametrize(
    "payload", [f'{{"n":{2**64}}}', f'{{"n":{-(2**63) - 1}}}', '{"f":1e400}', r'{"t":"\ud800"}']
)
def test_a_value_is_never_changed_silently(payload: str) -> None:
    refusal_of(b'{"collection_name":"c","id":1,"payload":%s}' % payload.encode())


# Error texts


def multi(rows: object) -> dict[str, object]:
    return {"vector": {"m": rows}}


def sparse(**fields: object) -> dict[str, object]:
    return {"vector": {"s": fields}}


ABSENT = object()
ERROR_TEXTS: list[tuple[dict[str, object], str]] = [
    ({"id": ABSENT}, "'id' value is required"),
    ({"id": None}, "'id' value cannot be null"),
    ({"id": -1}, "Point ID must be a positive integer"),
    ({"id": 1.5}, "Point ID must be a UUID string or an integer"),
    ({"id": "123"}, "Point ID must be a valid UUID string. Invalid UUID: '123'"),
    ({"collection_name": ABSENT}, "'collection_name' value is required"),
    ({"collection_name": None}, "'collection_name' value cannot be null"),
    ({"collection_name": 5}, "Collection name must be a string"),
    ({"collection_name": ""}, "Collection name cannot be empty"),
    ({"payload": 5}, "Payload must be an object."),
    ({"vector": "x"}, "Invalid vector format"),
    ({"vector": []}, "Dense vector cannot be empty"),
    ({"vector": [1, "2"]}, "Dense vector data must be a list of numbers"),
    ({"vector": {"a": 5}}, "Named vector values must be either dense or sparse vectors"),
    (multi([[1, 2], 3]), "Multi vector data must be a list of lists of numbers"),
    (
        multi([[1, 2], [3]]),
        "Multi vector rows must have consistent dimensions (expected: 2, found: 1)",
    ),
    (sparse(indices=[1]), "Sparse vector must contain 'indices' and 'values' fields"),
    (sparse(indices=["1"], values=[1]), "Indices must be a list of integers"),
    (
        sparse(indices=[1, 2], values=[1]),
        "Sparse vector 'indices' and 'values' must have the same length (indices: 2, values: 1)",
    ),
]


@pytest.mark.parametrize(
    ("fields", "text"), ERROR_TEXTS, ids=[text[:40] for _, text in ERROR_TEXTS]
)
def test_an_error_text_is_javas(fields: dict[str, object], text: str) -> None:
    whole = {"collection_name": "c", "id": 1} | fields
    record = {name: one for name, one in whole.items() if one is not ABSENT}
    assert refusal_of(json.dumps(record).encode()).message == text


# Beyond Java


def test_a_flat_row_needs_no_envelope() -> None:
    row = {"key": 7, "embedding": [1, 2], "city": "Oslo", "size": 3}
    settings = {
        "id__field": "key",
        "vector__field": "embedding",
        "qdrant__collection__name": "c",
    }
    change = upsert_of(json.dumps(row).encode(), **settings)
    assert change.point.id == 7
    assert dense(change.point.vectors[""]) == [1, 2]
    assert json.loads(change.point.payload) == {"city": "Oslo", "size": 3}


@pytest.mark.parametrize(
    ("fields", "payload"), [("a", {"a": 1}), ("a,b", {"a": 1, "b": 2}), ("*", {"a": 1, "b": 2})]
)
def test_the_payload_of_a_flat_row_is_a_list_of_fields_or_all(
    fields: str, payload: dict[str, int]
) -> None:
    settings = {"payload__fields": fields, "qdrant__collection__name": "c"}
    change = upsert_of(b'{"id":1,"a":1,"b":2}', **settings)
    assert json.loads(change.point.payload) == payload


PAYLOAD_OPERATIONS: list[tuple[dict[str, object], type]] = [
    ({"op": "set_payload", "payload": {"a": 1}}, SetPayload),
    ({"op": "overwrite_payload", "payload": {"a": 1}}, OverwritePayload),
    ({"op": "delete_payload", "keys": ["a"]}, DeletePayload),
    ({"op": "clear_payload"}, ClearPayload),
]


@pytest.mark.parametrize("ids", [{"id": 1}, {"ids": [1, 2]}], ids=["one id", "ids"])
@pytest.mark.parametrize(
    "op",
    ["upsert", "update_vectors", "delete", *(str(one["op"]) for one, _ in PAYLOAD_OPERATIONS)],
)
def test_an_operation_is_named_by_op_and_acts_by_ids(op: str, ids: dict[str, object]) -> None:
    fields: dict[str, object] = {"collection_name": "c", "op": op}
    if op == "upsert":
        change = change_of(json.dumps(fields | {"id": 1, "vector": [1]}).encode())
        assert isinstance(change, Upsert)
        return
    operations = {str(one["op"]): (one, kind) for one, kind in PAYLOAD_OPERATIONS}
    given, kind = operations.get(op, ({"vector": [1]} if op == "update_vectors" else {}, None))
    found = changes_of(json.dumps(fields | given | ids).encode())
    assert [one.point_id for one in found] == ids.get("ids", [1])
    for one in found:
        if kind is not None:
            assert isinstance(one, PayloadPatch)
            assert isinstance(one.operation, kind)
        else:
            assert isinstance(one, VectorPatch if op == "update_vectors" else Delete)


@pytest.mark.parametrize("method", ["replace", "merge"])
def test_merge_keeps_what_a_record_does_not_name_and_replace_does_not(
    service: Service, method: str
) -> None:
    sink = Sink(service, write__method=method)
    first = {"vector": {"a": [1.0], "b": [2.0]}, "payload": {"x": 1, "y": 2}}
    sink.take(value(**first))
    sink.take(value(vector={"a": [3.0]}, payload={"x": 5}))
    point = sink.point(1)
    assert point is not None
    vectors = {name: dense(one) for name, one in (point.vectors or {}).items()}
    if method == "merge":
        assert (vectors, sink.payload(1)) == ({"a": [3.0], "b": [2.0]}, {"x": 5, "y": 2})
    else:
        assert (vectors, sink.payload(1)) == ({"a": [3.0]}, {"x": 5})


def test_change_events_of_debezium_put_and_delete(service: Service) -> None:
    sink = Sink(service, id__field="id", vector__field="v", qdrant__collection__name="c")
    make_collection(service)

    def event(op: str, **rows: object) -> bytes:
        return json.dumps({"op": op, "before": None, "after": None, "source": {}} | rows).encode()

    row = {"id": 1, "v": [1, 2], "n": 1}
    sink.take(event("c", after=row), event("r", after={**row, "id": 2}))
    assert (sink.payload(1), sink.payload(2)) == ({"n": 1}, {"n": 1})
    sink.take(event("u", before=row, after={**row, "n": 2}))
    assert sink.payload(1) == {"n": 2}
    sink.take((b'{"id":1}', event("d", before=row)), (b'{"id":1}', None))
    assert sink.point(1) is None
    assert sink.reasons == []


def test_a_flattened_row_that_is_marked_deleted_is_deleted() -> None:
    settings = {"id__field": "id", "qdrant__collection__name": "c"}
    gone = b'{"id":1,"n":1,"__deleted":"true"}'
    assert change_of(gone, None, **settings) == Delete("c", 1)
    stays = upsert_of(b'{"id":1,"n":1,"__deleted":"false"}', **settings)
    assert json.loads(stays.point.payload) == {"n": 1}


def test_metadata_of_the_record_goes_into_the_payload_on_demand(service: Service) -> None:
    parts = "topic,partition,offset,timestamp,headers"
    record = KafkaRecord(
        SourcePartition("connect-test", "topic", 3),
        41,
        None,
        value(vector=[1.0], payload={"n": 1}),
        [("trace", b"abc")],
        1_700_000_000_000,
    )
    asking = Sink(service, payload__metadata=parts)
    asking.take_records([record])
    payload = asking.payload(1)
    metadata = payload.pop("_kafka")
    assert payload == {"n": 1}
    assert (metadata["topic"], metadata["partition"], metadata["offset"]) == ("topic", 3, 41)
    assert set(metadata) == set(parts.split(","))
    assert metadata["headers"] == {"trace": "abc"}
    assert "_kafka" not in json.loads(upsert_of(value(payload={"n": 1})).point.payload)
