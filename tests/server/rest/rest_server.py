"""A running REST front, as tests talk to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
from qdrant_client import QdrantClient

from headrace.service.service import Service


@dataclass(frozen=True)
class Rest:
    """A server that answers now.

    Attributes:
        url: such as `http://127.0.0.1:41234`.
        http: speaks plain HTTP to it.
        client: the official client.
    """

    url: str
    service: Service
    http: httpx.Client
    client: QdrantClient

    def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """One request, with a JSON body if there is one."""
        if body is not None:
            options["json"] = body
        return self.http.request(method, path, **options)

    def result(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The result of a request that must succeed."""
        response = self.call(method, path, body, **options)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["status"] == "ok"
        assert set(answer) == {"result", "status", "time"}
        return answer["result"]

    def error(self, method: str, path: str, body: Any = None, **options: Any) -> tuple[int, str]:
        """Status and text of a request that must fail."""
        response = self.call(method, path, body, **options)
        answer = response.json()
        assert set(answer) == {"status", "time"}, answer
        assert set(answer["status"]) == {"error"}
        return response.status_code, answer["status"]["error"]
