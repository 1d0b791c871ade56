from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

import pytest

from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    OverwritePayload,
    PointSelector,
    SetPayload,
)
from headrace.sink.changes import Change, Delete, Merge, PayloadPatch, Upsert, VectorPatch
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import ConfigError, Reason, RecordError
from headrace.sink.kafka_record import KafkaHeaders, KafkaRecord
from tests.sink.records import PARTITION

UUID_TEXT = "a10435b5-2a58-427a-a3a0-a5d845b147b7"


def read(
    value: object, kafka_key: object = None, headers: KafkaHeaders | None = None, **settings: str
) -> tuple[Change, ...]:
    """The changes of one record; dots in keys are written as `__`."""
    raw = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
    raw |= {name.replace("__", "."): text for name, text in settings.items()}
    record = KafkaRecord(
        PARTITION,
        7,
        None if kafka_key is None else json.dumps(kafka_key).encode(),
        None if value is None else json.dumps(value).encode(),
        headers or [],
        1_000,
    )
    return RecordDecoder.of(ConnectorConfig.from_mapping(raw)).decode_record(record)


def put(value: object, kafka_key: object = None, **settings: Any) -> tuple[object, ...]:
    """Collection, id, names of vectors and payload of the point that a record puts."""
    (change,) = read(value, kafka_key, **settings)
    assert isinstance(change, Upsert)
    point = change.point
    return change.collection_name, point.id, sorted(point.vectors), json.loads(point.payload)


def refusal(value: object, kafka_key: object = None, **settings: Any) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read(value, kafka_key, **settings)
    return caught.value


