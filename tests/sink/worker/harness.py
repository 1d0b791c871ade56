"""What do the tests of the worker share?"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again, for a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def config_of(name: str, **settings: str) -> dict[str, str]:
    """A connector that reads `topic` into the worker's store, and keeps positions often."""
    return {
        "name": name,
        "connector.class": "io.qdrant.kafka.QdrantSinkConnector",
        "topics": "topic",
        "offset.flush.interval.ms": "20",
        "consumer.override.fetch.wait.max.ms": "20",
        # The mock cluster waits for members that have left as for members that died.
        "consumer.override.session.timeout.ms": "1000",
        "consumer.override.heartbeat.interval.ms": "100",
        **settings,
    }


def tasks_of(client: TestClient, name: str) -> list[dict[str, Any]]:
    """The tasks in a connector's status."""
    tasks: list[dict[str, Any]] = client.get(f"/connectors/{name}/status").json().get("tasks", [])
    return tasks


def state_of(client: TestClient, name: str) -> str:
    """The connector's own state."""
    return str(client.get(f"/connectors/{name}/status").json()["connector"]["state"])


def task_states(client: TestClient, name: str) -> list[str]:
    """The states of a connector's tasks."""
    return [one["state"] for one in tasks_of(client, name)]
