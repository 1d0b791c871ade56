"""Section 4 of the sink's contract, sentence by sentence: what a configuration may say."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headrace.model.errors import HeadraceError
from headrace.model.vectors import Distance
from headrace.service.service import Service
from headrace.sink.config import ConnectorConfig, load_connector_config
from headrace.sink.converters import JsonConverter, MessagePackConverter, TextConverter
from headrace.sink.errors import ConfigError, Stage
from headrace.sink.qdrant_target import QdrantTarget
from headrace.sink.registry import RegistryConverter
from headrace.sink.transforms.base import ConnectRecord
from headrace.sink.transforms.chain import predicate_classes, read_transforms, transform_classes
from headrace.sink.worker.defaults import read_worker_file, with_defaults
from tests.sink.contract.sink import Sink, change_of, config_of, refusal_of, value_of
from tests.sink.memory_target import MemoryTarget
from tests.sink.mock_kafka import MockKafka
from tests.sink.records import value
from tests.sink.stub_qdrant import stub_qdrant
from tests.sink.test_connector import running, wait_until_failed, wait_until_read

JAVAS = {
    "name": "points",
    "connector.class": "io.qdrant.kafka.QdrantSinkConnector",
    "tasks.max": "2",
    "topics": "a,b",
    "bootstrap.servers": "localhost:9092",
    "qdrant.grpc.url": "http://localhost:6334",
    "qdrant.api.key": "key",
    "qdrant.collection.name": "mine",
    "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter.schemas.enable": "false",
    "errors.tolerance": "all",
    "errors.deadletterqueue.topic.name": "dead",
    "errors.deadletterqueue.context.headers.enable": "true",
    "errors.log.enable": "true",
    "errors.log.include.messages": "true",
}
CONNECT = "org.apache.kafka.connect."


def refused_key(**settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config_of(**settings)
    return caught.value.key


@pytest.mark.parametrize("form", ["properties", "flat JSON", "JSON with name and config"])
def test_a_properties_file_and_json_as_kafka_connect_takes_them_are_taken(
    tmp_path: Path, form: str
) -> None:
    path = tmp_path / ("connector.properties" if form == "properties" else "connector.json")
    if form == "properties":
        path.write_text("".join(f"{key}={text}\n" for key, text in JAVAS.items()))
    elif form == "flat JSON":
        path.write_text(json.dumps(JAVAS))
    else:
        path.write_text(json.dumps({"name": JAVAS["name"], "config": JAVAS}))
    assert dict(load_connector_config(path).raw) == JAVAS


def test_every_key_of_javas_is_accepted_with_its_meaning() -> None:
    config = ConnectorConfig.from_mapping(JAVAS)
    assert (config.name, config.tasks_max, config.topics) == ("points", 2, ("a", "b"))
    assert config.grpc_url == "http://localhost:6334"
    assert config.resolved("qdrant.api.key") == "key"
    assert config.collection_name == "mine"
    assert config.errors.tolerate
    assert config.errors.dead_letter_topic == "dead"


def test_an_api_key_travels_with_each_request(recwarn: pytest.WarningsRecorder) -> None:
    for protocol in ("grpc", "rest"):
        with stub_qdrant(protocol) as stub:
            url = {f"qdrant__{protocol}__url": stub.url}
            target = QdrantTarget(config_of(**url, qdrant__api__key="sesame"))
            target.write("c", [], [1], [])
            target.close()
            assert stub.api_keys == {"sesame"}
    recwarn.clear()


@contextmanager
def first_bytes() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and what a client sends there first."""
    found: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)

        def take() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                found.append(connection.recv(3))

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", found
        thread.join(20)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_https_is_tls(protocol: str, scheme: str) -> None:
    with first_bytes() as (address, found):
        settings = {
            f"qdrant__{protocol}__url": f"{scheme}://{address}",
            "qdrant__request__timeout__ms": "1000",
        }
        target = QdrantTarget(config_of(**settings))
        with pytest.raises(HeadraceError):
            target.write("c", [], [1], [])
        target.close()
    # A TLS handshake begins with its record type and version.
    assert (found[0][:2] == b"\x16\x03") == (scheme == "https")


# Core


def test_topics_and_a_pattern_exclude_each_other_and_one_is_needed() -> None:
    assert config_of(topics="a, b").topics == ("a", "b")
    assert config_of(topics="", topics__regex="a.*").topics_pattern is not None
    assert refused_key(topics="") == "topics"
    assert refused_key(topics="a", topics__regex="a.*") == "topics"


