from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.vectors import SparseVector, Vector
from headrace.sink.converters import Converter, JsonConverter, TextConverter
from headrace.sink.decode import RecordDecoder
from headrace.sink.envelope import Change, Delete, Upsert, read_upsert
from headrace.sink.errors import Reason, RecordError, Stage
from headrace.sink.json_value import parse_json

PLAIN_JSON = JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=False)
UUID_TEXT = "a10435b5-2a58-427a-a3a0-a5d845b147b7"


def decoder(
    collection_name: str | None = None,
    value_converter: Converter = PLAIN_JSON,
    key_converter: Converter | None = None,
) -> RecordDecoder:
    return RecordDecoder(value_converter, key_converter, collection_name)


def record(**fields: object) -> bytes:
    return json.dumps({"collection_name": "c", "id": 1} | fields).encode()


def decode(value: bytes | None, kafka_key: bytes | None = None) -> Change:
    return decoder().decode(kafka_key, value)


def upsert(value: bytes) -> Upsert:
    change = decode(value)
    assert isinstance(change, Upsert)
    return change


def dense(vector: Vector) -> list[float]:
    assert isinstance(vector, np.ndarray)
    assert vector.dtype == np.float32
    values: list[float] = vector.tolist()
    return values


def refusal(value: bytes | None, kafka_key: bytes | None = None) -> RecordError:
    with pytest.raises(RecordError) as caught:
        decode(value, kafka_key)
    return caught.value


class TestFormats:
    def test_default_vector(self) -> None:
        change = upsert(record(vector=[0.1, 0.2], payload={"name": "kafka"}))
        assert change.collection_name == "c"
        assert change.point.id == 1
        assert dense(change.point.vectors[""]) == pytest.approx([0.1, 0.2])
        assert change.point.payload == b'{"name":"kafka"}'

    def test_named_vectors(self) -> None:
        vectors = upsert(record(vector={"a": [0.5], "b": [1.5, 2.5]})).point.vectors
        assert {name: dense(one) for name, one in vectors.items()} == {"a": [0.5], "b": [1.5, 2.5]}

    def test_sparse_vector(self) -> None:
        vector = upsert(record(vector={"s": {"indices": [9, 0], "values": [0.5, 1]}})).point.vectors
        sparse = vector["s"]
        assert isinstance(sparse, SparseVector)
        assert sparse.indices.dtype == np.uint32
        assert sparse.indices.tolist() == [9, 0]
        assert sparse.values.dtype == np.float32
        assert sparse.values.tolist() == [0.5, 1.0]

    def test_multi_vector(self) -> None:
        vectors = upsert(record(vector={"m": [[0.5, 1], [1.5, 2], [2.5, 3]]})).point.vectors
        assert np.array_equal(vectors["m"], np.float32([[0.5, 1], [1.5, 2], [2.5, 3]]))  # type: ignore[arg-type]

    def test_combination_of_dense_and_sparse_with_a_uuid(self) -> None:
        sparse = {"indices": list(range(10)), "values": [0.1] * 10}
        change = upsert(record(id=UUID_TEXT, vector={"d": [0.5], "s": sparse}))
        assert change.point.id == UUID(UUID_TEXT)
        assert set(change.point.vectors) == {"d", "s"}

    @pytest.mark.parametrize("fields", [{}, {"vector": None}, {"vector": {}}])
    def test_a_point_may_have_no_vector(self, fields: dict[str, object]) -> None:
        assert upsert(record(**fields)).point.vectors == {}

    def test_vectors_is_another_name_for_vector(self) -> None:
        assert dense(upsert(record(vectors=[0.5])).point.vectors[""]) == [0.5]
        assert dense(upsert(record(vector=None, vectors=[0.5])).point.vectors[""]) == [0.5]

    def test_other_fields_are_ignored(self) -> None:
        change = upsert(record(shard_key_selector=[5235], x={"y": [[1]]}, vector=[1]))
        assert dense(change.point.vectors[""]) == [1.0]

    def test_of_a_key_given_twice_the_last_value_counts(self) -> None:
        text = b'{"collection_name":"c","id":1,"id":2,"payload":{"a":{"b":1,"b":2}}}'
        change = upsert(text)
        assert change.point.id == 2
        assert change.point.payload == b'{"a":{"b":2}}'
        assert upsert(record(payload=None)[:-1] + b',"id":3}').point.id == 3

    def test_the_connectors_collection_wins_over_the_records(self) -> None:
        for value in (b'{"id":1}', record(), record(collection_name="other")):
            assert decoder("mine").decode(None, value).collection_name == "mine"


