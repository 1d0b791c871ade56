"""Java's way to say user and password, for librdkafka."""

from __future__ import annotations

import pytest

from headrace.sink.config import ConnectorConfig
from headrace.sink.errors import ConfigError
from headrace.sink.jaas import jaas_settings

MINIMAL = {"name": "test", "topics": "topic", "bootstrap.servers": "unused"}
KEY = "consumer.override.sasl.jaas.config"


@pytest.mark.parametrize(
    ("text", "user", "password"),
    [
        (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            'username="KEY" password="se;cr=et";',
            "KEY",
            "se;cr=et",
        ),
        (
            "org.apache.kafka.common.security.scram.ScramLoginModule   required\n"
            '  password="a\\"b\\\\c"\n  username="me" ;',
            "me",
            'a"b\\c',
        ),
        ("PlainLoginModule required username=me password=word;", "me", "word"),
        (
            """PlainLoginModule required username='alice' password='it\\'s "so" = x;';""",
            "alice",
            """it's "so" = x;""",
        ),
        ("PlainLoginModule required username='' password=\"o'clock\";", "", "o'clock"),
    ],
)
def test_user_and_password_are_found(text: str, user: str, password: str) -> None:
    assert jaas_settings(KEY, text) == {"sasl.username": user, "sasl.password": password}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "com.sun.security.auth.module.JndiLoginModule required user.provider.url=ldap://x;",
        "PlainLoginModule optional username=me password=opensesame;",
        'PlainLoginModule required username="me";',
        "PlainLoginModule required username=me password='opensesame;",
        "PlainLoginModule required username=me password=opensesame'x';",
    ],
)
def test_what_is_not_understood_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ConnectorConfig.from_mapping(MINIMAL | {KEY: text})
    assert caught.value.key == KEY
    assert "opensesame" not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "${env:WHOLE}",
        'PlainLoginModule required username="me" password="${env:PART}";',
    ],
)
def test_placeholders_are_filled_in_and_the_secret_is_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("PART", "opensesame")
    monkeypatch.setenv("WHOLE", 'PlainLoginModule required username=me password="opensesame";')
    config = ConnectorConfig.from_mapping(MINIMAL | {KEY: text})
    settings = config.consumer_settings(0)
    assert settings["sasl.username"] == "me"
    assert settings["sasl.password"] == "opensesame"
    assert "sasl.jaas.config" not in settings
    assert "opensesame" not in repr(config)