def test_the_consumer_group_is_connect_and_the_name() -> None:
    assert config_of(name="points").consumer_settings(0)["group.id"] == "connect-points"


# Converters


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("json", CONNECT + "json.JsonConverter"), JsonConverter),
        (("string", CONNECT + "storage.StringConverter"), TextConverter),
        (("bytes", CONNECT + "converters.ByteArrayConverter"), TextConverter),
        (("msgpack",), MessagePackConverter),
        (("avro", "io.confluent.connect.avro.AvroConverter"), RegistryConverter),
        (("protobuf", "io.confluent.connect.protobuf.ProtobufConverter"), RegistryConverter),
        (("json-schema", "io.confluent.connect.json.JsonSchemaConverter"), RegistryConverter),
    ],
)
@pytest.mark.parametrize("part", ["key", "value"])
def test_a_converter_is_named_by_its_class_or_by_a_short_name(
    names: tuple[str, ...], kind: type, part: str
) -> None:
    for name in names:
        settings = {f"{part}__converter": name}
        if kind is RegistryConverter:
            settings[f"{part}__converter__schema__registry__url"] = "http://localhost:8081"
        config = config_of(**settings)
        converter = config.value_converter if part == "value" else config.key_converter
        assert isinstance(converter, kind)


def test_connects_json_converter_has_schemas_and_says_how_to_set_them_to_false() -> None:
    java = {"value__converter": CONNECT + "json.JsonConverter"}
    error = refusal_of(value_of(), None, **java)
    assert error.stage is Stage.VALUE_CONVERTER
    assert "schemas.enable=false" in error.message
    change_of(value_of(), None, **java, value__converter__schemas__enable="false")


def test_a_registry_is_asked_with_basic_authentication() -> None:
    converter = config_of(
        value__converter="avro",
        value__converter__schema__registry__url="http://localhost:8081",
        value__converter__basic__auth__credentials__source="USER_INFO",
        value__converter__basic__auth__user__info="me:secret",
    ).value_converter
    assert isinstance(converter, RegistryConverter)
    settings = converter.access.client_settings()
    assert settings["basic.auth.user.info"] == "me:secret"
    assert "secret" not in repr(converter)


# Transforms


SAMPLE = ConnectRecord(
    topic="a1",
    partition=0,
    kafka_offset=0,
    kafka_key=None,
    value={"a": 1, "n": {"x": 2}},
    headers=[("h", 0)],
    # 2026-03-04 12:05:06 UTC.
    timestamp_ms=1_772_625_906_000,
)
# By class name: its settings, and what it changes of the sample.
TRANSFORMS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "InsertField$Value": (
        {"static.field": "s", "static.value": "b"},
        {"value": {"a": 1, "n": {"x": 2}, "s": "b"}},
    ),
    "ReplaceField$Value": ({"exclude": "n"}, {"value": {"a": 1}}),
    "ExtractField$Value": ({"field": "a"}, {"value": 1}),
    "HoistField$Value": ({"field": "f"}, {"value": {"f": {"a": 1, "n": {"x": 2}}}}),
    "Flatten$Value": ({}, {"value": {"a": 1, "n.x": 2}}),
    "Cast$Value": ({"spec": "a:string"}, {"value": {"a": "1", "n": {"x": 2}}}),
    "MaskField$Value": ({"fields": "a"}, {"value": {"a": 0, "n": {"x": 2}}}),
    "RegexRouter": ({"regex": "a(.*)", "replacement": "z$1"}, {"topic": "z1"}),
    "TimestampRouter": (
        {"topic.format": "${topic}-${timestamp}", "timestamp.format": "yyyyMMdd"},
        {"topic": "a1-20260304"},
    ),
    "TimestampConverter$Value": (
        {"field": "a", "target.type": "string", "format": "yyyy"},
        {"value": {"a": "1970", "n": {"x": 2}}},
    ),
    "ValueToKey": ({"fields": "a"}, {"kafka_key": {"a": 1}}),
    "DropHeaders": ({"headers": "h"}, {"headers": []}),
    "HeaderFrom$Value": (
        {"fields": "a", "headers": "g", "operation": "copy"},
        {"headers": [("h", 0), ("g", 1)]},
    ),
    "InsertHeader": (
        {"header": "g", "value.literal": "b"},
        {"headers": [("h", 0), ("g", "b")]},
    ),
}
# By class name: its settings, and what of the sample must change for it not to hold.
PREDICATES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "TopicNameMatches": ({"pattern": "a.*"}, {"topic": "b1"}),
    "HasHeaderKey": ({"name": "h"}, {"headers": []}),
    "RecordIsTombstone": ({}, {"value": {}}),
}


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_a_transform_is_named_by_its_class_in_connect(name: str) -> None:
    settings, changed = TRANSFORMS[name]
    raw = {"transforms": "t", "transforms.t.type": f"{CONNECT}transforms.{name}"}
    raw |= {f"transforms.t.{key}": text for key, text in settings.items()}
    chain = read_transforms(raw)
    assert chain is not None
    found = chain.apply(SAMPLE)
    assert found is not None
    assert msgspec.structs.asdict(found) == msgspec.structs.asdict(SAMPLE) | changed


