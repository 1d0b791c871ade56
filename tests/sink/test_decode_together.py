from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.operations import SourcePartition
from headrace.model.points import PointStruct
from headrace.sink import decode_together
from headrace.sink.batch import Batch, KafkaRecord, decode_batch
from headrace.sink.changes import Upsert
from headrace.sink.converters import Converter, JsonConverter
from headrace.sink.decode import RecordDecoder
from headrace.sink.decode_together import EnvelopesReader
from headrace.sink.entries import Entry, UpsertColumns
from headrace.sink.envelope import read_upsert
from headrace.sink.errors import RecordError, Stage
from headrace.sink.json_value import InvalidJson, parse_json
from headrace.sink.shapes.routing import Routing
from headrace.sink.shapes.shape import Shape

PLAIN_JSON = JsonConverter(Stage.VALUE_CONVERTER, schemas_enable=False)
PARTITION = SourcePartition("s", "topic", 0)
Point = tuple[str, object, dict[str, list[str]], bytes]


@pytest.fixture(autouse=True, scope="module", params=["compiled scan", "parsers"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways in which records are read together."""
    compiled = decode_together.scan
    if request.param == "parsers":
        decode_together.scan = None
    elif compiled is None:
        pytest.skip("the package was built without a C compiler")
    yield
    decode_together.scan = compiled


def envelope(point_id: object = 1, vector: object = (0.5, 1), **fields: object) -> bytes:
    return json.dumps(
        {"collection_name": "c", "id": point_id, "vector": vector, "payload": {}} | fields
    ).encode()


def records(values: Sequence[bytes | None], kafka_key: bytes | None = None) -> list[KafkaRecord]:
    return [KafkaRecord(PARTITION, rank, kafka_key, value) for rank, value in enumerate(values)]


def decoded(
    values: Sequence[bytes | None],
    collection_name: str | None = None,
    kafka_key: bytes | None = None,
    key_converter: Converter | None = None,
) -> Batch:
    decoder = RecordDecoder(PLAIN_JSON, key_converter, collection_name)
    return decode_batch(records(values, kafka_key), decoder)


def columns_of(batch: Batch) -> UpsertColumns:
    (entries,) = batch.entries.values()
    assert isinstance(entries, UpsertColumns)
    return entries


def point_of(entry: Entry) -> Point:
    change = entry.change
    assert isinstance(change, Upsert)
    return shown(change.collection_name, change.point)


def shown(collection_name: str, point: PointStruct) -> Point:
    vectors: dict[str, list[str]] = {}
    for name, vector in point.vectors.items():
        assert isinstance(vector, np.ndarray)
        assert vector.dtype == np.float32
        # Negative zero is another number than zero here.
        vectors[name] = [*map(repr, vector.tolist())]
    return collection_name, point.id, vectors, point.payload


def read_alone(value: bytes) -> Point | str:
    """What a record stands for by the slow and plain rules, or what is wrong with it."""
    try:
        fields = parse_json(value)
        # A tombstone without a key.
        if fields is None:
            return "'id' value is required"
        upsert = read_upsert(fields, None)
    except InvalidJson:
        return "not JSON"
    except RecordError as error:
        return error.message
    return shown(upsert.collection_name, upsert.point)


def read_in_batch(values: Sequence[bytes]) -> list[Point | str]:
    batch = decoded(values)
    found: dict[int, Point | str] = {}
    for entries in batch.entries.values():
        for entry in entries:
            found[entry.kafka_record.kafka_offset] = point_of(entry)
    for refusal in batch.refusals:
        message = refusal.error.message
        is_json = "not JSON" not in message
        found[refusal.kafka_record.kafka_offset] = message if is_json else "not JSON"
    return [found[rank] for rank in range(len(values))]


class TestWhatIsReadTogether:
    def test_plain_envelopes_become_columns(self) -> None:
        uuid = "a10435b5-2a58-427a-a3a0-a5d845b147b7"
        values = [
            envelope(7, [0.25, -1], payload={"a": [1, 2.5, "x"]}),
            envelope(uuid, [3, 4e-3], payload=None),
        ]
        columns = columns_of(decoded(values))
        assert columns.collection_name == "c"
        assert columns.ids == [7, UUID(uuid)]
        assert columns.vectors.dtype == np.float32
        assert columns.vectors.tolist() == [[0.25, -1], [3, pytest.approx(4e-3)]]
        assert columns.payloads == [b'{"a":[1,2.5,"x"]}', b"{}"]
        assert columns.first_offsets == {PARTITION: 0}

    def test_many_texts_are_read_in_portions(self) -> None:
        values = [envelope(i, [i, *[0.1] * 400]) for i in range(300)]
        columns = columns_of(decoded(values))
        assert columns.vectors[:, 0].tolist() == [*range(300)]

    @pytest.mark.parametrize("key", ["vector", "vectors"])
    def test_either_key_and_any_white_space(self, key: str) -> None:
        text = '{"id": %d, "collection_name": "c", "' + key + '" :\n [ 1 , 2 ]\t}'
        columns = columns_of(decoded([(text % i).encode() for i in range(3)]))
        assert columns.vectors.tolist() == [[1, 2]] * 3

    def test_entries_are_the_same_objects_each_time(self) -> None:
        columns = columns_of(decoded([envelope(1), envelope(2)]))
        assert [id(one) for one in columns] == [id(one) for one in columns]
        assert columns[1] is list(columns)[1]

    def test_the_connector_names_the_collection(self) -> None:
        values = [b'{"id":%d,"vector":[1]}' % i for i in range(3)]
        assert columns_of(decoded(values, "mine")).collection_name == "mine"
        assert len(decoded(values).refusals) == 3

    def test_topics_name_the_collections(self) -> None:
        other = SourcePartition("s", "other", 0)
        routing = Routing(by_topic=(("other", "d"),))
        decoder = RecordDecoder(PLAIN_JSON, shape=Shape(routing))
        read = [
            KafkaRecord(PARTITION, 0, None, envelope(1)),
            KafkaRecord(other, 0, None, envelope(2)),
        ]
        batch = decode_batch(read, decoder)
        assert {name: len(entries) for name, entries in batch.entries.items()} == {"c": 1, "d": 1}

    def test_a_point_that_comes_twice_is_no_column(self) -> None:
        batch = decoded([envelope(1, payload={"n": 1}), envelope(1, payload={"n": 2})])
        (entries,) = batch.entries.values()
        assert isinstance(entries, list)
        assert [point_of(one)[3] for one in entries] == [b'{"n":1}', b'{"n":2}']

    def test_a_key_that_its_converter_refuses_is_not_passed_over(self) -> None:
        key_converter = JsonConverter(Stage.KEY_CONVERTER, schemas_enable=False)
        values = [envelope(1), envelope(2)]
        assert len(decoded(values, None, b"{", key_converter).refusals) == 2
        assert not decoded(values, None, b"{").refusals

    def test_a_reader_survives_what_its_parser_does_not(self) -> None:
        reader = EnvelopesReader()
        too_large = b'{"id":1,"vector":[-9223372036854775809]}'
        assert reader.read([too_large]).ranks == []
        assert reader.read([b'{"id":1,"vector":[1]}']).ids == [1]


class TestOneOddRecordAmongOthers:
    """It is read as by itself, and costs its neighbours nothing."""

    @pytest.mark.parametrize(
        "odd",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b'"vector":[1]',
            b'{"collection_name":"c","id":1,"vector":[1,2]},{"id":3}',
            b'{"collection_name":"c","id":1,"vector":[1,2]}}',
            b'{"collection_name":"c","id":1,"vector":[1,2]',
            b'{"collection_name":"c","id":1,"vector":[1,2]x}',
            b'{"collection_name":"c","id":1,"vector":[1,2]"}',
            b'{"collection_name":"c","id":1,"vector":[1,2].5}',
            b'{"collection_name":"c","id":1,"vector":[1,2',
            b'{"collection_name":"c","id":1,"vector":[]}',
            b'{"collection_name":"c","id":1,"vector":[[1,2],[3,4]]}',
            b'{"collection_name":"c","id":1,"vector":[1,[2]]}',
            b'{"collection_name":"c","id":1,"vector":["]",2]}',
            b'{"collection_name":"c","id":1,"vector":["a","b"]}',
            b'{"collection_name":"c","id":1,"vector":[true,null]}',
            b'{"collection_name":"c","id":1,"vector":[1e39,2]}',
            b'{"collection_name":"c","id":1,"vector":[1e999,2]}',
            b'{"collection_name":"c","id":1,"vector":[NaN,2]}',
            b'{"collection_name":"c","id":1,"vector":[01,2]}',
            b'{"collection_name":"c","id":1,"vector":[-0.0,1e-400]}',
            b'{"collection_name":"c","id":1,"vector":[1E5,-0]}',
            b'{"collection_name":"c","id":1,"vector":[18446744073709551616,2]}',
            b'{"collection_name":"c","id":1,"vector":[1,2,3]}',
            b'{"collection_name":"c","id":1,"vector":[1],"vector":[3,4]}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"vector":null}',
            b'{"collection_name":"c","id":1,"vector":null,"vectors":[1,2]}',
            b'{"collection_name":"c","id":1,"vector":[3,4],"vectors":[1,2]}',
            b'{"collection_name":"c","id":1,"vectors":[1,2],"vector":[3,4]}',
            b'{"collection_name":"c","id":1,"\\u0076ector":[3,4],"vector":[1,2]}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"\\u0076ector":[3,4]}',
            b'{"collection_name":"c","id":1,"a\\"vector":[1,2]}',
            b'{"collection_name":"c","id":1,"payload":{"vector":[1,2]}}',
            b'{"collection_name":"c","id":1,"payload":{"vector":[1,2]},"vector":[3,4]}',
            b'{"collection_name":"c","id":1,"payload":{"s":"\\"vector\\":["},"vector":[3,4]}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":18446744073709551616}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":-9223372036854775809}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":18446744073709551615}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":-9223372036854775808}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":1e999}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":NaN}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":"\\ud800"}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":"\xff"}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":1,"b":2,"a":3}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":{"a":1},"payload":{"b":2}}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":[]}',
            b'{"collection_name":"c","id":1,"vector":[1,2],"payload":'
            + b'{"a":' * 300
            + b"1"
            + b"}" * 301,
            b'{"collection_name":"c","id":1,"id":2,"vector":[1,2]}',
            b'{"collection_name":"c","id":18446744073709551615,"vector":[1,2]}',
            b'{"collection_name":"c","id":18446744073709551616,"vector":[1,2]}',
            b'{"collection_name":"c","id":5.0,"vector":[1,2]}',
            b'{"collection_name":"c","id":-1,"vector":[1,2]}',
            b'{"collection_name":"c","id":true,"vector":[1,2]}',
            b'{"collection_name":"c","id":"1-1-1-1-1","vector":[1,2]}',
            b'{"collection_name":"c","id":"{A10435B52A58427AA3A0A5D845B147B7}","vector":[1,2]}',
            b'{"collection_name":"c","vector":[1,2]}',
            b'{"collection_name":"","id":1,"vector":[1,2]}',
            b'{"collection_name":null,"id":1,"vector":[1,2]}',
            b'{"collection_name":["c"],"id":1,"vector":[1,2]}',
            b'{"id":1,"vector":[1,2]}',
            b'\xef\xbb\xbf{"collection_name":"c","id":1,"vector":[1,2]}',
            b' {"collection_name":"c","id":1,"vector":[1,2]} ',
            b'{"collection_name":"c","id":1}',
        ],
    )
    @pytest.mark.parametrize("rank", [0, 1, 2])
    def test_it_is_read_as_by_itself(self, odd: bytes, rank: int) -> None:
        values = [envelope(10, payload={"a": 1}), envelope(11, [3, 4])]
        values.insert(rank, odd)
        assert read_in_batch(values) == [read_alone(value) for value in values]

    def test_an_operation_and_a_tombstone_are_left_to_their_rules(self) -> None:
        values = [
            envelope(1),
            b'{"collection_name":"c","op":"delete","id":2,"vector":[1,2]}',
            b'{"collection_name":"c","id":3,"vector":[1,2],"__deleted":"true"}',
        ]
        (entries,) = decoded(values).entries.values()
        assert [type(one.change).__name__ for one in entries] == ["Upsert", "Delete", "Delete"]

    def test_two_halves_are_not_read_as_one(self) -> None:
        values = [
            envelope(1),
            b'{"collection_name":"c","id":2,"vector":[1,2]},{"id":3',
            b'"collection_name":"c","vector":[1,2]}',
            envelope(4),
        ]
        assert read_in_batch(values) == [read_alone(value) for value in values]


NUMBERS = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr),
    st.floats(allow_nan=False).map(repr),
    st.integers(-(2**70), 2**70).map(str),
    st.sampled_from(
        [
            "0",
            "-0",
            "-0.0",
            "1E5",
            "1e+5",
            "1e-400",
            "1e400",
            "5e-324",
            "01",
            "1.",
            ".5",
            "+1",
            "NaN",
            "Infinity",
            "-Infinity",
            "3.4028235e38",
            "3.4028236e38",
            "16777217",
            "null",
            "0.1000000014901161193847656251",
            "true",
            '"1"',
            "[1]",
            "{}",
            "9007199254740993",
        ]
    ),
)
STRINGS = st.one_of(
    st.text(max_size=6).map(json.dumps),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(
        lambda text: json.dumps(text, ensure_ascii=False)
    ),
    st.sampled_from(['"]"', '"["', '"\\"vector\\":["', '"\\ud83d\\ude00"', '"\\ud83d"', '"\n"']),
)
SPACES = st.sampled_from(["", "", " ", "\n\t"])
VALUES = st.recursive(
    st.one_of(NUMBERS, STRINGS, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"),
        st.lists(st.tuples(STRINGS, inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{key}:{value}" for key, value in items) + "}"
        ),
    ),
    max_leaves=5,
)
VECTORS = st.lists(NUMBERS, min_size=0, max_size=3).map(lambda items: f"[{','.join(items)}]")
GOOD_VECTORS = st.lists(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(repr), min_size=2, max_size=2
).map(lambda items: f"[{', '.join(items)}]")
FIELDS = st.one_of(
    st.tuples(st.just('"vector"'), st.one_of(GOOD_VECTORS, VECTORS, VALUES)),
    st.tuples(st.just('"vectors"'), st.one_of(GOOD_VECTORS, VALUES)),
    st.tuples(st.just('"payload"'), VALUES),
    st.tuples(st.just('"id"'), st.one_of(st.integers(0, 99).map(str), VALUES)),
    st.tuples(st.just('"collection_name"'), st.one_of(st.just('"c"'), VALUES)),
    st.tuples(STRINGS, VALUES),
)


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    fields = [
        ('"collection_name"', '"c"'),
        ('"id"', str(draw(st.integers(0, 9)))),
        ('"vector"', draw(GOOD_VECTORS)),
        ('"payload"', "{" + f'"a":{draw(VALUES)}' + "}"),
    ]
    for _ in range(draw(st.integers(0, 2))):
        fields.insert(draw(st.integers(0, len(fields))), draw(FIELDS))
    if draw(st.booleans()):
        fields = draw(st.permutations(fields))
    space = draw(SPACES)
    text = "{" + f",{space}".join(f"{key}{space}:{space}{value}" for key, value in fields) + "}"
    text = draw(st.sampled_from(["", "", "", "\ufeff", " ", "x"])) + text
    text += draw(st.sampled_from(["", "", "", " ", ",", "}", "]", '{"id":1}', "\x00"]))
    data = text.encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    return data


class TestAgainstThePlainRules:
    @settings(max_examples=400, deadline=None)
    @given(st.lists(texts(), min_size=1, max_size=5))
    def test_records_are_read_together_as_each_by_itself(self, values: list[bytes]) -> None:
        plain = [value for value in values if is_plain(value)]
        assert read_in_batch(plain) == [read_alone(value) for value in plain]


def is_plain(value: bytes) -> bool:
    """Whether `read_upsert` alone says what it is: no operation or change event."""
    try:
        fields = parse_json(value)
    except InvalidJson:
        return True
    return not isinstance(fields, dict) or not fields.keys() & {"op", "__deleted"}
