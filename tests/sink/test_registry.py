from __future__ import annotations

import base64
import datetime
import io
import json
import struct
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fastavro
import msgspec
import pytest
from google.protobuf import descriptor_pb2, struct_pb2
from google.protobuf.json_format import ParseDict

from headrace.model.errors import Unavailable
from headrace.sink.batch import decode_batch
from headrace.sink.changes import Delete, Upsert
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import ConfigError, Reason, RecordError, Stage, TaskFailed
from headrace.sink.registry import (
    AVRO_CONVERTER_CLASS,
    JSON_SCHEMA_CONVERTER_CLASS,
    PROTOBUF_CONVERTER_CLASS,
)
from tests.sink.records import kafka_records
from tests.sink.test_batch import Rig

POINT = {
    "type": "record",
    "name": "Point",
    "fields": [
        {"name": "collection_name", "type": "string"},
        {"name": "id", "type": "long"},
        {"name": "vector", "type": {"type": "array", "items": "float"}},
        {
            "name": "payload",
            "type": {
                "type": "record",
                "name": "Payload",
                "fields": [
                    {"name": "big", "type": "long"},
                    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
                    {
                        "name": "price",
                        "type": {
                            "type": "bytes",
                            "logicalType": "decimal",
                            "precision": 10,
                            "scale": 2,
                        },
                    },
                    {"name": "raw", "type": ["null", "bytes"]},
                ],
            },
        },
    ],
}
VALUE = {
    "collection_name": "c",
    "id": 2**53 + 1,
    "vector": [0.5, 1.0],
    "payload": {
        "big": 2**63 - 1,
        "at": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        "price": Decimal("12.30"),
        "raw": b"\x00\xff",
    },
}


class Registry:
    """A schema registry on the loopback; `status` is what it answers instead, if set.

    Args:
        user_info: `name:password` of whom it lets in; everybody, if it is not given.
    """

    def __init__(self, user_info: str | None = None) -> None:
        self._authorization: str | None = None
        if user_info is not None:
            self._authorization = f"Basic {base64.b64encode(user_info.encode()).decode()}"
        self.schemas: dict[int, dict[str, Any]] = {}
        self.versions: dict[str, int] = {}
        self.status: int | None = None
        self.requests: list[tuple[str, str | None]] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                authorization = self.headers.get("Authorization")
                registry.requests.append((self.path, authorization))
                status, body = registry.answer(self.path.partition("?")[0], authorization)
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, Any]]:
        if self._authorization not in (None, authorization):
            return 401, {"error_code": 40101, "message": "Unauthorized"}
        if self.status is not None:
            return self.status, {"error_code": self.status * 100 + 1, "message": "told to"}
        parts = path.strip("/").split("/")
        if parts[:2] == ["schemas", "ids"] and int(parts[2]) in self.schemas:
            return 200, self.schemas[int(parts[2])]
        if parts[0] == "subjects" and parts[1] in self.versions:
            schema_id = self.versions[parts[1]]
            return 200, {
                "subject": parts[1], "version": 1, "id": schema_id, **self.schemas[schema_id]
            }  # fmt: skip
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def registry() -> Iterator[Registry]:
    registry = Registry()
    registry.schemas[7] = {"schema": json.dumps(POINT)}
    yield registry
    registry.close()


