"""What a worker's file says, and what of it has no meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

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