class TestIds:
    @pytest.mark.parametrize("number", [0, 1, 2**53 + 1, 2**63, 2**64 - 1])
    def test_integers_are_exact(self, number: int) -> None:
        assert upsert(record(id=number)).point.id == number

    def test_an_integral_float_is_an_integer(self) -> None:
        assert upsert(record(id=5.0)).point.id == 5

    @pytest.mark.parametrize(
        "text",
        [UUID_TEXT, UUID_TEXT.replace("-", ""), f"urn:uuid:{UUID_TEXT}", f"{{{UUID_TEXT}}}"],
    )
    def test_uuids_in_every_spelling(self, text: str) -> None:
        assert upsert(record(id=text)).point.id == UUID(UUID_TEXT)

    @pytest.mark.parametrize(
        ("literal", "text"),
        [
            ("-1", "Point ID must be a positive integer"),
            ("18446744073709551616", "Point ID must be a positive integer"),
            ("1.5", "Point ID must be a UUID string or an integer"),
            ("true", "Point ID must be a UUID string or an integer"),
            ("[1]", "Point ID must be a UUID string or an integer"),
            ('"123"', "Point ID must be a valid UUID string. Invalid UUID: '123'"),
            ('"1-1-1-1-1"', "Point ID must be a valid UUID string. Invalid UUID: '1-1-1-1-1'"),
            ("null", "'id' value cannot be null"),
        ],
    )
    def test_what_is_no_id_is_refused(self, literal: str, text: str) -> None:
        error = refusal(f'{{"collection_name":"c","id":{literal}}}'.encode())
        assert error.message == text
        assert error.reason is Reason.INVALID_ID
        assert error.stage is Stage.TASK_PUT

    def test_an_id_is_required(self) -> None:
        assert refusal(b'{"collection_name":"c"}').message == "'id' value is required"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("{}", "'collection_name' value is required"),
        ('{"collection_name":null}', "'collection_name' value cannot be null"),
        ('{"collection_name":5}', "Collection name must be a string"),
        ('{"collection_name":""}', "Collection name cannot be empty"),
    ],
)
def test_a_collection_name_is_required(fields: str, text: str) -> None:
    error = refusal(fields.encode())
    assert error.message == text
    assert error.reason is Reason.INVALID_COLLECTION_NAME


