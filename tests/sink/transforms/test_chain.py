from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from headrace.sink.config import ConnectorConfig
from headrace.sink.connect_value import plain
from headrace.sink.decode import RecordDecoder
from headrace.sink.envelope import Delete, Upsert
from headrace.sink.errors import ConfigError, Reason, RecordError, Stage
from headrace.sink.kafka_record import KafkaHeaders, KafkaRecord
from headrace.sink.transforms.base import ConnectRecord
from headrace.sink.transforms.cast import java_double_text
from headrace.sink.transforms.chain import read_transforms
from headrace.sink.transforms.java_dates import JavaDateFormat
from tests.sink.records import PARTITION

PACKAGE = "org.apache.kafka.connect.transforms."
NOON = datetime.datetime(2026, 3, 4, 12, 5, 6, 789_000, tzinfo=datetime.UTC)
NOON_MS = 1_772_625_906_789


def record(value: Any = None, kafka_key: Any = None, **changed: Any) -> ConnectRecord:
    fields: dict[str, Any] = {
        "topic": "orders",
        "partition": 3,
        "kafka_offset": 42,
        "kafka_key": kafka_key,
        "value": value,
        "headers": [],
        "timestamp_ms": NOON_MS,
    }
    return ConnectRecord(**fields | changed)


def apply(
    type_name: str, subject: ConnectRecord, settings: dict[str, str] | None = None
) -> ConnectRecord:
    """What one transform makes of a record, which must go on."""
    raw = {"transforms": "t", "transforms.t.type": PACKAGE + type_name}
    raw |= {f"transforms.t.{name}": text for name, text in (settings or {}).items()}
    chain = read_transforms(raw)
    assert chain is not None
    result = chain.apply(subject)
    assert result is not None
    return result


def value_after(type_name: str, value: Any, **settings: str) -> Any:
    named = {name.replace("__", "."): text for name, text in settings.items()}
    return apply(f"{type_name}$Value", record(value), named).value


def refusal(type_name: str, value: Any, **settings: str) -> RecordError:
    with pytest.raises(RecordError) as caught:
        value_after(type_name, value, **settings)
    return caught.value


