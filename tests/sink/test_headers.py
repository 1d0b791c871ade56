"""Headers as JSON: read for transforms, metadata and versions; a broken one is a bad record."""

from __future__ import annotations

import json

import pytest

from headrace.sink.changes import Upsert
from headrace.sink.config import ConnectorConfig
from headrace.sink.decode import RecordDecoder
from headrace.sink.errors import RecordError, Stage
from headrace.sink.kafka_record import KafkaHeaders, KafkaRecord
from tests.sink.records import PARTITION, value

MINIMAL = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
JSON_HEADERS = {"header.converter": "json"}


def payload(headers: KafkaHeaders, **settings: str) -> dict[str, object]:
    raw = MINIMAL | {name.replace("__", "."): text for name, text in settings.items()}
    decoder = RecordDecoder.of(ConnectorConfig.from_mapping(raw | JSON_HEADERS))
    (change,) = decoder.decode_record(KafkaRecord(PARTITION, 0, None, value(1), headers))
    assert isinstance(change, Upsert)
    found: dict[str, object] = json.loads(change.point.payload)
    return found


def test_json_headers_reach_the_payload_as_what_they_say() -> None:
    headers: KafkaHeaders = [("n", b"7"), ("deep", b'{"a":[1.5,null]}'), ("none", None)]
    found = payload(headers, payload__metadata="headers")
    assert found == {"_kafka": {"headers": {"n": 7, "deep": {"a": [1.5, None]}, "none": None}}}


def test_a_json_header_may_be_the_version() -> None:
    headers: KafkaHeaders = [("v", b"12")]
    found = payload(headers, version__field="_v", version__from="header.v")
    assert found == {"_v": 12}


@pytest.mark.parametrize("settings", [{}, {"payload__metadata": "topic"}])
def test_a_header_that_is_no_json_is_a_bad_record_of_its_own_stage(
    settings: dict[str, str],
) -> None:
    with pytest.raises(RecordError, match="Header 'h': not JSON") as caught:
        payload([("h", b"{")], **settings)
    assert caught.value.stage is Stage.HEADER_CONVERTER