class TestVectors:
    @pytest.mark.parametrize(
        ("literal", "text"),
        [
            ('"x"', "Invalid vector format"),
            ("5", "Invalid vector format"),
            ("true", "Invalid vector format"),
            ("[]", "Dense vector cannot be empty"),
            ('{"a":[]}', "Dense vector cannot be empty"),
            ('[1,"x"]', "Dense vector data must be a list of numbers"),
            ("[1,true]", "Dense vector data must be a list of numbers"),
            ("[1,null]", "Dense vector data must be a list of numbers"),
            ("[1,{}]", "Dense vector data must be a list of numbers"),
            ('{"a":5}', "Named vector values must be either dense or sparse vectors"),
            ('{"a":null}', "Named vector values must be either dense or sparse vectors"),
            ("[1,[2]]", "Multi vector data must be a list of lists of numbers"),
            ("[[1],2]", "Multi vector data must be a list of lists of numbers"),
            ("[[1],[[2]]]", "Multi vector data must be a list of lists of numbers"),
            ("[[[1]],[[2]]]", "Multi vector data must be a list of lists of numbers"),
            ('[[1],["x"]]', "Multi vector data must be a list of lists of numbers"),
            ("[[],[]]", "Multi vector rows cannot be empty"),
            (
                "[[1,2],[3]]",
                "Multi vector rows must have consistent dimensions (expected: 2, found: 1)",
            ),
            (
                "[[1,2],[]]",
                "Multi vector rows must have consistent dimensions (expected: 2, found: 0)",
            ),
            (
                '{"s":{"indices":[1]}}',
                "Sparse vector must contain 'indices' and 'values' fields",
            ),
            ('{"s":{"indices":5,"values":[]}}', "Indices must be a list of integers"),
            ('{"s":{"indices":["1"],"values":[1]}}', "Indices must be a list of integers"),
            ('{"s":{"indices":[1.5],"values":[1]}}', "Indices must be a list of integers"),
            ('{"s":{"indices":[true],"values":[1]}}', "Indices must be a list of integers"),
            ('{"s":{"indices":[[1]],"values":[1]}}', "Indices must be a list of integers"),
            (
                '{"s":{"indices":[-1],"values":[1]}}',
                "Indices must be a list of integers from 0 to 4294967295 (found: -1)",
            ),
            (
                '{"s":{"indices":[4294967296],"values":[1]}}',
                "Indices must be a list of integers from 0 to 4294967295 (found: 4294967296)",
            ),
            (
                '{"s":{"indices":[1,2],"values":[1]}}',
                "Sparse vector 'indices' and 'values' must have the same length "
                "(indices: 2, values: 1)",
            ),
            (
                '{"s":{"indices":[3,3],"values":[1,2]}}',
                "Sparse vector indices must be unique (found twice: 3)",
            ),
            (
                '{"s":{"indices":[1],"values":5}}',
                "Sparse vector 'values' must be a list of numbers",
            ),
            (
                '{"s":{"indices":[1],"values":["x"]}}',
                "Sparse vector 'values' must be a list of numbers",
            ),
        ],
    )
    def test_what_is_no_vector_is_refused(self, literal: str, text: str) -> None:
        error = refusal(f'{{"collection_name":"c","id":1,"vector":{literal}}}'.encode())
        assert error.message == text
        assert error.reason is Reason.INVALID_VECTOR

    @pytest.mark.parametrize("payload", ["{}", '{"t":["["]}', r'{"t":"\u005b\u005B"}'])
    @pytest.mark.parametrize("vector", ["[1,[2]]", "[[1],[[2]]]", "[[[1]]]", '{"a":[1,[2]]}'])
    def test_brackets_elsewhere_do_not_hide_a_nested_array(self, payload: str, vector: str) -> None:
        value = f'{{"collection_name":"c","id":1,"vector":{vector},"payload":{payload}}}'
        assert "list of lists of numbers" in refusal(value.encode()).message

    @pytest.mark.parametrize("payload", ["{}", '{"t":["["]}', r'{"t":"\u005b\u005B"}'])
    def test_brackets_elsewhere_do_not_spoil_a_flat_array(self, payload: str) -> None:
        value = f'{{"x[":[[]],"collection_name":"c","id":1,"vector":[1,2],"payload":{payload}}}'
        assert dense(upsert(value.encode()).point.vectors[""]) == [1.0, 2.0]

    @pytest.mark.parametrize("number", ["1e39", "-1e39", "NaN", "Infinity", "-Infinity", "1e400"])
    def test_an_element_that_float32_cannot_hold_is_named(self, number: str) -> None:
        value = f'{{"collection_name":"c","id":1,"vector":[0.5,{number}]}}'
        assert "Vector element 1 is not finite in float32" in refusal(value.encode()).message
        value = f'{{"collection_name":"c","id":1,"vector":{{"m":[[0.5],[{number}]]}}}}'
        assert "element 0 in row 1 is not finite in float32" in refusal(value.encode()).message

    def test_integers_of_any_size_are_numbers(self) -> None:
        assert dense(upsert(record(vector=[2**70, -3])).point.vectors[""]) == [2.0**70, -3.0]
        assert "element 0" in refusal(record(vector=[10**400])).message

    def test_numbers_are_rounded_to_float32_once(self) -> None:
        assert dense(upsert(record(vector=[0.1])).point.vectors[""]) == [float(np.float32(0.1))]

    def test_a_sparse_index_may_be_written_as_a_float(self) -> None:
        vector = upsert(record(vector={"s": {"indices": [5.0], "values": [1]}})).point.vectors["s"]
        assert isinstance(vector, SparseVector)
        assert vector.indices.tolist() == [5]

    def test_an_empty_sparse_vector_is_one(self) -> None:
        vector = upsert(record(vector={"s": {"indices": [], "values": []}})).point.vectors["s"]
        assert isinstance(vector, SparseVector)
        assert len(vector.indices) == len(vector.values) == 0