def config_refusal(**settings: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_transforms({name.replace("__", "."): text for name, text in settings.items()})
    return caught.value


class TestFields:
    def test_insert_field_adds_metadata_and_a_fixed_field(self) -> None:
        found = value_after(
            "InsertField",
            {"a": 1},
            topic__field="t!",
            partition__field="p?",
            offset__field="o",
            timestamp__field="ts",
            static__field="s",
            static__value="x",
        )
        assert found == {"a": 1, "t": "orders", "p": 3, "o": 42, "ts": NOON_MS, "s": "x"}

    def test_insert_field_leaves_a_tombstone_alone(self) -> None:
        assert value_after("InsertField", None, topic__field="t") is None

    def test_replace_field_leaves_out_and_renames(self) -> None:
        value = {"a": 1, "b": 2, "c": 3}
        assert value_after("ReplaceField", value, exclude="a", renames="b:x") == {"x": 2, "c": 3}
        assert value_after("ReplaceField", value, include="a,b", exclude="b") == {"a": 1}
        assert value_after("ReplaceField", value, whitelist="c") == {"c": 3}
        assert value_after("ReplaceField", value, blacklist="c") == {"a": 1, "b": 2}

    def test_extract_field_puts_one_field_in_place_of_the_whole(self) -> None:
        assert value_after("ExtractField", {"after": {"id": 1}}, field="after") == {"id": 1}
        assert value_after("ExtractField", {"a": 1}, field="b") is None
        assert value_after("ExtractField", None, field="b") is None

    def test_hoist_field_wraps(self) -> None:
        assert value_after("HoistField", 5, field="id") == {"id": 5}
        assert apply("HoistField$Key", record(None, 5), {"field": "id"}).kafka_key == {"id": 5}

    def test_flatten_joins_names_and_keeps_arrays_and_nulls(self) -> None:
        value = {"a": {"b": {"c": 1}, "n": None}, "v": [1, 2], "e": {}}
        assert value_after("Flatten", value) == {"a.b.c": 1, "a.n": None, "v": [1, 2]}
        assert value_after("Flatten", {"a": {"b": 1}}, delimiter="_") == {"a_b": 1}

    def test_flatten_takes_any_depth(self) -> None:
        deep: Any = 1
        for _ in range(5_000):
            deep = {"a": deep}
        assert list(value_after("Flatten", deep).values()) == [1]

    def test_mask_field_puts_the_empty_value_of_its_type(self) -> None:
        value = {"b": True, "i": 5, "f": 1.5, "s": "x", "l": [1], "m": {"a": 1}, "n": None, "k": 1}
        assert value_after("MaskField", value, fields="b,i,f,s,l,m,n,absent") == {
            "b": False, "i": 0, "f": 0.0, "s": "", "l": [], "m": {}, "n": None, "k": 1,
        }  # fmt: skip

    def test_mask_field_takes_a_replacement_for_texts_and_numbers(self) -> None:
        value = {"s": "secret", "i": 5}
        assert value_after("MaskField", value, fields="s,i", replacement="7") == {"s": "7", "i": 7}
        assert "to number" in refusal("MaskField", value, fields="i", replacement="x").message
        error = refusal("MaskField", {"b": True}, fields="b", replacement="1")
        assert "java.lang.Boolean with custom replacement" in error.message

    def test_value_to_key_makes_the_key_of_fields(self) -> None:
        found = apply("ValueToKey", record({"a": 1, "b": 2}, "old"), {"fields": "b,c"})
        assert found.kafka_key == {"b": 2, "c": None}

    @pytest.mark.parametrize(
        ("type_name", "settings"),
        [
            ("InsertField", {"topic.field": "t"}),
            ("ReplaceField", {"exclude": "t"}),
            ("ExtractField", {"field": "t"}),
            ("Flatten", {}),
            ("MaskField", {"fields": "t"}),
            ("Cast", {"spec": "a:int8"}),
            ("TimestampConverter", {"field": "a", "target.type": "unix"}),
            ("HeaderFrom", {"fields": "a", "headers": "a", "operation": "move"}),
        ],
    )
    def test_what_needs_an_object_refuses_anything_else(
        self, type_name: str, settings: dict[str, str]
    ) -> None:
        with pytest.raises(RecordError, match="Only Map objects supported") as caught:
            apply(f"{type_name}$Value", record("text"), settings)
        assert caught.value.stage is Stage.TRANSFORMATION
        assert caught.value.reason is Reason.TRANSFORMATION_FAILED
        assert caught.value.class_name == f"{PACKAGE}{type_name}$Value"


class TestCast:
    @pytest.mark.parametrize(
        ("value", "type_name", "expected"),
        [
            ("12", "int64", 12),
            (5.9, "int32", 5),
            (-5.9, "int32", -5),
            (True, "int8", 1),
            (5, "float64", 5.0),
            ("1e3", "float64", 1000.0),
            (0.1, "float32", 0.10000000149011612),
            (0, "boolean", False),
            (2, "boolean", True),
            ("TRUE", "boolean", True),
            ("yes", "boolean", False),
            (5, "string", "5"),
            (5.0, "string", "5.0"),
            (1e10, "string", "1.0E10"),
            (True, "string", "true"),
            (b"\x00\x01", "string", "AAE="),
            (NOON, "int64", NOON_MS),
            (None, "int8", None),
        ],
    )
    def test_a_value_gets_its_type(self, value: Any, type_name: str, expected: Any) -> None:
        found = value_after("Cast", {"a": value, "b": 1}, spec=f"a:{type_name}")
        assert (found["a"], type(found["a"])) == (expected, type(expected))
        assert found["b"] == 1

    @pytest.mark.parametrize(
        ("value", "type_name"),
        [(128, "int8"), (2**63, "int64"), ("x", "int64"), ("1.5", "int64"), ("1 2", "float64"),
         (float("nan"), "int64"), ("99999999999", "int32")],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused(self, value: Any, type_name: str) -> None:
        assert "was out of range" in refusal("Cast", {"a": value}, spec=f"a:{type_name}").message

    @pytest.mark.parametrize("value", [[1], {"a": 1}])
    def test_arrays_and_objects_have_no_cast(self, value: Any) -> None:
        assert "Unexpected type" in refusal("Cast", {"a": value}, spec="a:string").message

    def test_a_whole_key_is_cast(self) -> None:
        assert apply("Cast$Key", record(None, "7"), {"spec": "int64"}).kafka_key == 7

    @pytest.mark.parametrize("spec", ["", "a:int128", "int8,string", ":int8"])
    def test_a_spec_that_is_none_is_refused(self, spec: str) -> None:
        raw = {"transforms": "t", "transforms__t__type": "Cast$Value", "transforms__t__spec": spec}
        assert config_refusal(**raw).key == "transforms.t.spec"

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.0, "0.0"), (-0.0, "-0.0"), (0.001, "0.001"), (0.0001, "1.0E-4"),
         (1234567.5, "1234567.5"), (12345678.5, "1.23456785E7"), (-1e300, "-1.0E300")],
    )  # fmt: skip
    def test_doubles_are_written_as_java_does(self, value: float, text: str) -> None:
        assert java_double_text(value) == text


