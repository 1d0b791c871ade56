"""What a worker's file says, and what of it has no meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.sink.errors import ConfigError
from headrace.sink.worker.defaults import read_worker_file


def test_what_a_workers_file_says_to_a_jvm_alone_is_named_in_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "worker.properties"
    path.write_text(
        "bootstrap.servers=h:1\nconfig.storage.topic=configs\nsecurity.protocol=SASL_SSL\n"
        "ssl.ca.location=/ca.pem\nenable.ssl.certificate.verification=false\n"
        "ssl.protocol=TLSv1.3\nssl.key.pasword=typo\nsasl.login.class=x.Y\nplugin.path=/x\n"
    )
    sharing = read_worker_file(path).sharing
    assert sharing is not None
    assert sharing.client_settings == {
        "bootstrap.servers": "h:1",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/ca.pem",
        "enable.ssl.certificate.verification": "false",
    }
    (warning,) = [one.getMessage() for one in caplog.records]
    assert warning.endswith(
        "is ignored: ssl.protocol, ssl.key.pasword, sasl.login.class, plugin.path"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rest.advertised.port", "-1"),
        ("rest.advertised.port", "0"),
        ("rest.advertised.port", "65536"),
        ("config.storage.replication.factor", "0"),
        ("config.storage.replication.factor", "10001"),
        ("status.storage.replication.factor", "-2"),
        ("status.storage.partitions", "many"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_its_key(
    tmp_path: Path, key: str, value: str
) -> None:
    path = tmp_path / "worker.properties"
    path.write_text(f"bootstrap.servers=h:1\nconfig.storage.topic=configs\n{key}={value}\n")
    with pytest.raises(ConfigError, match=rf"{key}.*'{value}' must be") as caught:
        read_worker_file(path)
    assert caught.value.key == key


def test_minus_one_is_the_clusters_own_default_and_the_advertised_port_is_told(
    tmp_path: Path,
) -> None:
    path = tmp_path / "worker.properties"
    path.write_text(
        "bootstrap.servers=h:1\nconfig.storage.topic=configs\nrest.advertised.host.name=me\n"
        "rest.advertised.port=65535\nconfig.storage.replication.factor=-1\n"
        "status.storage.replication.factor=-1\nstatus.storage.partitions=-1\n"
    )
    sharing = read_worker_file(path).sharing
    assert sharing is not None
    assert sharing.worker_id(8083) == "me:65535"
    replicas = sharing.config_replicas, sharing.status_replicas, sharing.status_partitions
    assert replicas == (-1, -1, -1)
