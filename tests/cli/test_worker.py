"""The worker's REST API on a socket: what peers that say little or too slowly get."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from headrace.cli import sink_status
from headrace.cli.worker import RunningWorker
from headrace.server import http_connection
from headrace.sink.progress import SinkProgress
from headrace.sink.worker import request_body
from headrace.sink.worker.errors import ConnectorNotFound
from headrace.sink.worker.store import ConnectorStore
from headrace.sink.worker.worker import Worker

PATIENCE_S = 20.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    running = RunningWorker(Worker(ConnectorStore(tmp_path)), ("127.0.0.1", 0), 0)
    running.start()
    assert running.url is not None
    yield running.url
    assert running.stop(PATIENCE_S)


def answer_to(url: str, said: bytes) -> bytes:
    """What the worker says until it ends the connection."""
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as peer:
        peer.settimeout(PATIENCE_S)
        peer.sendall(said)
        answer = b""
        while part := peer.recv(10_000):
            answer += part
    return answer


@pytest.mark.parametrize("said", [b"", b"GET /connectors HTTP/1.1\r\nhost: x\r\n"])
def test_a_head_that_does_not_end_in_time_ends_the_connection(
    url: str, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "REQUEST_HEAD_S", 0.2)
    assert answer_to(url, said) == b""
    assert httpx.get(url).status_code == 200


def test_a_body_that_stops_in_the_middle_is_told_so(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.2)
    head = b"POST /connectors HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    answer = answer_to(url, head + b"content-length: 100\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error_code":408' in answer
    assert httpx.get(f"{url}/connectors").json() == []


def test_the_first_line_of_progress_has_the_rate_since_the_start(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def standing(name: str) -> Any:
        raise ConnectorNotFound(name)

    no_tasks: list[Any] = []
    one_record = ("a", no_tasks, SinkProgress(records_read=1))
    stub = SimpleNamespace(
        start=lambda: None, stop=lambda _s: True, running=lambda: [one_record], standing=standing
    )
    running = RunningWorker(cast(Worker, stub), None, 1.0)
    with caplog.at_level(logging.INFO):
        running.start()
        deadline = time.monotonic() + PATIENCE_S
        while "records_per_s" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        running.stop(PATIENCE_S)
    found = re.search(r"records_per_s=(\d+)", caplog.text)
    assert found is not None
    assert int(found[1]) < 10


def test_the_reasons_of_bad_records_stand_whole_in_a_narrow_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = ("invalid_collection_name", "wrong_vector_dimension")
    metrics = "# TYPE headrace_sink_bad_records counter\n" + "".join(
        f'headrace_sink_bad_records_total{{connector="airports",task="0",reason="{one}"}} 17\n'
        for one in reasons
    )
    status = '{"airports":{"status":{"connector":{"state":"RUNNING"},"tasks":[]}}}'
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(
        sink_status, "_ask", lambda _url, path: metrics if path == "/metrics" else status
    )
    sink_status.status("http://unused", 0.1)
    shown = capsys.readouterr().out
    for one in reasons:
        assert f"{one} 17" in shown