class TestTimestamps:
    @pytest.mark.parametrize(
        ("value", "settings", "expected"),
        [
            (NOON_MS, {"target__type": "string", "format": "yyyy-MM-dd"}, "2026-03-04"),
            ("2026-03-04", {"target__type": "unix", "format": "yyyy-MM-dd"}, 1_772_582_400_000),
            (NOON_MS // 1000, {"target__type": "Timestamp", "unix__precision": "seconds"},
             NOON.replace(microsecond=0)),
            (NOON_MS * 1000 + 999, {"target__type": "Timestamp", "unix__precision": "microseconds"},
             NOON),
            (NOON, {"target__type": "unix", "unix__precision": "nanoseconds"}, NOON_MS * 10**6),
            (NOON, {"target__type": "unix", "unix__precision": "seconds"}, NOON_MS // 1000),
            (NOON_MS, {"target__type": "Date"}, datetime.date(2026, 3, 4)),
            (NOON_MS, {"target__type": "Time"}, datetime.time(12, 5, 6, 789_000)),
            (datetime.date(2026, 3, 4), {"target__type": "unix"}, 1_772_582_400_000),
            (-1_500, {"target__type": "unix", "unix__precision": "microseconds"}, -1_000),
            (None, {"target__type": "unix"}, None),
        ],
    )  # fmt: skip
    def test_a_moment_is_converted(
        self, value: Any, settings: dict[str, str], expected: Any
    ) -> None:
        assert value_after("TimestampConverter", value, **settings) == expected
        assert value_after("TimestampConverter", {"a": value}, field="a", **settings) == {
            "a": expected
        }

    def test_a_moment_becomes_what_the_datetime_index_reads(self) -> None:
        value: Any = {"a": NOON, "b": NOON.date(), "c": [NOON.replace(microsecond=0)]}
        assert plain(value) == {
            "a": "2026-03-04T12:05:06.789Z",
            "b": "2026-03-04",
            "c": ["2026-03-04T12:05:06.000Z"],
        }

    @pytest.mark.parametrize(
        ("value", "settings"),
        [
            ("nonsense", {"target__type": "unix", "format": "yyyy"}),
            ("2026", {"target__type": "unix"}),
            (1.5, {"target__type": "unix"}),
            (2**62, {"target__type": "Timestamp"}),
        ],
    )
    def test_what_is_no_timestamp_is_refused(self, value: Any, settings: dict[str, str]) -> None:
        assert refusal("TimestampConverter", value, **settings).reason is (
            Reason.TRANSFORMATION_FAILED
        )

    def test_a_string_needs_a_format(self) -> None:
        raw = {"transforms__t__type": "TimestampConverter$Value", "transforms": "t"}
        assert config_refusal(transforms__t__target__type="string", **raw).key == (
            "transforms.t.format"
        )
        error = config_refusal(
            transforms__t__target__type="string", transforms__t__format="yyyy-QQ", **raw
        )
        assert error.key == "transforms.t.format"

    @pytest.mark.parametrize(
        ("pattern", "text"),
        [
            ("yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "2026-03-04T12:05:06.789Z"),
            ("yyyyMMddHHmmssSSS", "20260304120506789"),
            ("EEE, d MMM yyyy hh:mm:ss.SSS a Z", "Wed, 4 Mar 2026 12:05:06.789 PM +0000"),
            ("MMMM d, yy 'o''clock' k:mm:ss.SSS z", "March 4, 26 o'clock 12:05:06.789 UTC"),
        ],
    )
    def test_a_java_pattern_writes_and_reads(self, pattern: str, text: str) -> None:
        assert JavaDateFormat(pattern).format(NOON) == text
        assert JavaDateFormat(pattern).parse(text) == NOON

    def test_a_java_pattern_reads_another_zone(self) -> None:
        read = JavaDateFormat("yyyy-MM-dd HH:mm X").parse("2026-03-04 14:05 +02:00")
        assert read == NOON.replace(second=0, microsecond=0)


class TestRouting:
    @pytest.mark.parametrize(
        ("pattern", "replacement", "topic"),
        [
            ("(.*)ers", "$1-x", "ord-x"),
            ("ord", "x", "orders"),
            (r"(?<head>\w)(.*)", "${head}_$2\\$", "o_rders$"),
            ("(o)rders", "$12", "o2"),
            (r"\p{Lower}++", "", ""),
        ],
    )
    def test_regex_router_renames_topics_that_match_as_a_whole(
        self, pattern: str, replacement: str, topic: str
    ) -> None:
        settings = {"regex": pattern, "replacement": replacement}
        assert apply("RegexRouter", record(), settings).topic == topic

    @pytest.mark.parametrize(
        ("pattern", "replacement"),
        [("(", "x"), ("a", "$1"), ("a", "$"), ("a", "\\"), ("a", "${x}")],
    )
    def test_a_broken_pattern_or_replacement_is_refused(
        self, pattern: str, replacement: str
    ) -> None:
        error = config_refusal(
            transforms="t",
            transforms__t__type="RegexRouter",
            transforms__t__regex=pattern,
            transforms__t__replacement=replacement,
        )
        assert error.key in {"transforms.t.regex", "transforms.t.replacement"}

    def test_timestamp_router_puts_the_timestamp_into_the_topic(self) -> None:
        assert apply("TimestampRouter", record()).topic == "orders-20260304"
        settings = {"topic.format": "${timestamp}_${topic}", "timestamp.format": "yyyy.MM"}
        assert apply("TimestampRouter", record(), settings).topic == "2026.03_orders"
        with pytest.raises(RecordError, match="Timestamp missing"):
            apply("TimestampRouter", record(timestamp_ms=None))

    def test_filter_drops_what_its_predicate_names(self) -> None:
        raw = {
            "transforms": "t",
            "transforms.t.type": f"{PACKAGE}Filter",
            "transforms.t.predicate": "p",
            "predicates": "p",
            "predicates.p.type": f"{PACKAGE}predicates.TopicNameMatches",
            "predicates.p.pattern": "ord.*",
        }
        chain = read_transforms(raw)
        assert chain is not None
        assert chain.apply(record()) is None
        assert chain.apply(record(topic="other")) is not None
        negated = read_transforms(raw | {"transforms.t.negate": "true"})
        assert negated is not None
        assert negated.apply(record()) is not None
        assert negated.apply(record(topic="other")) is None

    @pytest.mark.parametrize(
        ("settings", "subject", "answer"),
        [
            ({"type": "HasHeaderKey", "name": "h"}, record(headers=[("h", b"1")]), True),
            ({"type": "HasHeaderKey", "name": "h"}, record(headers=[("x", b"1")]), False),
            ({"type": "RecordIsTombstone"}, record(None), True),
            ({"type": "RecordIsTombstone"}, record({}), False),
            ({"type": "TopicNameMatches", "pattern": "ord"}, record(), False),
        ],
    )
    def test_predicates_answer(
        self, settings: dict[str, str], subject: ConnectRecord, answer: bool
    ) -> None:
        raw = {"transforms": "t", "transforms.t.type": "Filter", "transforms.t.predicate": "p"}
        raw |= {"predicates": "p"} | {f"predicates.p.{k}": v for k, v in settings.items()}
        chain = read_transforms(raw)
        assert chain is not None
        assert (chain.apply(subject) is None) is answer


class TestHeaders:
    def test_drop_headers(self) -> None:
        found = apply(
            "DropHeaders", record(headers=[("a", b"1"), ("b", b"2"), ("a", b"3")]), {"headers": "a"}
        )
        assert found.headers == [("b", b"2")]

    @pytest.mark.parametrize(
        ("operation", "left"), [("move", {"b": 2}), ("copy", {"a": 1, "b": 2})]
    )
    def test_header_from(self, operation: str, left: dict[str, int]) -> None:
        settings = {"fields": "a,x", "headers": "h,i", "operation": operation}
        found = apply("HeaderFrom$Value", record({"a": 1, "b": 2}), settings)
        assert found.headers == [("h", 1), ("i", None)]
        assert found.value == left

    def test_insert_header(self) -> None:
        settings = {"header": "h", "value.literal": "x"}
        assert apply("InsertHeader", record(), settings).headers == [("h", "x")]


class TestConfiguration:
    @pytest.mark.parametrize(
        ("settings", "key"),
        [
            ({"transforms": "t"}, "transforms.t.type"),
            ({"transforms": "t,t"}, "transforms"),
            ({"transforms.t.type": "Filter"}, "transforms.t.type"),
            ({"predicates.t.type": "Filter"}, "predicates.t.type"),
            ({"transforms": "t", "transforms.t.type": "com.example.Mine"}, "transforms.t.type"),
            ({"transforms": "t", "transforms.t.type": "Flatten"}, "transforms.t.type"),
            ({"transforms": "t", "transforms.t.type": "Flatten$Other"}, "transforms.t.type"),
            ({"transforms": "t", "transforms.t.type": "Filter$Value"}, "transforms.t.type"),
            (
                {"transforms": "t", "transforms.t.type": "Filter", "transforms.t.predicate": "p"},
                "transforms.t.predicate",
            ),
            (
                {"transforms": "t", "transforms.t.type": "Filter", "transforms.t.negate": "true"},
                "transforms.t.negate",
            ),
            (
                {"transforms": "t", "transforms.t.type": "Flatten$Key", "transforms.t.x": "1"},
                "transforms.t.x",
            ),
            ({"predicates": "p", "predicates.p.type": "Other"}, "predicates.p.type"),
        ],
    )
    def test_what_cannot_act_is_refused(self, settings: dict[str, str], key: str) -> None:
        with pytest.raises(ConfigError) as caught:
            read_transforms(settings)
        assert caught.value.key == key


class TestDecoding:
    def decoder(self, **settings: str) -> RecordDecoder:
        raw = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
        raw |= {name.replace("__", "."): text for name, text in settings.items()}
        return RecordDecoder.of(ConnectorConfig.from_mapping(raw))

    def kafka_record(
        self, value: object, kafka_key: bytes | None = None, headers: KafkaHeaders | None = None
    ) -> KafkaRecord:
        data = None if value is None else json.dumps(value).encode()
        return KafkaRecord(PARTITION, 0, kafka_key, data, headers or [], NOON_MS)

    def test_transforms_run_in_their_order_before_a_record_is_read(self) -> None:
        decoder = self.decoder(
            transforms="unwrap, name, moment",
            transforms__unwrap__type=f"{PACKAGE}ExtractField$Value",
            transforms__unwrap__field="after",
            transforms__name__type=f"{PACKAGE}InsertField$Value",
            transforms__name__static__field="collection_name",
            transforms__name__static__value="c",
            transforms__moment__type=f"{PACKAGE}TimestampConverter$Value",
            transforms__moment__field="extra",
            transforms__moment__target__type="Timestamp",
        )
        (change,) = decoder.decode_record(
            self.kafka_record({"after": {"id": 2**64 - 1, "payload": {"n": 5.0}, "extra": NOON_MS}})
        )
        assert isinstance(change, Upsert)
        assert (change.collection_name, change.point.id) == ("c", 2**64 - 1)
        assert change.point.payload == b'{"n":5.0}'

    def test_a_moment_in_a_payload_is_written_as_text(self) -> None:
        decoder = self.decoder(
            qdrant__collection__name="c",
            transforms="a,b,c",
            transforms__a__type="TimestampConverter$Value",
            transforms__a__field="at",
            transforms__a__target__type="Timestamp",
            transforms__b__type="HoistField$Value",
            transforms__b__field="payload",
            transforms__c__type="InsertField$Value",
            transforms__c__offset__field="id",
        )
        (change,) = decoder.decode_record(self.kafka_record({"at": NOON_MS}))
        assert isinstance(change, Upsert)
        assert change.point.payload == b'{"at":"2026-03-04T12:05:06.789Z"}'

    def test_a_dropped_record_changes_nothing_and_a_tombstone_goes_through(self) -> None:
        settings = {
            "transforms": "drop",
            "transforms__drop__type": f"{PACKAGE}Filter",
            "transforms__drop__predicate": "p",
            "predicates": "p",
            "predicates__p__type": f"{PACKAGE}predicates.HasHeaderKey",
            "predicates__p__name": "skip",
            "qdrant__collection__name": "c",
        }
        decoder = self.decoder(**settings)
        assert decoder.decode_record(self.kafka_record({}, headers=[("skip", b"")])) == ()
        assert decoder.decode_record(self.kafka_record(None, b"7")) == (Delete("c", 7),)

    def test_keys_that_nobody_described_may_be_anything(self) -> None:
        decoder = self.decoder(transforms="t", transforms__t__type="Flatten$Value")
        value = {"collection_name": "c", "id": 1}
        assert decoder.decode_record(self.kafka_record(value, b"\xff\x00"))

    def test_a_failing_transform_is_named_in_the_refusal(self) -> None:
        decoder = self.decoder(
            transforms="t", transforms__t__type="Cast$Value", transforms__t__spec="id:int8"
        )
        with pytest.raises(RecordError, match="out of range") as caught:
            decoder.decode_record(self.kafka_record({"collection_name": "c", "id": 1000}))
        assert caught.value.stage is Stage.TRANSFORMATION
        assert caught.value.class_name == f"{PACKAGE}Cast$Value"

    def test_without_transforms_the_fast_way_is_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(RecordDecoder, "_connect_record", None)
        value = {"collection_name": "c", "id": 1}
        assert self.decoder().decode_record(self.kafka_record(value))
