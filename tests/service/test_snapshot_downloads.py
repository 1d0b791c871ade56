"""Where may a snapshot be fetched from, and what becomes of answers that are none?"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.model.errors import Forbidden, WrongInput
from headrace.model.snapshots import SnapshotUrls
from headrace.service import snapshot_downloads
from headrace.service.snapshot_downloads import download_snapshot, is_public


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str | None, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("host"), self.headers.get("api-key")))
        status, location, body = self.answers.get(self.path, (404, None, b"none"))
        self.send_response(status)
        if location is not None:
            self.send_header("location", location)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    answers: dict[str, tuple[int, str | None, bytes]]

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = []
    Handler.answers = {"/x.snapshot": (200, None, b"a snapshot")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def url_of(server: ThreadingHTTPServer, path: str, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{server.server_port}{path}"


def test_a_snapshot_is_fetched_where_any_address_is_allowed(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    url = url_of(server, "/x.snapshot", "localhost")
    download_snapshot(url, "secret", tmp_path / "x", SnapshotUrls.ANY)
    assert (tmp_path / "x").read_bytes() == b"a snapshot"
    assert Handler.seen == [("/x.snapshot", f"localhost:{server.server_port}", "secret")]


@pytest.mark.parametrize("allowed", [SnapshotUrls.OFF, SnapshotUrls.PUBLIC])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "2130706433", "127.1"])
def test_nothing_is_sent_to_a_private_address(
    server: ThreadingHTTPServer, tmp_path: Path, allowed: SnapshotUrls, host: str
) -> None:
    with pytest.raises(Forbidden):
        download_snapshot(url_of(server, "/x.snapshot", host), None, tmp_path / "x", allowed)
    assert Handler.seen == []
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_a_private_address_is_not_followed(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host counts as public here; where it sends to does not."""
    Handler.answers = {"/x": (302, url_of(server, "/x.snapshot"), b"")}
    Handler.answers["/x.snapshot"] = (200, None, b"a secret")
    resolve = socket.getaddrinfo
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, *arguments, **options: resolve(
            "127.0.0.1" if host == "public.example" else host, *arguments, **options
        ),
    )
    judged: list[str] = []

    def first_is_public(address: Any) -> bool:
        judged.append(str(address))
        return len(judged) == 1

    monkeypatch.setattr(snapshot_downloads, "is_public", first_is_public)
    url = url_of(server, "/x", "public.example")
    with pytest.raises(Forbidden):
        download_snapshot(url, None, tmp_path / "x", SnapshotUrls.PUBLIC)
    assert [path for path, _, _ in Handler.seen] == ["/x"]
    assert list(tmp_path.iterdir()) == []


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is resolved only once cannot lead elsewhere the second time."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        if host == "rebind.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return resolve(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = url_of(server, "/x.snapshot", "rebind.example")
    download_snapshot(url, None, tmp_path / "x", SnapshotUrls.ANY)
    assert asked == ["rebind.example"]
    assert Handler.seen[0][1] == f"rebind.example:{server.server_port}"


def test_an_api_key_does_not_follow_a_redirect_to_another_host(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    Handler.answers["/moved"] = (307, url_of(server, "/x.snapshot", "localhost"), b"")
    Handler.answers["/near"] = (301, "/moved", b"")
    download_snapshot(url_of(server, "/near"), "secret", tmp_path / "x", SnapshotUrls.ANY)
    assert [key for _, _, key in Handler.seen] == ["secret", "secret", None]


def test_redirects_without_end_are_given_up(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    Handler.answers["/loop"] = (302, "/loop", b"")
    with pytest.raises(WrongInput, match="redirects"):
        download_snapshot(url_of(server, "/loop"), None, tmp_path / "x", SnapshotUrls.ANY)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://"])
def test_a_redirect_to_another_kind_of_url_is_not_followed(
    server: ThreadingHTTPServer, tmp_path: Path, location: str
) -> None:
    Handler.answers["/x"] = (302, location, b"")
    with pytest.raises(WrongInput):
        download_snapshot(url_of(server, "/x"), None, tmp_path / "x", SnapshotUrls.ANY)
    assert list(tmp_path.iterdir()) == []


def test_an_answer_that_is_no_snapshot_is_refused(
    server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    with pytest.raises(WrongInput, match="404"):
        download_snapshot(url_of(server, "/missing"), None, tmp_path / "x", SnapshotUrls.ANY)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(WrongInput, match="Failed to download"):
        download_snapshot(f"http://127.0.0.1:{port}/x", None, tmp_path / "x", SnapshotUrls.ANY)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:169.254.169.254", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::1"),
        "2001:0:7f00:1::1",
    ],
)
def test_an_address_that_is_not_of_the_public_internet_is_told(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111"])
def test_an_address_of_the_public_internet_is_told(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
