"""Snapshots over REST: what is made, listed, sent, taken back, and refused."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.server.rest.rest_server import Rest

Upload = Callable[..., httpx.Response]


@pytest.fixture
def filled(rest: Rest, collection: str) -> str:
    fill(rest, collection, 1, 2, 3)
    return collection


def fill(rest: Rest, collection: str, *ids: int) -> None:
    points = [{"id": i, "vector": [i, 0, 0, 1], "payload": {"n": i}} for i in ids]
    rest.result("PUT", f"/collections/{collection}/points?wait=true", {"points": points})


def count(rest: Rest, collection: str) -> int:
    found: int = rest.result("POST", f"/collections/{collection}/points/count", {})["count"]
    return found


def file_of(rest: Rest, collection: str, name: str) -> Path:
    return rest.service.snapshots.path(collection, name)


def upload(
    rest: Rest, collection: str, content: bytes, field: str = "snapshot", query: str = ""
) -> httpx.Response:
    path = f"/collections/{collection}/snapshots/upload{query}"
    return rest.http.post(path, files={field: ("a.snapshot", content)})


def incoming(rest: Rest) -> list[Path]:
    folder = rest.service._engine.snapshots.directory
    return list(folder.glob(".*")) if folder.exists() else []


def test_a_snapshot_is_made_listed_sent_and_deleted(rest: Rest, filled: str) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    assert set(made) == {"name", "creation_time", "size", "checksum"}
    assert made["name"].startswith(f"{filled}-")
    assert rest.result("GET", f"/collections/{filled}/snapshots") == [made]
    sent = rest.http.get(f"/collections/{filled}/snapshots/{made['name']}")
    assert sent.status_code == 200
    assert sent.headers["content-type"] == "application/octet-stream"
    assert len(sent.content) == made["size"]
    assert hashlib.sha256(sent.content).hexdigest() == made["checksum"]
    assert rest.result("DELETE", f"/collections/{filled}/snapshots/{made['name']}") is True
    assert rest.result("GET", f"/collections/{filled}/snapshots") == []
    assert rest.error("GET", f"/collections/{filled}/snapshots/{made['name']}")[0] == 404
    assert rest.error("DELETE", f"/collections/{filled}/snapshots/{made['name']}")[0] == 404


def test_an_upload_restores_the_collection(rest: Rest, filled: str) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    content = file_of(rest, filled, made["name"]).read_bytes()
    fill(rest, filled, 4, 5)
    answer = upload(rest, filled, content, query=f"?checksum={made['checksum']}&priority=snapshot")
    assert answer.json()["result"] is True
    assert count(rest, filled) == 3
    assert incoming(rest) == []


def test_an_upload_makes_the_collection(rest: Rest, filled: str) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    content = file_of(rest, filled, made["name"]).read_bytes()
    new = f"{filled}-new"
    assert upload(rest, new, content).json()["result"] is True
    assert count(rest, new) == 3
    rest.result("DELETE", f"/collections/{new}")


@pytest.mark.parametrize("checksum", ["0" * 64, "f" * 64])
def test_a_wrong_checksum_is_400_and_nothing_is_recovered(
    rest: Rest, filled: str, checksum: str
) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    path = file_of(rest, filled, made["name"])
    fill(rest, filled, 4)
    answer = upload(rest, filled, path.read_bytes(), query=f"?checksum={checksum}")
    assert answer.status_code == 400
    assert "checksum mismatch" in answer.json()["status"]["error"]
    body = {"location": path.as_uri(), "checksum": checksum}
    for name in (filled, f"{filled}-new"):
        status, text = rest.error("PUT", f"/collections/{name}/snapshots/recover", body)
        assert (status, "checksum mismatch" in text) == (400, True)
    assert count(rest, filled) == 4
    assert rest.result("GET", f"/collections/{filled}-new/exists") == {"exists": False}
    assert incoming(rest) == []


@pytest.mark.parametrize("checksum", ["abc", "g" * 64, "0" * 63, "0" * 65])
def test_a_checksum_that_is_none_is_422(rest: Rest, filled: str, checksum: str) -> None:
    body = {"location": "file:///x.snapshot", "checksum": checksum}
    assert rest.error("PUT", f"/collections/{filled}/snapshots/recover", body)[0] == 422
    assert upload(rest, filled, b"x", query=f"?checksum={checksum}").status_code == 422
    assert incoming(rest) == []


def test_a_snapshot_in_the_directory_is_recovered(rest: Rest, filled: str) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    fill(rest, filled, 4)
    body = {
        "location": file_of(rest, filled, made["name"]).as_uri(),
        "checksum": made["checksum"].upper(),
        "priority": "replica",
    }
    assert rest.result("PUT", f"/collections/{filled}/snapshots/recover", body) is True
    assert count(rest, filled) == 3


def test_a_location_elsewhere_is_refused(rest: Rest, filled: str, tmp_path: Path) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    inside = file_of(rest, filled, made["name"])
    outside = tmp_path / "outside.snapshot"
    outside.write_bytes(inside.read_bytes())
    link = inside.parent / "link.snapshot"
    link.symlink_to(outside)
    lock = inside.parent.parent.parent / "lock"
    expected = {
        outside.as_uri(): 403,
        f"file://{inside.parent}/../../lock": 403,
        f"file://{inside.parent}/%2e%2e/%2e%2e/lock": 403,
        lock.as_uri(): 403,
        link.as_uri(): 403,
        "file:///etc/passwd": 403,
        f"{inside.as_uri()}.missing": 404,
        inside.parent.as_uri(): 404,
        f"file://elsewhere{inside}": 400,
        "file://relative.snapshot": 400,
        f"{inside.as_uri()}%00": 400,
        inside.name: 400,
        str(inside): 400,
        f"ftp://127.0.0.1/{inside.name}": 400,
        "http://127.0.0.1:1/x.snapshot": 403,
        "https://qdrant.tech/x.snapshot": 403,
        "http://169.254.169.254/latest": 403,
    }
    found = {
        location: rest.error(
            "PUT", f"/collections/{filled}/snapshots/recover", {"location": location}
        )[0]
        for location in expected
    }
    link.unlink()
    assert found == expected
    assert count(rest, filled) == 3


def test_a_body_of_another_shape_is_refused(rest: Rest, filled: str) -> None:
    path = f"/collections/{filled}/snapshots/recover"
    bodies: list[Any] = [{}, {"location": 1}, {"location": "file:///x", "priority": "mine"}, []]
    for body in bodies:
        assert rest.error("PUT", path, body)[0] == 400
    assert upload(rest, filled, b"x", query="?priority=mine").status_code == 400
    assert upload(rest, filled, b"x", query="?wait=perhaps").status_code == 400
    assert upload(rest, filled, b"x", field="other").status_code == 400
    assert incoming(rest) == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"no form at all"),
        ("multipart/form-data; boundary=b", b"--b\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="snapshot"\r\n\r\nunfinished',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="snapshot"\r\n\r\none\r\n' * 2 + b"--b--",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 1000 + b"\r\n"),
    ],
)
def test_a_form_that_is_none_is_refused_and_leaves_nothing(
    rest: Rest, filled: str, content_type: str, body: bytes
) -> None:
    answer = rest.http.post(
        f"/collections/{filled}/snapshots/upload",
        content=body,
        headers={"content-type": content_type},
    )
    assert answer.status_code == 400, answer.text
    assert incoming(rest) == []


def test_an_upload_that_is_no_snapshot_is_refused(rest: Rest, filled: str) -> None:
    for content in (b"", b"no archive", bytes(10_000)):
        answer = upload(rest, filled, content)
        assert answer.status_code == 400
        assert "is damaged" in answer.json()["status"]["error"]
    assert count(rest, filled) == 3
    assert incoming(rest) == []


def test_an_upload_larger_than_the_disk_is_507(rest: Rest, filled: str) -> None:
    head = (
        f"POST /collections/{filled}/snapshots/upload HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {2**60}\r\n\r\n"
    )
    parts = urlsplit(rest.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 507")
    assert incoming(rest) == []


def test_without_wait_the_answer_is_202(rest: Rest, filled: str) -> None:
    answer = rest.http.post(f"/collections/{filled}/snapshots?wait=false")
    assert (answer.status_code, answer.json()["status"]) == (202, "accepted")
    deadline = time.monotonic() + 20
    while not (made := rest.result("GET", f"/collections/{filled}/snapshots")):
        assert time.monotonic() < deadline
    content = file_of(rest, filled, made[0]["name"]).read_bytes()
    fill(rest, filled, 4)
    assert upload(rest, filled, content, query="?wait=false").status_code == 202
    while count(rest, filled) != 3 or incoming(rest):
        assert time.monotonic() < deadline
    path = f"/collections/{filled}/snapshots/{made[0]['name']}?wait=false"
    assert rest.http.delete(path).status_code == 202


def test_a_full_snapshot_is_made_listed_sent_and_deleted(rest: Rest, filled: str) -> None:
    made = rest.result("POST", "/snapshots")
    assert made["name"].startswith("full-snapshot-")
    assert made in rest.result("GET", "/snapshots")
    sent = rest.http.get(f"/snapshots/{made['name']}")
    assert hashlib.sha256(sent.content).hexdigest() == made["checksum"]
    fill(rest, filled, 4)
    assert upload(rest, filled, sent.content).json()["result"] is True
    assert count(rest, filled) == 3
    assert rest.result("DELETE", f"/snapshots/{made['name']}") is True
    assert rest.error("GET", f"/snapshots/{made['name']}")[0] == 404


def test_shard_0_is_the_collection(rest: Rest, filled: str) -> None:
    shard = f"/collections/{filled}/shards/0"
    made = rest.result("POST", f"{shard}/snapshots")
    assert rest.result("GET", f"{shard}/snapshots") == [made]
    assert rest.result("GET", f"/collections/{filled}/snapshots") == [made]
    sent = rest.http.get(f"{shard}/snapshots/{made['name']}").content
    streamed = rest.http.get(f"{shard}/snapshot")
    assert streamed.headers["content-type"] == "application/octet-stream"
    assert rest.result("GET", f"{shard}/snapshots") == [made]
    for content in (sent, streamed.content):
        fill(rest, filled, 4)
        answer = rest.http.post(f"{shard}/snapshots/upload", files={"snapshot": content})
        assert answer.json()["result"] is True
        assert count(rest, filled) == 3
    fill(rest, filled, 4)
    body = {"location": made["name"]}
    assert rest.result("PUT", f"{shard}/snapshots/recover", body) is True
    assert count(rest, filled) == 3
    assert rest.result("DELETE", f"{shard}/snapshots/{made['name']}") is True


@pytest.mark.parametrize(("shard", "status"), [("1", 404), ("x", 400), ("-1", 400), ("%30", 400)])
def test_another_shard_is_not_there(rest: Rest, filled: str, shard: str, status: int) -> None:
    assert rest.error("GET", f"/collections/{filled}/shards/{shard}/snapshots")[0] == status


def test_a_missing_collection_has_no_snapshots(rest: Rest) -> None:
    for method, path in (
        ("GET", "/collections/missing/snapshots"),
        ("POST", "/collections/missing/snapshots"),
        ("POST", "/collections/missing/snapshots?wait=false"),
        ("GET", "/collections/missing/snapshots/x.snapshot"),
        ("DELETE", "/collections/missing/snapshots/x.snapshot"),
        ("GET", "/collections/missing/shards/0/snapshot"),
    ):
        status, text = rest.error(method, path)
        assert (status, text) == (404, "Not found: Collection `missing` doesn't exist!")


@pytest.mark.parametrize(
    "name",
    [
        *("..", "../x.snapshot", "../../lock", "%2f", "/etc/passwd", "\0.snapshot", "CON"),
        *("x" * 256, ".", "x\\y.snapshot", "ü" * 200 + ".snapshot", "..%2f..%2flock"),
    ],
)
def test_a_snapshot_name_never_leads_elsewhere(rest: Rest, filled: str, name: str) -> None:
    rest.result("POST", f"/collections/{filled}/snapshots")
    for base in (f"/collections/{filled}/snapshots", "/snapshots"):
        for method in ("GET", "DELETE"):
            answer = rest.http.request(method, f"{base}/{quote(name, safe='').replace('.', '%2e')}")
            assert answer.status_code == 404, answer.text
    assert count(rest, filled) == 3


@pytest.mark.parametrize("name", ["..", "a/b", "a\\b", "a\0b", "a:b", "x" * 256, ""])
def test_a_recovered_collection_has_a_name_that_one_can_have(
    rest: Rest, filled: str, name: str
) -> None:
    made = rest.result("POST", f"/collections/{filled}/snapshots")
    content = file_of(rest, filled, made["name"]).read_bytes()
    answer = upload(rest, quote(name, safe=""), content)
    assert answer.status_code in (404, 422)
    assert incoming(rest) == []


def test_the_official_client_makes_and_recovers_snapshots(rest: Rest, filled: str) -> None:
    made = rest.client.create_snapshot(filled)
    assert made is not None
    assert [one.name for one in rest.client.list_snapshots(filled)] == [made.name]
    fill(rest, filled, 4)
    location = file_of(rest, filled, made.name).as_uri()
    assert rest.client.recover_snapshot(filled, location) is True
    assert count(rest, filled) == 3
    shard_made = rest.client.create_shard_snapshot(filled, 0)
    assert shard_made is not None
    assert rest.client.delete_shard_snapshot(filled, 0, shard_made.name) is True
    full = rest.client.create_full_snapshot()
    assert full is not None
    assert full.name in [one.name for one in rest.client.list_full_snapshots()]
    assert rest.client.delete_full_snapshot(full.name) is True
    assert rest.client.delete_snapshot(filled, made.name) is True