def config_refusal(**settings: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read({}, **settings)
    return caught.value.key


class TestOperations:
    @pytest.mark.parametrize(
        ("fields", "operation"),
        [
            (
                {"op": "set_payload", "payload": {"a": 1}},
                SetPayload(PointSelector((1,)), b'{"a":1}'),
            ),
            (
                {"op": "set_payload", "payload": {"a": 1}, "key": "b.c"},
                SetPayload(PointSelector((1,)), b'{"a":1}', "b.c"),
            ),
            (
                {"op": "overwrite_payload", "payload": {}},
                OverwritePayload(PointSelector((1,)), b"{}"),
            ),
            (
                {"op": "delete_payload", "keys": ["a", "b.c"]},
                DeletePayload(PointSelector((1,)), ("a", "b.c")),
            ),
            ({"op": "clear_payload"}, ClearPayload(PointSelector((1,)))),
        ],
    )
    def test_payload_operations(self, fields: dict[str, Any], operation: object) -> None:
        (change,) = read({"collection_name": "c", "id": 1, **fields})
        assert isinstance(change, PayloadPatch)
        assert (change.collection_name, change.point_id) == ("c", 1)
        assert change.operation == operation

    def test_update_vectors(self) -> None:
        (change,) = read({"op": "update_vectors", "collection_name": "c", "id": 1, "vector": [1]})
        assert isinstance(change, VectorPatch)
        assert list(change.vectors) == [""]

    def test_upsert_is_the_default(self) -> None:
        value = {"collection_name": "c", "id": 1, "payload": {"a": 1}}
        assert put(value) == put({"op": "upsert", **value}) == ("c", 1, [], {"a": 1})

    def test_many_ids_are_many_changes(self) -> None:
        value = {"op": "delete", "collection_name": "c", "ids": [1, UUID_TEXT, 1]}
        assert read(value) == (Delete("c", 1), Delete("c", UUID(UUID_TEXT)))

    @pytest.mark.parametrize(
        ("fields", "text"),
        [
            ({"op": "delet", "id": 1}, "Unknown operation 'delet'"),
            ({"op": 5, "id": 1}, "Unknown operation 5"),
            ({"op": "delete"}, "'id' value is required"),
            ({"op": "delete", "ids": []}, "'ids' must be a list"),
            ({"op": "delete", "ids": [1], "id": 1}, "exclude each other"),
            ({"op": "delete", "ids": [-1]}, "positive integer"),
            ({"op": "set_payload", "id": 1}, "'payload' value is required"),
            ({"op": "set_payload", "id": 1, "payload": [1]}, "must be an object"),
            ({"op": "set_payload", "id": 1, "payload": {}, "key": "a["}, "Invalid json path"),
            ({"op": "set_payload", "id": 1, "payload": {}, "key": 1}, "must be a string"),
            ({"op": "delete_payload", "id": 1, "keys": "a"}, "'keys' must be a list"),
            ({"op": "update_vectors", "id": 1}, "'vector' value is required"),
        ],
    )
    def test_an_operation_that_lacks_something_is_refused(
        self, fields: dict[str, Any], text: str
    ) -> None:
        assert text in refusal({"collection_name": "c", **fields}).message


class TestRows:
    def test_a_row_is_a_point_by_the_names_of_its_fields(self) -> None:
        row = {"pk": 5, "emb": [1, 2], "title": "x", "price": 1.0, "collection_name": "c"}
        assert put(row, id__field="pk", vector__field="emb") == (
            "c", 5, [""], {"title": "x", "price": 1.0},
        )  # fmt: skip
        assert put(row, id__field="pk", vector__field="emb", payload__fields="title,none") == (
            "c", 5, [""], {"title": "x"},
        )  # fmt: skip
        assert put(row, id__field="pk", payload__fields="*", qdrant__collection__name="d") == (
            "d", 5, [], {"emb": [1, 2], "title": "x", "price": 1.0, "collection_name": "c"},
        )  # fmt: skip

    def test_a_row_may_have_named_vectors(self) -> None:
        row = {"id": 1, "v": {"a": [1], "b": {"indices": [1], "values": [2]}}}
        assert put(row, vector__field="v", qdrant__collection__name="c")[2] == ["a", "b"]

    def test_a_column_named_op_is_a_column(self) -> None:
        assert put({"pk": 1, "op": "delete"}, id__field="pk", qdrant__collection__name="c") == (
            "c", 1, [], {"op": "delete"},
        )  # fmt: skip

    def test_a_row_without_its_id_is_refused(self) -> None:
        assert (
            "'pk' value is required"
            in refusal({"id": 1, "collection_name": "c"}, id__field="pk").message
        )

    def test_a_tombstone_names_the_row_by_the_same_field(self) -> None:
        settings: dict[str, Any] = {"id__field": "pk", "qdrant__collection__name": "c"}
        for kafka_key in ({"pk": 7}, {"id": 7}, 7):
            assert read(None, kafka_key, **settings) == (Delete("c", 7),)

    def test_a_list_of_fields_and_a_star_exclude_each_other(self) -> None:
        assert config_refusal(payload__fields="*,a") == "payload.fields"


class TestDebezium:
    SETTINGS: Final[dict[str, Any]] = {"id__field": "pk", "qdrant__collection__name": "c"}

    @pytest.mark.parametrize("op", ["c", "r", "u"])
    def test_a_row_that_is_there_is_put(self, op: str) -> None:
        event = {"op": op, "before": None, "after": {"pk": 1, "a": 2}, "source": {}, "ts_ms": 1}
        assert put(event, **self.SETTINGS) == ("c", 1, [], {"a": 2})

    def test_a_deleted_row_is_deleted_and_its_tombstone_too(self) -> None:
        event = {"op": "d", "before": {"pk": 1, "a": 2}, "after": None}
        assert read(event, {"pk": 1}, **self.SETTINGS) == (Delete("c", 1),)
        assert read(None, {"pk": 1}, **self.SETTINGS) == (Delete("c", 1),)

    def test_a_deleted_row_may_be_known_by_its_key_alone(self) -> None:
        event = {"op": "d", "before": None, "after": None}
        assert read(event, {"pk": 3}, **self.SETTINGS) == (Delete("c", 3),)

    def test_rows_may_be_envelopes(self) -> None:
        event = {"op": "u", "after": {"collection_name": "x", "id": 1, "payload": {"a": 1}}}
        assert put(event) == ("x", 1, [], {"a": 1})

    @pytest.mark.parametrize("deleted", ["true", True])
    def test_a_flattened_row_that_is_gone_is_deleted(self, deleted: object) -> None:
        assert read({"pk": 1, "__deleted": deleted}, **self.SETTINGS) == (Delete("c", 1),)
        envelope = {"id": 1, "collection_name": "x", "__deleted": deleted}
        assert read(envelope) == (Delete("x", 1),)

    def test_a_flattened_row_that_is_there_is_put_without_the_mark(self) -> None:
        assert put({"pk": 1, "a": 2, "__deleted": "false"}, **self.SETTINGS)[3] == {"a": 2}
        assert put({"collection_name": "x", "id": 1, "__deleted": "false"})[:2] == ("x", 1)

    @pytest.mark.parametrize("event", [{"op": "t"}, {"op": "m"}, {"op": "u", "after": None}])
    def test_an_event_about_no_row_is_refused(self, event: dict[str, Any]) -> None:
        assert refusal(event, **self.SETTINGS).reason is Reason.INVALID_OPERATION


class TestRouting:
    def test_the_topic_names_the_collection(self) -> None:
        assert put({"id": 1}, collection__name__format="kafka-${topic}")[0] == "kafka-topic"
        assert put({"id": 1}, topic__to__collection="x:y, topic:mine")[0] == "mine"

    def test_a_mapping_wins_over_what_is_for_all(self) -> None:
        settings: dict[str, Any] = {
            "topic__to__collection": "topic:mine",
            "qdrant__collection__name": "d",
        }
        assert put({"id": 1, "collection_name": "c"}, **settings)[0] == "mine"
        settings = {"topic__to__collection": "other:mine", "qdrant__collection__name": "d"}
        assert put({"id": 1}, **settings)[0] == "d"

    def test_a_renamed_topic_names_the_collection(self) -> None:
        assert put(
            {"id": 1},
            collection__name__format="${topic}",
            transforms="r",
            transforms__r__type="RegexRouter",
            transforms__r__regex="to(.*)",
            transforms__r__replacement="$1",
        )[0] == "pic"  # fmt: skip

    def test_what_contradicts_itself_is_refused(self) -> None:
        name: dict[str, Any] = {"qdrant__collection__name": "c"}
        assert config_refusal(collection__name__format="${topic}", **name) == (
            "collection.name.format"
        )
        assert config_refusal(collection__name__format="x") == "collection.name.format"
        assert config_refusal(topic__to__collection="x") == "topic.to.collection"


class TestMetadata:
    def test_a_payload_says_where_it_comes_from(self) -> None:
        value = {"collection_name": "c", "id": 1, "payload": {"a": 5.0, "_kafka": "old"}}
        headers: KafkaHeaders = [("h", b"old"), ("h", b"x"), ("raw", b"\xff"), ("none", None)]
        (change,) = read(
            value, headers=headers, payload__metadata="topic,partition,offset,timestamp,headers"
        )
        assert isinstance(change, Upsert)
        assert json.loads(change.point.payload) == {
            "a": 5.0,
            "_kafka": {
                "topic": "topic",
                "partition": 0,
                "offset": 7,
                "timestamp": 1_000,
                "headers": {"h": "x", "raw": "/w==", "none": None},
            },
        }

    def test_the_field_is_chosen_and_operations_have_it_too(self) -> None:
        value = {"collection_name": "c", "id": 1, "op": "set_payload", "payload": {"a": 1}}
        (change,) = read(value, payload__metadata="offset", payload__metadata__field="m")
        assert isinstance(change, PayloadPatch)
        assert isinstance(change.operation, SetPayload)
        assert json.loads(change.operation.payload) == {"a": 1, "m": {"offset": 7}}

    def test_what_is_no_metadata_is_refused(self) -> None:
        assert config_refusal(payload__metadata="topic,age") == "payload.metadata"
        assert config_refusal(payload__metadata__field="") == "payload.metadata.field"


def test_merging_is_for_plain_records() -> None:
    value = {"collection_name": "c", "id": 1}
    (change,) = read(value, write__method="merge")
    assert isinstance(change, Merge)
    (change,) = read({"op": "upsert", **value}, write__method="merge")
    assert isinstance(change, Upsert)


def test_a_version_guard_that_cannot_act_is_refused() -> None:
    assert config_refusal(version__from="offset") == "version.from"
    assert config_refusal(version__field="v", version__from="header.") == "version.from"
    assert config_refusal(version__field="v", version__from="key") == "version.from"
    assert config_refusal(write__method="append") == "write.method"
