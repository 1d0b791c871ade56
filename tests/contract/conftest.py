"""The server of the REST tests, for tests against the contract."""

from __future__ import annotations

from tests.server.rest.conftest import rest

__all__ = ["rest"]
