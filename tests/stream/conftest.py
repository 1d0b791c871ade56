"""Whole stores that the stream tests write into, by every path a sink can take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.server.options import ServeOptions
from headrace.server.run import Serving, serve_in_thread


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A store of the module's own, which answers REST and gRPC."""
    data = tmp_path_factory.mktemp("store") / "data"
    with serve_in_thread(ServeOptions(data, http_port=0, grpc_port=0)) as serving:
        yield serving


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory for a process of its own."""
    return tmp_path / "data"
