"""Keys over an encrypted channel, as the server process puts both together."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
import trustme
from qdrant_client import grpc as qdrant

from headrace.server.options import AuthOptions, ServeOptions, TlsFiles
from headrace.server.run import serve_in_thread
from tests.server.grpc.grpc_server import refused

KEY = "k" * 32


def test_a_key_opens_an_encrypted_channel(tmp_path: Path) -> None:
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    pair.cert_chain_pems[0].write_to_path(cert)
    pair.private_key_pem.write_to_path(key)
    options = ServeOptions(
        tmp_path / "data",
        http_port=0,
        grpc_port=0,
        auth=AuthOptions(api_key=KEY),
        tls=TlsFiles(cert, key),
    )
    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
    with serve_in_thread(options) as serving:
        assert serving.grpc_address is not None
        with grpc.secure_channel(serving.grpc_address, credentials) as channel:
            collections = qdrant.CollectionsStub(channel)  # type: ignore[no-untyped-call]
            request = qdrant.ListCollectionsRequest()
            assert not collections.List(request, metadata=[("api-key", KEY)]).collections
            with refused(grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key"):
                collections.List(request)
        with grpc.insecure_channel(serving.grpc_address) as channel:
            collections = qdrant.CollectionsStub(channel)  # type: ignore[no-untyped-call]
            with pytest.raises(grpc.RpcError):
                collections.List(request, metadata=[("api-key", KEY)], timeout=10)
