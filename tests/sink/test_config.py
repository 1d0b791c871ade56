from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from headrace.sink.client_settings import admin_settings
from headrace.sink.config import ConnectorConfig, load_connector_config
from headrace.sink.config_keys import SUPPORTED_KEYS
from headrace.sink.converters import JsonConverter, TextConverter
from headrace.sink.errors import ConfigError
from headrace.sink.topic_pattern import posix_pattern

MINIMAL = {"name": "test", "topics": "a, b", "bootstrap.servers": "localhost:9092"}
JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"


def config(**changed: str) -> ConnectorConfig:
    """The minimal configuration with changes; dots in keys are written as `__`."""
    return ConnectorConfig.from_mapping(
        MINIMAL | {key.replace("__", "."): value for key, value in changed.items()}
    )


def refusal(**changed: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        config(**changed)
    return caught.value


class TestFiles:
    def test_a_properties_file_is_read_as_java_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "connector.properties"
        path.write_bytes(
            b"# a comment\n! another\nname = caf\xc3\xa9\ntopics:a,\\\n   b\n"
            b"bootstrap.servers\tlocalhost:9092\nqdrant.collection.name=x\\u0041\\=\\:\\ y\n"
            b"name=twice\n"
        )
        loaded = load_connector_config(path)
        assert loaded.name == "twice"
        assert loaded.topics == ("a", "b")
        assert loaded.collection_name == "xA=: y"

    def test_a_properties_file_may_be_latin_1(self, tmp_path: Path) -> None:
        path = tmp_path / "connector.properties"
        path.write_bytes(b"name=caf\xe9\ntopics=a\nbootstrap.servers=b\n")
        assert load_connector_config(path).name == "caf\xe9"

    @pytest.mark.parametrize("nested", [True, False])
    def test_a_json_file_is_flat_or_has_name_and_config(self, tmp_path: Path, nested: bool) -> None:
        path = tmp_path / "connector.json"
        content: dict[str, object] = {**MINIMAL, "tasks.max": 2, "errors.log.enable": True}
        if nested:
            del content["name"]
            content = {"name": "test", "config": content}
        path.write_text(json.dumps(content))
        loaded = load_connector_config(path)
        assert (loaded.name, loaded.tasks_max, loaded.errors.log) == ("test", 2, True)

    @pytest.mark.parametrize(
        "text",
        ["{", "[1]", '{"name":null}', '{"name":{"a":1}}', '{"name":"a","config":{"name":"b"}}'],
    )
    def test_a_json_file_that_is_none_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "connector.json"
        path.write_text(text)
        with pytest.raises(ConfigError):
            load_connector_config(path)

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load_connector_config(tmp_path / "nowhere.properties")

    def test_a_broken_escape_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "connector.properties"
        path.write_text("name=\\u12\n")
        with pytest.raises(ConfigError, match=r"not a \.properties file"):
            load_connector_config(path)


class TestKeys:
    def test_the_defaults_are_kafka_connects(self) -> None:
        plain = config()
        assert plain.tasks_max == 1
        assert plain.source == "connect-test"
        assert plain.is_embedded
        assert not plain.errors.tolerate
        assert plain.errors.dead_letter_topic is None
        assert plain.errors.replication_factor == 3
        assert plain.auto_create is None
        assert plain.retry.timeout_ms is None
        assert plain.consumer_settings(0)["isolation.level"] == "read_committed"
        assert plain.consumer_settings(0)["partition.assignment.strategy"] == "cooperative-sticky"

    @pytest.mark.parametrize("key", ["name", "bootstrap.servers", "topics"])
    def test_required_keys_are_missed(self, key: str) -> None:
        with pytest.raises(ConfigError) as caught:
            ConnectorConfig.from_mapping({k: v for k, v in MINIMAL.items() if k != key})
        assert caught.value.key == key

    def test_topics_and_a_pattern_exclude_each_other(self) -> None:
        assert refusal(topics__regex="a.*").key == "topics"

    def test_only_qdrants_connector_class_is_taken(self) -> None:
        assert config(connector__class="io.qdrant.kafka.QdrantSinkConnector")
        assert refusal(connector__class="io.other.Connector").key == "connector.class"

    @pytest.mark.parametrize(
        "key",
        [
            "key.converter.replace.null.with.default",
            "qdrant.grpc.ulr",
            "errors.retries",
            "batch.sise",
            "consumer.fetch.min.bytes",
            "security.protocol",
            "sasl.jaas.config",
            "listeners",
            "group.id",
        ],
    )
    def test_what_is_known_and_cannot_be_done_is_refused(self, key: str) -> None:
        with pytest.raises(ConfigError, match="not supported") as caught:
            ConnectorConfig.from_mapping({**MINIMAL, key: "x"})
        assert caught.value.key == key

    @pytest.mark.parametrize(
        "key",
        [
            "errors.retry.timeout",
            "errors.retry.delay.max.ms",
            "config.action.reload",
            "value.converter.schemas.cache.size",
            "key.converter.decimal.format",
            "value.converter.auto.register.schemas",
        ],
    )
    def test_keys_of_connect_that_change_nothing_written_are_taken_and_named(
        self, key: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        ConnectorConfig.from_mapping({**MINIMAL, key: "30000"})
        assert f"'{key}' has no effect: " in caplog.text

    def test_a_null_in_a_json_file_is_a_key_that_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "connector.json"
        path.write_text(json.dumps({**MINIMAL, "qdrant.api.key": None}))
        assert "qdrant.api.key" not in load_connector_config(path).raw

    @pytest.mark.parametrize(
        "kind",
        [
            "org.apache.kafka.connect.storage.SimpleHeaderConverter",
            "org.apache.kafka.connect.storage.StringConverter",
            "org.apache.kafka.connect.converters.ByteArrayConverter",
            "string",
        ],
    )
    def test_headers_are_taken_as_they_are_by_these_converters(self, kind: str) -> None:
        config = ConnectorConfig.from_mapping({**MINIMAL, "header.converter": kind})
        assert not config.reads_json_headers

    def test_headers_of_json_are_read_without_schemas(self) -> None:
        with pytest.raises(ConfigError, match="must be false"):
            ConnectorConfig.from_mapping({**MINIMAL, "header.converter": JSON_CONVERTER})
        raw = {**MINIMAL, "header.converter": JSON_CONVERTER}
        raw["header.converter.schemas.enable"] = "false"
        assert ConnectorConfig.from_mapping(raw).reads_json_headers
        with pytest.raises(ConfigError, match="is not supported"):
            ConnectorConfig.from_mapping({**MINIMAL, "header.converter": "Own"})

    def test_what_kafka_connect_ignores_is_logged_and_ignored(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING):
            assert config(some__other__key="x", plugin__path="y")
        assert "'some.other.key' is unknown" in caplog.text
        assert "'plugin.path' is unknown" in caplog.text

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("tasks.max", "0"),
            ("tasks.max", "many"),
            ("batch.size", "-1"),
            ("linger.ms", ""),
            ("errors.tolerance", "some"),
            ("errors.log.enable", "yes"),
            ("collection.auto.create", "maybe"),
            ("qdrant.grpc.url", "localhost:6334"),
            ("value.converter", "xml"),
            ("key.converter", "com.example.MyConverter"),
            ("consumer.override.auto.offset.reset", "none"),
        ],
    )
    def test_a_value_that_is_none_is_refused(self, key: str, value: str) -> None:
        with pytest.raises(ConfigError) as caught:
            ConnectorConfig.from_mapping({**MINIMAL, key: value})
        assert caught.value.key == key
        assert key in caught.value.message

    def test_keys_that_need_another_one_are_refused_alone(self) -> None:
        assert refusal(qdrant__api__key="k").key == "qdrant.api.key"
        assert refusal(qdrant__request__timeout__ms="5").key == "qdrant.request.timeout.ms"
        assert "distance" in refusal(collection__auto__create__distance="Dot").key

    def test_two_targets_are_refused(self) -> None:
        urls = {"qdrant__grpc__url": "http://a:1", "qdrant__rest__url": "http://a:2"}
        assert refusal(**urls).key == "qdrant.rest.url"

    def test_the_dead_letter_topic_is_not_an_input(self) -> None:
        dead = "errors__deadletterqueue__topic__name"
        assert "is one of the inputs" in refusal(**{dead: "b"}).message
        with pytest.raises(ConfigError, match="is one of the inputs"):
            ConnectorConfig.from_mapping(
                {
                    "name": "test",
                    "bootstrap.servers": "b",
                    "topics.regex": "in-.*",
                    "errors.deadletterqueue.topic.name": "in-dead",
                }
            )

    def test_every_supported_key_is_taken(self) -> None:
        samples = {
            "connector.class": "QdrantSink",
            "topics.regex": "",
            "key.converter": "avro",
            "key.converter.basic.auth.credentials.source": "USER_INFO",
            "value.converter": "avro",
            "value.converter.basic.auth.credentials.source": "USER_INFO",
            "qdrant.grpc.url": "http://localhost:6334",
            "collection.auto.create.distance": "Dot",
            "errors.tolerance": "all",
            "transforms": "",
            "predicates": "",
            "collection.name.format": "",
            "topic.to.collection": "a:b",
            "payload.metadata": "topic",
            "write.method": "merge",
            "version.from": "offset",
            "vector.from.text.options": "{}",
            "id.from": "key",
            "header.converter": "json",
            "header.converter.schemas.enable": "false",
        }
        numbers = {"tasks.max", "batch.size", "batch.bytes", "max.in.flight.requests"}
        for key in SUPPORTED_KEYS - MINIMAL.keys() - samples.keys() - {"qdrant.rest.url"}:
            is_flag = key.endswith(("enable", "auto.create", "on.disk", "include.messages"))
            is_number = key in numbers or key.endswith((".ms", "factor"))
            samples[key] = "true" if is_flag else "5" if is_number else "text"
        ConnectorConfig.from_mapping({**MINIMAL, **samples})