class TestPayloads:
    @pytest.mark.parametrize("fields", [{}, {"payload": None}, {"payload": {}}])
    def test_no_payload_is_an_empty_one(self, fields: dict[str, object]) -> None:
        assert upsert(record(**fields)).point.payload == b"{}"

    @pytest.mark.parametrize(
        "literal",
        ["5.0", "1e300", "-0.0", "5", "9223372036854775807", "-9223372036854775808", "0.1"],
    )
    def test_numbers_stay_what_they_are(self, literal: str) -> None:
        payload = upsert(record(payload={})[:-3] + f'{{"n":{literal}}}}}'.encode()).point.payload
        stored, sent = json.loads(payload)["n"], json.loads(literal)
        assert (type(stored), repr(stored)) == (type(sent), repr(sent))

    def test_unsigned_integers_are_exact(self) -> None:
        assert upsert(record(payload={"n": 2**64 - 1})).point.payload == b'{"n":%d}' % (2**64 - 1)

    @pytest.mark.parametrize(
        ("literal", "text"),
        [
            ("18446744073709551616", "the integer at 'a[0].b' does not fit into 64 bits"),
            ("-9223372036854775809", "the integer at 'a[0].b' does not fit into 64 bits"),
            ("1e400", "the number at 'a[0].b' is not finite"),
            ("NaN", "the number at 'a[0].b' is not finite"),
        ],
    )
    def test_a_number_that_would_change_is_refused(self, literal: str, text: str) -> None:
        value = f'{{"collection_name":"c","id":1,"payload":{{"a":[{{"b":{literal}}}]}}}}'
        error = refusal(value.encode())
        assert error.message == f"Payload cannot be stored exactly: {text}"
        assert error.reason is Reason.INVALID_PAYLOAD

    @pytest.mark.parametrize("payload", [[], 5, "x", True])
    def test_a_payload_is_an_object(self, payload: object) -> None:
        assert refusal(record(payload=payload)).message == "Payload must be an object."

    @pytest.mark.parametrize("levels", [120, 253])
    def test_deep_nesting_is_stored(self, levels: int) -> None:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        assert orjson.loads(upsert(record(payload=value)).point.payload) == value

    @pytest.mark.parametrize("levels", [300, 900, 100_000])
    def test_too_deep_nesting_is_refused(self, levels: int) -> None:
        nested = "[" * levels + "]" * levels
        value = f'{{"collection_name":"c","id":1,"payload":{{"a":{nested}}}}}'
        assert "nested" in refusal(value.encode()).message

    def test_a_lone_surrogate_is_refused(self) -> None:
        error = refusal(rb'{"collection_name":"c","id":1,"payload":{"a":"\ud800"}}')
        assert error.reason is Reason.INVALID_PAYLOAD


class TestConverters:
    @pytest.mark.parametrize("value", [b"", b"{", b"nul", b'{"a":1} x', b"\xff", b'{"a":"\xff"}'])
    def test_what_is_not_json_is_a_converter_error(self, value: bytes) -> None:
        error = refusal(value)
        assert error.stage is Stage.VALUE_CONVERTER
        assert error.class_name == "org.apache.kafka.connect.json.JsonConverter"
        assert error.reason is Reason.INVALID_JSON

    @pytest.mark.parametrize("value", [b"5", b'"x"', b"[1]", b"true"])
    def test_a_value_is_an_object(self, value: bytes) -> None:
        error = refusal(value)
        assert error.message == "Record value must be an object"
        assert error.stage is Stage.TASK_PUT

    def test_with_schemas_enabled_a_bare_value_is_refused_with_advice(self) -> None:
        strict = decoder(value_converter=JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=True))
        with pytest.raises(RecordError, match=r"set schemas\.enable=false") as caught:
            strict.decode(None, record())
        assert caught.value.stage is Stage.VALUE_CONVERTER
        assert caught.value.reason is Reason.INVALID_SCHEMA

    def test_with_schemas_enabled_the_payload_is_read_by_its_schema(self) -> None:
        schema = {
            "type": "struct",
            "fields": [
                {"field": "collection_name", "type": "string", "default": "c"},
                {"field": "id", "type": "int64"},
                {"field": "vector", "type": "array", "items": {"type": "float"}},
                {"field": "payload", "type": "map", "values": {"type": "string"}, "optional": True},
            ],
        }
        strict = decoder(value_converter=JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=True))
        value = {"schema": schema, "payload": {"id": 7, "vector": [1, 0.5]}}
        change = strict.decode(None, json.dumps(value).encode())
        assert isinstance(change, Upsert)
        assert (change.collection_name, change.point.id) == ("c", 7)
        assert dense(change.point.vectors[""]) == [1.0, 0.5]
        value["payload"] = {"id": "7", "vector": [1]}
        with pytest.raises(RecordError, match=r"payload\.id is not an int64"):
            strict.decode(None, json.dumps(value).encode())

    def test_text_that_is_json_is_read_as_json(self) -> None:
        change = decoder(value_converter=TextConverter()).decode(None, record(vector=[1]))
        assert isinstance(change, Upsert)
        with pytest.raises(RecordError, match="must be an object") as caught:
            decoder(value_converter=TextConverter()).decode(None, b"plain text")
        assert caught.value.stage is Stage.TASK_PUT

    def test_keys_are_left_alone_unless_a_key_converter_is_given(self) -> None:
        assert decode(record(), kafka_key=b"\xff not json")
        strict = JsonConverter(Stage.KEY_CONVERTER, schemas_enable=False)
        with pytest.raises(RecordError) as caught:
            decoder(key_converter=strict).decode(b"\xff not json", record())
        assert caught.value.stage is Stage.KEY_CONVERTER

    def test_with_schemas_enabled_a_bare_key_is_refused(self) -> None:
        strict = JsonConverter(Stage.KEY_CONVERTER, schemas_enable=True)
        with pytest.raises(RecordError, match=r"schemas\.enable=false"):
            decoder(key_converter=strict).decode(b"1", record())