@pytest.mark.parametrize("name", list(PREDICATES))
def test_a_predicate_is_named_by_its_class_in_connect(name: str) -> None:
    settings, otherwise = PREDICATES[name]
    raw = {
        "transforms": "t",
        "transforms.t.type": f"{CONNECT}transforms.Filter",
        "transforms.t.predicate": "p",
        "predicates": "p",
        "predicates.p.type": f"{CONNECT}transforms.predicates.{name}",
    }
    raw |= {f"predicates.p.{key}": text for key, text in settings.items()}
    chain = read_transforms(raw)
    assert chain is not None
    holds = msgspec.structs.replace(SAMPLE, value=None)
    assert chain.apply(holds) is None
    other = msgspec.structs.replace(holds, **otherwise)
    assert chain.apply(other) is other


def test_the_transforms_and_predicates_of_the_contract_are_all_that_there_are() -> None:
    of_values = [one for one in transform_classes() if not one.endswith("$Key")]
    assert {one.rpartition(".")[2] for one in of_values} == {*TRANSFORMS, "Filter"}
    assert {one.rpartition(".")[2] for one in predicate_classes()} == {*PREDICATES}


# Routing


@pytest.mark.parametrize(
    ("settings", "collection_name"),
    [
        ({"collection__name__format": "of-${topic}"}, "of-topic"),
        ({"topic__to__collection": "other:x, topic:mapped"}, "mapped"),
        (
            {"collection__name__format": "of-${topic}", "topic__to__collection": "topic:mapped"},
            "mapped",
        ),
    ],
)
def test_a_topic_names_the_collection(settings: dict[str, str], collection_name: str) -> None:
    assert change_of(value_of(), None, **settings).collection_name == collection_name


@pytest.mark.parametrize(
    ("key", "text", "auto_create"),
    [
        ("qdrant.collection.name", "a/b", "false"),
        ("qdrant.collection.name", "x" * 256, "false"),
        ("qdrant.collection.name", "a:b", "true"),
        ("collection.name.format", "a/${topic}", "false"),
        ("topic.to.collection", "topic:..", "false"),
    ],
)
def test_a_collection_that_there_cannot_be_is_refused_by_its_key(
    key: str, text: str, auto_create: str
) -> None:
    raw = {"name": "n", "topics": "t", "bootstrap.servers": "b", key: text}
    with pytest.raises(ConfigError, match=re.escape(key)):
        ConnectorConfig.from_mapping({**raw, "collection.auto.create": auto_create})


def test_a_collection_is_made_with_what_its_first_record_and_the_connector_say(
    service: Service,
) -> None:
    sink = Sink(
        service,
        collection__auto__create__distance="Euclid",
        collection__auto__create__on__disk="true",
    )
    named = {"d": [1.0, 2.0, 3.0], "m": [[1.0, 2.0]], "s": {"indices": [1], "values": [1.0]}}
    sink.take(value_of(vector=named))
    config = service.collection_config("c")
    assert {name: one.size for name, one in config.vectors.items()} == {"d": 3, "m": 2}
    assert {one.distance for one in config.vectors.values()} == {Distance.EUCLID}
    assert all(one.on_disk for one in config.vectors.values())
    assert config.vectors["m"].is_multi
    assert list(config.sparse_vectors) == ["s"]