class TestConverters:
    def test_without_a_converter_values_are_json_without_schemas(self) -> None:
        converter = config().value_converter
        assert isinstance(converter, JsonConverter)
        assert not converter.schemas_enable
        assert config().key_converter is None

    def test_connects_json_converter_has_schemas_unless_told_otherwise(self) -> None:
        converter = config(value__converter=JSON_CONVERTER).value_converter
        assert isinstance(converter, JsonConverter)
        assert converter.schemas_enable
        converter = config(
            value__converter=JSON_CONVERTER, value__converter__schemas__enable="false"
        ).value_converter
        assert converter.reads_plain_json

    def test_short_names(self) -> None:
        assert config(value__converter="json").value_converter.reads_plain_json
        assert isinstance(config(value__converter="bytes").value_converter, TextConverter)
        assert isinstance(config(key__converter="string").key_converter, TextConverter)

    def test_schemas_alone_do_not_make_keys_strict(self) -> None:
        assert config(key__converter__schemas__enable="false").key_converter is None
        assert config(key__converter__schemas__enable="true").key_converter is not None


class TestSecrets:
    def test_placeholders_are_filled_in_only_for_clients(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("BROKERS", "broker:9092")
        (tmp_path / "secrets.properties").write_text("password=s3cret\n")
        (tmp_path / "user").write_text("alice")
        changed = {
            "bootstrap.servers": "${env:BROKERS}",
            "consumer.override.sasl.username": f"${{dir:{tmp_path}:user}}",
            "consumer.override.sasl.password": f"${{file:{tmp_path}/secrets.properties:password}}",
        }
        secret = ConnectorConfig.from_mapping({**MINIMAL, **changed})
        settings = secret.consumer_settings(0)
        assert settings["bootstrap.servers"] == "broker:9092"
        assert settings["sasl.username"] == "alice"
        assert settings["sasl.password"] == "s3cret"
        for text in (repr(secret), str(secret), str(secret.shown()), str(dict(secret.raw))):
            assert "s3cret" not in text
            assert "broker:9092" not in text
            assert "${env:BROKERS}" in text

    def test_a_bare_secret_is_hidden(self) -> None:
        bare = config(
            qdrant__grpc__url="http://localhost:6334",
            qdrant__api__key="bare1",
            consumer__override__sasl__password="bare2",
            consumer__override__sasl__oauthbearer__client__secret="bare3",
            producer__override__ssl__key__password="bare4",
        )
        assert "bare" not in repr(bare)
        assert bare.shown()["qdrant.api.key"] == "[hidden]"
        assert bare.resolved("qdrant.api.key") == "bare1"

    @pytest.mark.parametrize(
        "placeholder",
        [
            "${env:NOT_SET_ANYWHERE}",
            "${file:/nowhere:key}",
            "${dir:/tmp:../etc/passwd}",
            "${file:x}",
            "${secrets:namespace/name:key}",
            "${vault:x}",
        ],
    )
    def test_a_placeholder_that_cannot_be_filled_in_is_an_error_at_use(
        self, placeholder: str
    ) -> None:
        broken = config(qdrant__grpc__url="http://localhost:6334", qdrant__api__key=placeholder)
        with pytest.raises(ConfigError) as caught:
            broken.resolved("qdrant.api.key")
        assert caught.value.key == "qdrant.api.key"

    def test_an_unknown_provider_is_named_with_those_that_there_are(self) -> None:
        broken = config(qdrant__grpc__url="http://localhost:6334", qdrant__api__key="a${vault:x}b")
        with pytest.raises(ConfigError, match=r"'vault'.*\$\{env:VAR\}"):
            broken.resolved("qdrant.api.key")
        routed = config(collection__name__format="${topic}-all")
        assert routed.resolved("collection.name.format") == "${topic}-all"

    def test_an_error_shows_the_placeholder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TASKS", "s3cret")
        message = refusal(tasks__max="${env:TASKS}").message
        assert "s3cret" not in message
        assert "${env:TASKS}" in message


class TestClientSettings:
    def test_overrides_go_through_by_librdkafkas_names(self) -> None:
        changed = {
            "consumer.override.session.timeout.ms": "6000",
            "consumer.override.heartbeat.interval.ms": "500",
            "consumer.override.fetch.max.wait.ms": "100",
            "producer.override.compression.type": "lz4",
        }
        overridden = ConnectorConfig.from_mapping({**MINIMAL, **changed})
        settings = overridden.consumer_settings(1)
        assert settings["session.timeout.ms"] == "6000"
        assert settings["fetch.wait.max.ms"] == "100"
        assert settings["client.id"] == "connector-consumer-test-1"
        assert overridden.producer_settings(0)["compression.type"] == "lz4"

    @pytest.mark.parametrize(
        "name",
        [
            "plugin.library.paths",
            "ssl.engine.location",
            "ssl.providers",
            "sasl.kerberos.kinit.cmd",
            "sasl.oauthbearer.assertion.private.key.file",
            "interceptor.classes",
            "enable.auto.commit",
            "group.id",
            "partition.assignment.strategy",
            "sasl.jaas.config",
            "ssl.truststore.location",
            "debug",
            "nonsense",
        ],
    )
    def test_no_override_loads_code_or_breaks_a_promise(self, name: str) -> None:
        with pytest.raises(ConfigError) as caught:
            ConnectorConfig.from_mapping({**MINIMAL, f"consumer.override.{name}": "x"})
        assert caught.value.key == f"consumer.override.{name}"

    def test_dead_letters_are_always_acknowledged(self) -> None:
        assert config().producer_settings(0)["acks"] == "all"
        with pytest.raises(ConfigError):
            ConnectorConfig.from_mapping({**MINIMAL, "producer.override.acks": "0"})

    def test_the_admin_client_gets_what_it_needs_of_the_producers(self) -> None:
        changed = {
            "producer.override.security.protocol": "SASL_SSL",
            "producer.override.sasl.username": "u",
            "producer.override.ssl.ca.location": "/ca.pem",
            "producer.override.compression.type": "lz4",
        }
        producer = ConnectorConfig.from_mapping({**MINIMAL, **changed}).producer_settings(0)
        assert admin_settings(producer) == {
            "bootstrap.servers": "localhost:9092",
            "security.protocol": "SASL_SSL",
            "sasl.username": "u",
            "ssl.ca.location": "/ca.pem",
        }

    def test_each_task_is_a_static_member_of_its_own(self) -> None:
        one = config(group__instance__id="me").consumer_settings(0)
        assert one["group.instance.id"] == "me"
        two = config(group__instance__id="me", tasks__max="2").consumer_settings(1)
        assert two["group.instance.id"] == "me-1"


class TestTopicPatterns:
    @pytest.mark.parametrize(
        ("java", "posix"),
        [
            ("in-.*", "^(in-.*)$"),
            (r"in-\d+", "^(in-[0-9]+)$"),
            (r"a\.b|c", r"^(a\.b|c)$"),
            (r"[\w.-]+", "^([A-Za-z0-9_.-]+)$"),
            (r"[a\.b]x{2,3}", "^([a.b]x{2,3})$"),
        ],
    )
    def test_what_posix_has_is_translated(self, java: str, posix: str) -> None:
        assert posix_pattern(java) == posix

    @pytest.mark.parametrize(
        "java", ["(", "(?:a)", "a*?", "a++", r"\bfoo", r"\p{L}", "[a&&b]", r"[\]]", r"(a)\1"]
    )
    def test_what_posix_does_not_have_is_refused(self, java: str) -> None:
        with pytest.raises(ConfigError) as caught:
            posix_pattern(java)
        assert caught.value.key == "topics.regex"


def test_a_key_that_is_nearly_one_is_told_with_the_one_that_was_meant(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base = {"name": "a", "topics": "t", "bootstrap.servers": "h:1"}
    with pytest.raises(ConfigError, match=r"did you mean 'collection\.auto\.create'\?"):
        ConnectorConfig.from_mapping({**base, "collection.auto.creat": "true"})
    with pytest.raises(ConfigError, match=r"not supported by this version$"):
        ConnectorConfig.from_mapping({**base, "errors.something.else": "true"})
    ConnectorConfig.from_mapping({**base, "linger.mss": "5", "flavour": "mild"})
    assert "'linger.mss' is unknown and ignored: did you mean 'linger.ms'?" in caplog.text
    assert caplog.text.rstrip().endswith("'flavour' is unknown and ignored")