def frame(schema_id: int, data: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + data


def avro(schema: dict[str, Any], value: object, schema_id: int = 7) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return frame(schema_id, stream.getvalue())


def settings(registry: Registry, kind: str = "avro", **changed: str) -> dict[str, str]:
    found = {"value__converter": kind, "value__converter__schema__registry__url": registry.url}
    return found | changed


def decoder(**changed: str) -> RecordDecoder:
    raw = {"name": "test", "topics": "t", "bootstrap.servers": "b"}
    raw |= {name.replace("__", "."): text for name, text in changed.items()}
    return RecordDecoder.of(ConnectorConfig.from_mapping(raw))


def refusal(subject: RecordDecoder, value: bytes) -> RecordError:
    with pytest.raises(RecordError) as caught:
        subject.decode(None, value)
    return caught.value


class TestAvro:
    @pytest.mark.parametrize("kind", ["avro", AVRO_CONVERTER_CLASS])
    def test_a_value_is_read_by_its_schema_and_stays_exact(
        self, registry: Registry, kind: str
    ) -> None:
        change = decoder(**settings(registry, kind)).decode(None, avro(POINT, VALUE))
        assert isinstance(change, Upsert)
        assert (change.collection_name, change.point.id) == ("c", 2**53 + 1)
        assert json.loads(change.point.payload) == {
            "big": 2**63 - 1,
            "at": "2026-01-02T03:04:05.000Z",
            "price": "12.30",
            "raw": "AP8=",
        }

    def test_a_schema_is_fetched_once(self, registry: Registry) -> None:
        subject = decoder(**settings(registry))
        for _ in range(3):
            subject.decode(None, avro(POINT, VALUE))
        assert len(registry.requests) == 1

    def test_a_schema_may_refer_to_another(self, registry: Registry) -> None:
        inner = {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": "int"}]}
        outer = {
            "type": "record",
            "name": "Outer",
            "fields": [{"name": "id", "type": "int"}, {"name": "payload", "type": "Inner"}],
        }
        reference = {"name": "Inner", "subject": "inner", "version": 1}
        registry.schemas[8] = {"schema": json.dumps(outer), "references": [reference]}
        registry.schemas[9] = {"schema": json.dumps(inner)}
        registry.versions["inner"] = 9
        subject = decoder(**settings(registry), qdrant__collection__name="c")
        change = subject.decode(None, frame(8, b"\x02\x04"))
        assert isinstance(change, Upsert)
        assert (change.point.id, change.point.payload) == (1, b'{"a":2}')

    def test_a_key_and_a_tombstone(self, registry: Registry) -> None:
        registry.schemas[8] = {"schema": '"long"'}
        subject = decoder(
            key__converter="avro",
            key__converter__schema__registry__url=registry.url,
            qdrant__collection__name="c",
        )
        assert subject.decode(frame(8, b"\x0e"), None) == Delete("c", 7)
        with pytest.raises(RecordError) as caught:
            subject.decode(b"7", None)
        assert caught.value.stage is Stage.KEY_CONVERTER

    @pytest.mark.parametrize(
        "value",
        [b"", b"{}", b"\x00\x00\x00", frame(7, b""), frame(7, b"\xff\xff"),
         avro(POINT, VALUE) + b"x", avro(POINT, VALUE)[:-1]],
    )  # fmt: skip
    def test_what_does_not_fit_its_schema_is_a_converter_error(
        self, registry: Registry, value: bytes
    ) -> None:
        error = refusal(decoder(**settings(registry)), value)
        assert error.stage is Stage.VALUE_CONVERTER
        assert error.reason is Reason.INVALID_SCHEMA
        assert error.class_name == AVRO_CONVERTER_CLASS

    def test_a_schema_that_is_not_there_or_of_another_kind_is_the_records_fault(
        self, registry: Registry
    ) -> None:
        registry.schemas[8] = {"schema": "{}", "schemaType": "JSON"}
        registry.schemas[9] = {"schema": '{"type":"nonsense"}'}
        subject = decoder(**settings(registry))
        assert "not in the registry" in refusal(subject, frame(99, b"x")).message
        assert "of type JSON, not AVRO" in refusal(subject, frame(8, b"x")).message
        assert "cannot be used" in refusal(subject, frame(9, b"x")).message


class TestJsonSchema:
    SCHEMA = '{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}}'

    @pytest.mark.parametrize("kind", ["json-schema", JSON_SCHEMA_CONVERTER_CLASS])
    def test_a_value_is_checked_and_stays_exact(self, registry: Registry, kind: str) -> None:
        registry.schemas[8] = {"schema": self.SCHEMA, "schemaType": "JSON"}
        subject = decoder(**settings(registry, kind))
        value = b'{"collection_name":"c","id":18446744073709551615,"payload":{"f":5.0}}'
        change = subject.decode(None, frame(8, value))
        assert isinstance(change, Upsert)
        assert (change.point.id, change.point.payload) == (2**64 - 1, b'{"f":5.0}')
        assert "$.id" in refusal(subject, frame(8, b'{"id":"x"}')).message
        assert refusal(subject, frame(8, b"{")).reason is Reason.INVALID_JSON


def descriptor_text(**fields: Any) -> str:
    file = ParseDict(fields, descriptor_pb2.FileDescriptorProto())
    return base64.b64encode(file.SerializeToString()).decode()


def proto_field(name: str, number: int, kind: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "number": number,
        "type": f"TYPE_{kind}",
        "label": "LABEL_OPTIONAL",
    } | more


POINT_FIELDS = [
    proto_field("collection_name", 1, "STRING"),
    proto_field("id", 2, "UINT64"),
    proto_field("vector", 3, "FLOAT", label="LABEL_REPEATED"),
    proto_field("payload", 4, "MESSAGE", typeName=".p.Payload"),
]
PAYLOAD_FIELDS = [
    proto_field("big", 1, "INT64"),
    proto_field("at", 2, "MESSAGE", typeName=".google.protobuf.Timestamp"),
    proto_field("any", 3, "MESSAGE", typeName=".google.protobuf.Struct"),
    proto_field("raw", 4, "BYTES"),
    proto_field("absent", 5, "MESSAGE", typeName=".p.Payload"),
    proto_field("color", 6, "ENUM", typeName=".p.Color"),
]


class TestProtobuf:
    @pytest.fixture
    def subject(self, registry: Registry) -> RecordDecoder:
        payload = {"name": "Payload", "field": PAYLOAD_FIELDS}
        color = {"name": "Color", "value": [{"name": "RED", "number": 0}]}
        registry.schemas[8] = {
            "schemaType": "PROTOBUF",
            "schema": descriptor_text(
                name="a", package="p", syntax="proto3", messageType=[payload], enumType=[color],
                dependency=["google/protobuf/timestamp.proto", "google/protobuf/struct.proto"],
            ),
        }  # fmt: skip
        registry.versions["payload"] = 8
        point = {"name": "Point", "field": POINT_FIELDS}
        outer = {"name": "Outer", "nestedType": [{"name": "Other"}, point]}
        registry.schemas[9] = {
            "schemaType": "PROTOBUF",
            "schema": descriptor_text(
                name="b", package="p", syntax="proto3", messageType=[point, outer],
                dependency=["payload.proto"],
            ),
            "references": [{"name": "payload.proto", "subject": "payload", "version": 1}],
        }  # fmt: skip
        return decoder(**settings(registry, "protobuf"))

    def message(self) -> bytes:
        struct_value = struct_pb2.Struct()
        struct_value.update({"n": 5, "l": [None, True, "x"]})
        struct_bytes = struct_value.SerializeToString()
        payload = b"\x08" + b"\xff" * 8 + b"\x7f" + b"\x12\x02\x08\x05"
        payload += b"\x1a" + bytes([len(struct_bytes)]) + struct_bytes + b"\x22\x01\xff"
        return (
            b"\x0a\x01c"
            + b"\x10" + b"\xff" * 9 + b"\x01"
            + b"\x1a\x08" + struct.pack("<ff", 0.5, 1.0)
            + b"\x22" + bytes([len(payload)]) + payload
        )  # fmt: skip

    @pytest.mark.parametrize("indexes", [b"\x00", b"\x02\x00", b"\x04\x02\x02"])
    def test_a_message_is_found_by_its_indexes_and_stays_exact(
        self, subject: RecordDecoder, indexes: bytes
    ) -> None:
        change = subject.decode(None, frame(9, indexes + self.message()))
        assert isinstance(change, Upsert)
        assert (change.collection_name, change.point.id) == ("c", 2**64 - 1)
        assert list(change.point.vectors) == [""]
        assert json.loads(change.point.payload) == {
            "big": 2**63 - 1,
            "at": "1970-01-01T00:00:05.000Z",
            "any": {"n": 5.0, "l": [None, True, "x"]},
            "raw": "/w==",
            "absent": None,
            "color": "RED",
        }

    @pytest.mark.parametrize(
        "value", [b"", b"\x80", b"\x02\x08", b"\x01", b"\x00\x0a\x7f", b"\x04\x02"]
    )
    def test_what_is_no_such_message_is_a_converter_error(
        self, subject: RecordDecoder, value: bytes
    ) -> None:
        error = refusal(subject, frame(9, value))
        assert error.class_name == PROTOBUF_CONVERTER_CLASS
        assert error.stage is Stage.VALUE_CONVERTER


class TestOutages:
    @pytest.mark.parametrize("status", [500, 503, 429])
    def test_a_registry_that_cannot_answer_is_an_outage(
        self, registry: Registry, status: int
    ) -> None:
        subject = decoder(**settings(registry))
        registry.status = status
        with pytest.raises(Unavailable):
            subject.decode(None, avro(POINT, VALUE))
        registry.status = None
        assert isinstance(subject.decode(None, avro(POINT, VALUE)), Upsert)

    def test_no_registry_is_an_outage(self, registry: Registry) -> None:
        subject = decoder(
            value__converter="avro", value__converter__schema__registry__url="http://127.0.0.1:1"
        )
        with pytest.raises(Unavailable):
            subject.decode(None, avro(POINT, VALUE))

    def test_an_outage_costs_no_record_and_keeps_the_order(self, registry: Registry) -> None:
        rig = Rig(dead_letters=True, **settings(registry))
        registry.status = 500
        newer = VALUE | {"payload": {**POINT_PAYLOAD, "big": 2}}
        records = kafka_records(avro(POINT, VALUE), b"bad", avro(POINT, newer))
        batch = decode_batch(records, RecordDecoder.of(rig.config))
        with pytest.raises(Unavailable):
            batch.decode_rest()
        assert not batch.is_decoded
        registry.status = None
        batch.decode_rest()
        rig.writer.write(batch)
        assert json.loads(rig.points[2**53 + 1])["big"] == 2
        assert rig.dead.offsets == [1]

    def test_a_wrong_password_fails_the_task_with_advice(self, registry: Registry) -> None:
        registry.status = 401
        with pytest.raises(TaskFailed, match=r"value\.converter\.basic\.auth\.user\.info"):
            decoder(**settings(registry)).decode(None, avro(POINT, VALUE))


POINT_PAYLOAD: dict[str, Any] = dict(VALUE["payload"])  # type: ignore[call-overload]


class TestConfiguration:
    def test_the_registry_is_asked_with_the_password_and_nobody_sees_it(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REGISTRY_USER", "me:hidden-word")
        changed = {
            "value.converter": "avro",
            "value.converter.schema.registry.url": registry.url,
            "value.converter.basic.auth.credentials.source": "USER_INFO",
            "value.converter.basic.auth.user.info": "${env:REGISTRY_USER}",
        }
        config = ConnectorConfig.from_mapping(
            {"name": "test", "topics": "t", "bootstrap.servers": "b", **changed}
        )
        RecordDecoder.of(config).decode(None, avro(POINT, VALUE))
        expected = "Basic " + base64.b64encode(b"me:hidden-word").decode()
        assert registry.requests[0][1] == expected
        assert "hidden-word" not in repr(config) + repr(config.value_converter)

    @pytest.mark.parametrize(
        ("changed", "key"),
        [
            ({}, "value.converter.schema.registry.url"),
            (
                {"basic__auth__credentials__source": "SASL_INHERIT"},
                "value.converter.basic.auth.credentials.source",
            ),
            (
                {"basic__auth__credentials__source": "USER_INFO"},
                "value.converter.basic.auth.user.info",
            ),
        ],
    )
    def test_what_is_missing_is_named(self, changed: dict[str, str], key: str) -> None:
        url = {"value__converter__schema__registry__url": "http://r:1"} if changed else {}
        named = {f"value__converter__{name}": text for name, text in changed.items()}
        with pytest.raises(ConfigError) as caught:
            decoder(value__converter="avro", **url, **named)
        assert caught.value.key == key

    def test_a_registry_without_a_converter_that_asks_it_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="needs a converter"):
            decoder(value__converter__schema__registry__url="http://r:1")


class TestMessagePack:
    def test_a_value_is_read_exactly(self) -> None:
        moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
        value = {
            "collection_name": "c",
            "id": 2**64 - 1,
            "vector": [1, 0.5],
            "payload": {"f": 5.0, "b": b"\x00", "t": moment},
        }
        change = decoder(value__converter="msgpack").decode(None, msgspec.msgpack.encode(value))
        assert isinstance(change, Upsert)
        assert change.point.id == 2**64 - 1
        assert change.point.payload == b'{"f":5.0,"b":"AA==","t":"2026-01-02T00:00:00.000Z"}'

    @pytest.mark.parametrize(
        "value", [b"", b"\xc1", b"\x81", b"\x81\x01\x02", b"\xd4\x05\x00", b"\x80\x80"]
    )
    def test_what_is_not_a_message_is_a_converter_error(self, value: bytes) -> None:
        error = refusal(decoder(value__converter="msgpack"), value)
        assert error.stage is Stage.VALUE_CONVERTER
        assert error.reason is Reason.INVALID_MESSAGE_PACK

    def test_a_key_may_be_one(self) -> None:
        subject = decoder(key__converter="msgpack", qdrant__collection__name="c")
        assert subject.decode(b"\x07", None) == Delete("c", 7)