class TestTombstones:
    def test_the_key_names_the_point(self) -> None:
        assert decode(None, b'{"id":1,"collection_name":"c"}') == Delete("c", 1)

    @pytest.mark.parametrize("value", [None, b"null"])
    def test_a_null_value_is_a_tombstone(self, value: bytes | None) -> None:
        assert decode(value, b'{"id":1,"collection_name":"c"}') == Delete("c", 1)

    @pytest.mark.parametrize(
        ("key", "point_id"),
        [
            (b"1", 1),
            (b"5.0", 5),
            (b'{"id":1}', 1),
            (f'"{UUID_TEXT}"'.encode(), UUID(UUID_TEXT)),
            (UUID_TEXT.encode(), UUID(UUID_TEXT)),
            (b"12345678901234567890123456789012", UUID("12345678901234567890123456789012")),
        ],
    )
    def test_a_bare_id_is_enough_when_the_collection_is_known(
        self, key: bytes, point_id: int | UUID
    ) -> None:
        assert decoder("c").decode(key, None) == Delete("c", point_id)

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            (None, "'id' value is required"),
            (b"1", "'collection_name' value is required"),
            (b'{"id":1}', "'collection_name' value is required"),
            (b'{"collection_name":"c"}', "'id' value is required"),
            (b'{"collection_name":"c","id":-1}', "Point ID must be a positive integer"),
        ],
    )
    def test_a_key_that_names_no_point_is_refused(self, key: bytes | None, text: str) -> None:
        assert refusal(None, key).message == text


def test_a_decoder_goes_on_after_every_kind_of_bad_record() -> None:
    one = decoder()
    bad = [b"{", b'{"a":' + b"[" * 100_000, b"[1]", b'{"id":99999999999999999999999}', b"\xff"]
    for value in bad:
        with pytest.raises(RecordError):
            one.decode(None, value)
        assert isinstance(one.decode(None, record(vector=[1, 2])), Upsert)


JSON_NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False)
)
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), JSON_NUMBERS, st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
VECTORS = st.one_of(
    st.lists(JSON_NUMBERS, max_size=4),
    st.lists(st.one_of(JSON_NUMBERS, st.lists(JSON_NUMBERS, max_size=2)), max_size=3),
    st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.one_of(
            st.lists(JSON_NUMBERS, max_size=3),
            st.lists(st.lists(JSON_NUMBERS, min_size=1, max_size=2), max_size=3),
            st.fixed_dictionaries(
                {"indices": st.lists(st.integers(-1, 2**33)), "values": st.lists(JSON_NUMBERS)}
            ),
            JSON_VALUES,
        ),
        max_size=2,
    ),
    JSON_VALUES,
)
RECORDS = st.fixed_dictionaries(
    {"collection_name": st.one_of(st.just("c"), JSON_VALUES)},
    optional={
        "id": st.one_of(st.integers(-2, 2**64), st.uuids().map(str), JSON_VALUES),
        "vector": VECTORS,
        "vectors": VECTORS,
        "payload": st.one_of(
            st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3), JSON_VALUES
        ),
        "extra": JSON_VALUES,
    },
)


def outcome(change: Upsert) -> object:
    vectors: dict[str, object] = {}
    for name, vector in change.point.vectors.items():
        if isinstance(vector, SparseVector):
            vectors[name] = (vector.indices.tolist(), vector.values.tolist())
        else:
            vectors[name] = (vector.dtype, vector.tolist())
    return change.collection_name, change.point.id, vectors, change.point.payload


@settings(deadline=None, max_examples=400)
@given(RECORDS, st.booleans())
def test_the_fast_way_and_the_plain_way_agree(fields: dict[str, object], ascii_only: bool) -> None:
    text = json.dumps(fields, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        expected: object = outcome(read_upsert(parse_json(text), None))
    except RecordError as error:
        expected = error.message
    try:
        change = decode(text)
        assert isinstance(change, Upsert)
        found: object = outcome(change)
    except RecordError as error:
        found = error.message
    assert found == expected
