"""Which bodies a worker reads, and how far."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from headrace.sink.worker import request_body
from headrace.sink.worker.request_body import BODY_BYTES_MAX, read_body
from tests.sink.worker.harness import config_of

JSON = {"content-type": "application/json"}


def new_connector(pad: int = 0) -> bytes:
    config = config_of("a", topics="topic")
    return json.dumps({"name": "a", "config": config}).encode() + b" " * pad


def scope_of(content_type: bytes) -> dict[str, object]:
    headers = [(b"content-type", content_type)]
    return {"type": "http", "method": "POST", "path": "/", "headers": headers}


def check_refused(client: TestClient, status: int, text: str, **request: object) -> None:
    answer = client.post("/connectors", **request)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert set(answer.json()) == {"error_code", "message"}
    assert answer.json()["error_code"] == status
    assert text in answer.json()["message"]
    assert client.get("/connectors").json() == []


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None]
)
def test_a_body_that_is_not_said_to_be_json_answers_415(
    client: TestClient, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    text = "HTTP 415 Unsupported Media Type: a body must be application/json"
    check_refused(client, 415, text, content=new_connector(), headers=headers)


def test_json_in_other_spellings_of_its_type_is_taken(client: TestClient) -> None:
    headers = {"content-type": "Application/JSON ; charset=UTF-8"}
    answer = client.post("/connectors", content=new_connector(), headers=headers)
    assert answer.status_code == 201


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/x-www-form-urlencoded"}])
def test_no_body_needs_no_type(client: TestClient, headers: dict[str, str]) -> None:
    client.post("/connectors", content=new_connector(), headers=JSON)
    assert client.put("/connectors/a/pause", content=b"", headers=headers).status_code == 202


def test_a_body_of_the_largest_size_is_taken_and_one_byte_more_answers_413(
    client: TestClient,
) -> None:
    largest = new_connector(BODY_BYTES_MAX - len(new_connector()))
    text = "HTTP 413 Request Entity Too Large"
    check_refused(client, 413, text, content=largest + b" ", headers=JSON)

    def without_length() -> Iterator[bytes]:
        yield from (largest, b" ")

    check_refused(client, 413, text, content=without_length(), headers=JSON)
    assert client.post("/connectors", content=largest, headers=JSON).status_code == 201


def test_a_body_that_does_not_come_to_its_end_answers_408(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.05)

    async def receive() -> Message:
        # A part now and then: no single one is late.
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    with pytest.raises(HTTPException) as caught:
        asyncio.run(read_body(Request(scope_of(b"application/json"), receive)))
    assert caught.value.status_code == 408
    assert (caught.value.headers or {})["connection"] == "close"


@pytest.mark.parametrize(("status", "content_type"), [(413, b"application/json"), (415, b"a/b")])
def test_a_body_that_is_refused_is_not_read_to_its_end(status: int, content_type: bytes) -> None:
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 1
        return {"type": "http.request", "body": b" " * 64 * 1024, "more_body": True}

    with pytest.raises(HTTPException) as caught:
        asyncio.run(read_body(Request(scope_of(content_type), receive)))
    assert caught.value.status_code == status
    assert received == (17 if status == 413 else 1)