# Client settings and secrets


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "me"),
        ("ssl.ca.location", "ca.pem"),
        ("sasl.oauthbearer.method", "oidc"),
    ],
)
def test_client_settings_go_through_to_librdkafka(key: str, text: str) -> None:
    raw = {"name": "n", "topics": "t", "bootstrap.servers": "b"}
    consumer = ConnectorConfig.from_mapping({**raw, f"consumer.override.{key}": text})
    assert consumer.consumer_settings(0)[key] == text
    producer = ConnectorConfig.from_mapping({**raw, f"producer.override.{key}": text})
    assert producer.producer_settings(0)[key] == text


@pytest.mark.parametrize(
    "key",
    [
        "plugin.library.paths",
        "ssl.engine.location",
        "ssl.providers",
        "sasl.kerberos.kinit.cmd",
        "interceptor.classes",
        "group.id",
        "enable.auto.commit",
        "anything.new",
    ],
)
def test_client_settings_that_load_code_or_that_nobody_allowed_are_refused(key: str) -> None:
    raw = {"name": "n", "topics": "t", "bootstrap.servers": "b"}
    for prefix in ("consumer.override.", "producer.override."):
        with pytest.raises(ConfigError):
            ConnectorConfig.from_mapping({**raw, prefix + key: "x"})


def test_a_secret_is_in_no_log_no_status_and_no_dead_letter(
    kafka: MockKafka, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "opensesame-4711"
    monkeypatch.setenv("SESAME", secret)
    kafka.create_topic("topic")
    kafka.create_topic("dead")
    kafka.produce("topic", b"{", value(1), value(1, collection_name="nowhere"))
    given = {
        "errors__tolerance": "all",
        "errors__deadletterqueue__topic__name": "dead",
        "errors__deadletterqueue__context__headers__enable": "true",
        "errors__log__enable": "true",
        "errors__log__include__messages": "true",
        "consumer__override__sasl__username": "me",
        "consumer__override__sasl__password": "${env:SESAME}",
        "producer__override__sasl__password": "${env:SESAME}",
    }
    with running(kafka, MemoryTarget(c=2), **given) as connector:
        trace = wait_until_failed(connector)
        shown = repr(connector.config) + str(connector.config.shown()) + str(connector.status())
    (letter,) = kafka.read("dead")
    letters = str(letter.headers()) + str(letter.value())
    assert "${env:SESAME}" in shown
    for text in (trace, shown, letters, caplog.text):
        assert secret not in text


@pytest.mark.parametrize("provider", ["env", "file", "dir"])
def test_a_secret_comes_from_the_environment_a_file_or_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    monkeypatch.setenv("SESAME", "open")
    (tmp_path / "secrets.properties").write_text("sesame=open\n")
    (tmp_path / "sesame").write_text("open")
    placeholder = {
        "env": "${env:SESAME}",
        "file": f"${{file:{tmp_path}/secrets.properties:sesame}}",
        "dir": f"${{dir:{tmp_path}:sesame}}",
    }[provider]
    config = config_of(qdrant__grpc__url="http://localhost:6334", qdrant__api__key=placeholder)
    assert config.resolved("qdrant.api.key") == "open"
    assert config.shown()["qdrant.api.key"] == placeholder


# The worker


def test_a_workers_file_says_what_its_connectors_do_not(tmp_path: Path) -> None:
    path = tmp_path / "worker.properties"
    path.write_text(
        "bootstrap.servers=localhost:9092\nlisteners=http://127.0.0.1:8084\n"
        "offset.flush.interval.ms=250\ngroup.id=workers\n"
    )
    defaults = read_worker_file(path)
    assert (defaults.host, defaults.port) == ("127.0.0.1", 8084)
    config = ConnectorConfig.from_mapping(
        with_defaults({"name": "n", "topics": "t"}, defaults.settings)
    )
    assert config.consumer_settings(0)["bootstrap.servers"] == "localhost:9092"
    assert config.offset_flush_interval_ms == 250


def test_offsets_are_kept_at_the_offset_flush_interval(kafka: MockKafka) -> None:
    kafka.create_topic("topic")
    kafka.produce("topic", value(1))
    target = MemoryTarget(c=2)
    with running(kafka, target, offset__flush__interval__ms="600000") as connector:
        wait_until_read(connector, 1)
        time.sleep(0.5)
        saved_meanwhile = dict(target.saved)
    assert set(saved_meanwhile.values()) <= {0}
    # And when it ends.
    assert set(target.saved.values()) == {1}
