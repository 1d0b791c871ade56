"""One process life: both fronts up, companions beside them, a clean stop."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import grpc
import httpx
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import DirectoryInUse, HeadraceError, WrongInput
from headrace.server.listen import (
    AddressNotAvailable,
    StartFailed,
    bound_sockets,
    warn_if_reachable_from_outside,
)
from headrace.server.options import AuthOptions, ServeOptions, TlsFiles
from headrace.server.run import Companion, serve_in_thread
from headrace.service.service import Service


def options(data: Path, **changed: int | str | None) -> ServeOptions:
    chosen = {"http_port": 0, "grpc_port": 0} | changed
    return ServeOptions(data, **chosen)  # type: ignore[arg-type]


class FakeCompanion:
    """Notes what is done to it, and whether the store was open then."""

    def __init__(self, service: Service, stops: bool = True) -> None:
        self.name = "fake"
        self.events: list[str] = []
        self._service = service
        self._stops = stops

    def start(self) -> None:
        self._service.create_collection("made-by-companion", CollectionConfig())
        self.events.append("start")

    def stop(self, timeout_s: float) -> bool:
        self._service.delete_collection("made-by-companion")
        self.events.append(f"stop within {timeout_s:g} s")
        return self._stops


def test_both_fronts_answer_where_the_ready_line_says(tmp_path: Path) -> None:
    with serve_in_thread(options(tmp_path / "data")) as serving:
        assert httpx.get(f"{serving.rest_url}/readyz").status_code == 200
        assert serving.grpc_address is not None
        with grpc.insecure_channel(serving.grpc_address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert serving.line() == (
            f"serving: REST {serving.rest_url} gRPC {serving.grpc_address} data {tmp_path}/data"
        )


def test_without_a_grpc_port_only_rest_is_served(tmp_path: Path) -> None:
    with serve_in_thread(options(tmp_path, grpc_port=None)) as serving:
        assert serving.grpc_address is None
        assert httpx.get(f"{serving.rest_url}/collections").status_code == 200
        assert serving.line() == f"serving: REST {serving.rest_url} data {tmp_path}"


def test_localhost_is_one_port_on_each_of_its_addresses(tmp_path: Path) -> None:
    with serve_in_thread(options(tmp_path, host="localhost")) as serving:
        port = serving.rest_url.rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200


def test_the_directory_is_free_again_after_the_stop(tmp_path: Path) -> None:
    with serve_in_thread(options(tmp_path)) as serving:
        serving.service.create_collection("airports", CollectionConfig())
    with serve_in_thread(options(tmp_path)) as serving:
        assert serving.service.collection_names() == ["airports"]


@pytest.mark.parametrize("setting", ["http_port", "grpc_port"])
def test_a_taken_port_is_told_before_the_directory_is_touched(tmp_path: Path, setting: str) -> None:
    data = tmp_path / "data"
    with bound_sockets("127.0.0.1", 0, "test") as (holder,):
        holder.listen()
        port = holder.getsockname()[1]
        with (
            pytest.raises(AddressNotAvailable) as refused,
            serve_in_thread(options(data, **{setting: port})),
        ):
            pass
    assert refused.value.message == (
        f"Cannot listen on 127.0.0.1:{port}: it is in use. Stop what holds it, or set {setting} "
        "to another port (0 takes a free one)"
    )
    assert not data.exists()


def test_a_host_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    # 192.0.2.0/24 is set aside for documentation: no machine has it.
    with (
        pytest.raises(AddressNotAvailable, match=r"192\.0\.2\.1:0: .*\. Set host to an address"),
        serve_in_thread(options(tmp_path, host="192.0.2.1")),
    ):
        pass


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        serve_in_thread(options(tmp_path)),
        pytest.raises(DirectoryInUse, match="in use"),
        serve_in_thread(options(tmp_path)),
    ):
        pass


def test_a_file_in_place_of_the_directory_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("not a directory")
    with pytest.raises(StartFailed) as refused, serve_in_thread(options(path)):
        pass
    assert str(path) in refused.value.message
    assert "\n" not in refused.value.message


def test_companions_work_on_the_open_store_from_start_to_stop(tmp_path: Path) -> None:
    made: list[FakeCompanion] = []

    def make(service: Service) -> list[Companion]:
        made.append(FakeCompanion(service))
        return list(made)

    with serve_in_thread(options(tmp_path), make) as serving:
        assert made[0].events == ["start"]
        assert serving.service.collection_names() == ["made-by-companion"]
    assert made[0].events == ["start", "stop within 10 s"]


def test_a_companion_that_does_not_stop_is_told_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve_in_thread(options(tmp_path), lambda service: [FakeCompanion(service, stops=False)]):
        pass
    assert "fake did not stop within 10 s" in caplog.text


def test_a_companion_that_cannot_be_made_ends_the_start_and_frees_the_directory(
    tmp_path: Path,
) -> None:
    def refuse(service: Service) -> list[Companion]:
        raise WrongInput("no such thing")

    with (
        pytest.raises(HeadraceError, match="no such thing"),
        serve_in_thread(options(tmp_path), refuse),
    ):
        pass
    with serve_in_thread(options(tmp_path)):
        pass


def test_a_request_in_hand_is_finished_before_the_stop(tmp_path: Path) -> None:
    body = b'{"vectors":{"size":4,"distance":"Dot"}}'
    head = (
        "PUT /collections/late HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    stopping = threading.Event()
    with _served_until(stopping, options(tmp_path)) as rest_url:
        address = urllib.parse.urlsplit(rest_url)
        assert address.hostname is not None
        with socket.create_connection((address.hostname, address.port or 0), 30) as client:
            client.sendall(head.encode() + body[:10])
            stopping.set()
            _wait_until(lambda: _refuses_connections(address.hostname, address.port))
            client.sendall(body[10:])
            answer = client.makefile("rb").readline()
    assert answer == b"HTTP/1.1 200 OK\r\n"
    with serve_in_thread(options(tmp_path)) as serving:
        assert serving.service.collection_exists("late")


def test_both_fronts_encrypt_and_ask_for_the_key(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    cert, key, root = (tmp_path / name for name in ("cert.pem", "key.pem", "root.pem"))
    certificate.private_key_pem.write_to_path(str(key))
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    authority.cert_pem.write_to_path(str(root))
    secured = ServeOptions(
        tmp_path / "data",
        http_port=0,
        grpc_port=0,
        auth=AuthOptions(api_key="secret"),
        tls=TlsFiles(cert, key),
    )
    with serve_in_thread(secured) as serving:
        assert serving.rest_url.startswith("https://")
        context = ssl.create_default_context(cafile=str(root))
        with httpx.Client(base_url=serving.rest_url, verify=context) as http:
            assert http.get("/collections").status_code == 401
            assert http.get("/collections", headers={"api-key": "secret"}).status_code == 200
        assert serving.grpc_address is not None
        credentials = grpc.ssl_channel_credentials(root.read_bytes())
        with grpc.secure_channel(serving.grpc_address, credentials) as channel:
            stub = qdrant.CollectionsStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.RpcError) as refused:
                stub.List(qdrant.ListCollectionsRequest(), timeout=30)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            known = (("api-key", "secret"),)
            stub.List(qdrant.ListCollectionsRequest(), timeout=30, metadata=known)


def test_a_certificate_that_cannot_be_used_is_told_before_anything_is_opened(
    tmp_path: Path,
) -> None:
    missing = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    secured = ServeOptions(tmp_path / "data", http_port=0, grpc_port=0, tls=missing)
    with pytest.raises(StartFailed, match="tls_cert"), serve_in_thread(secured):
        pass
    assert not (tmp_path / "data").exists()


def test_keys_that_travel_in_plain_text_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with bound_sockets("0.0.0.0", 0, "test") as sockets:
        warn_if_reachable_from_outside(sockets, asks_for_keys=True, is_encrypted=True)
        assert not caplog.text
        warn_if_reachable_from_outside(sockets, asks_for_keys=True)
        assert "without TLS" in caplog.text


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_listening_beyond_loopback_is_warned_of(
    host: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        bound_sockets(host, 0, "test") as sockets,
        caplog.at_level(logging.WARNING, "headrace.server.listen"),
    ):
        warn_if_reachable_from_outside(sockets)
    assert ("which other machines may reach" in caplog.text) is warned


@contextmanager
def _served_until(stopping: threading.Event, serve_options: ServeOptions) -> Iterator[str]:
    """The URL of a server on a thread that stops it when the event is set."""
    rest_urls: Queue[str] = Queue()

    def live() -> None:
        with serve_in_thread(serve_options) as serving:
            rest_urls.put(serving.rest_url)
            stopping.wait(60)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield rest_urls.get(timeout=60)
    finally:
        stopping.set()
        thread.join(60)


def _wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        threading.Event().wait(0.05)
    raise AssertionError("it never came to that")


def _refuses_connections(host: str | None, port: int | None) -> bool:
    try:
        socket.create_connection((host or "", port or 0), 1).close()
    except OSError:
        return True
    return False


def test_an_operators_function_embeds_what_clients_send(tmp_path: Path) -> None:
    model = tmp_path / "model.py"
    model.write_text("def embed(text, options, as_query):\n    return [len(text), 1.0]\n")
    served = ServeOptions(
        tmp_path / "data",
        http_port=0,
        grpc_port=0,
        embedding_models=(f"test/served={model}:embed",),
    )
    document = {"text": "abc", "model": "test/served"}
    with serve_in_thread(served) as serving, httpx.Client(base_url=serving.rest_url) as http:
        http.put("/collections/c", json={"vectors": {"size": 2, "distance": "Dot"}})
        http.put("/collections/c/points", json={"points": [{"id": 1, "vector": document}]})
        found = http.post("/collections/c/points/query", json={"query": document}).json()
        assert found["result"]["points"][0]["score"] == 10.0
        grpc_port = int((serving.grpc_address or "").rpartition(":")[2])
        for prefer_grpc in (False, True):
            client = QdrantClient(
                url=serving.rest_url,
                grpc_port=grpc_port,
                prefer_grpc=prefer_grpc,
                cloud_inference=True,
                # It asks on a thread of its own, which may come when nothing is served any more.
                check_compatibility=False,
            )
            text = models.Document(text="abcd", model="test/served")
            client.upsert("c", [models.PointStruct(id=2, vector=text)])
            best = client.query_points("c", query=text, limit=1).points[0]
            assert (best.id, best.score) == (2, 17.0)
            client.close()


def test_a_model_that_cannot_be_imported_ends_the_start(tmp_path: Path) -> None:
    served = ServeOptions(
        tmp_path / "data", http_port=0, grpc_port=0, embedding_models=("m=no_such_module:f",)
    )
    with pytest.raises(StartFailed, match="no_such_module"), serve_in_thread(served):
        raise AssertionError("served")
    assert not (tmp_path / "data").exists()
