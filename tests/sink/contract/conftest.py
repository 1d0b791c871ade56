"""A store and a cluster for the tests of the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.service.service import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """An empty store."""
    service = Service.open(tmp_path / "data")
    yield service
    service.close()
