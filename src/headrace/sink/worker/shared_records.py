"""How do connectors look in the topic that workers share? As in Kafka Connect's.

Keys are `connector-<name>`, `target-state-<name>` and `restart-connector-<name>`; so the
topic of a Connect cluster can be taken over. What Connect writes beside that (tasks, session
keys) is passed over. `status-worker-<id>` is our own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson

from headrace.sink.worker.store import WantedState

CONNECTOR: Final = "connector-"
TARGET_STATE: Final = "target-state-"
RESTART: Final = "restart-connector-"
STATUS: Final = "status-worker-"

_STARTED: Final = "STARTED"

Record = tuple[str, bytes | None]


class ConfigChange(msgspec.Struct, frozen=True):
    """A connector has another configuration; none if it was deleted."""

    name: str
    config: dict[str, str] | None


class StateChange(msgspec.Struct, frozen=True):
    """Something else is wanted of a connector; what is usual, if nobody said so any more."""

    name: str
    wanted_state: WantedState


class RestartRequest(msgspec.Struct, frozen=True):
    """A connector is to be restarted, with all or some of its tasks."""

    name: str
    include_tasks: bool
    only_failed: bool


class RemoteTask(msgspec.Struct, frozen=True):
    """A task of another worker, as that worker told last."""

    task: int
    state: str
    trace: str | None = None


class WorkerStatus(msgspec.Struct, frozen=True):
    """What a worker tells the others: its tasks by connector."""

    connectors: dict[str, list[RemoteTask]]


Change = ConfigChange | StateChange | RestartRequest


class BadRecord(Exception):
    """A record of the topic that nobody understands."""


def records_of(change: Change) -> list[Record]:
    """The records that say so; a deletion takes what was wanted along."""
    if isinstance(change, ConfigChange):
        if change.config is None:
            return [(CONNECTOR + change.name, None), (TARGET_STATE + change.name, None)]
        return [(CONNECTOR + change.name, orjson.dumps({"properties": change.config}))]
    if isinstance(change, StateChange):
        return [(TARGET_STATE + change.name, orjson.dumps(_state_fields(change.wanted_state)))]
    fields = {"include-tasks": change.include_tasks, "only-failed": change.only_failed}
    return [(RESTART + change.name, orjson.dumps(fields))]


def read_change(key: str, value: bytes | None) -> Change | None:
    """What a record says of a connector; None if it is about something else.

    Raises:
        BadRecord: it should, and cannot be read.
    """
    for prefix, read in _READERS.items():
        if key.startswith(prefix):
            return read(key.removeprefix(prefix), None if value is None else _fields(key, value))
    return None


def _read_config(name: str, fields: dict[str, Any] | None) -> Change:
    if fields is None:
        return ConfigChange(name, None)
    properties = fields.get("properties")
    if not isinstance(properties, dict):
        raise BadRecord(f"connector '{name}' has no properties")
    return ConfigChange(name, {key: str(one) for key, one in properties.items() if one is not None})


def _read_state(name: str, fields: dict[str, Any] | None) -> Change:
    if fields is None:
        return StateChange(name, WantedState.RUNNING)
    # Connect's workers before 3.5 know no STOPPED: for them `state` says PAUSED.
    text = str(fields.get("state.v2", fields.get("state")))
    text = WantedState.RUNNING.value if text == _STARTED else text
    try:
        return StateChange(name, WantedState(text))
    except ValueError:
        raise BadRecord(f"the state '{text}' of connector '{name}' is unknown") from None


def _read_restart(name: str, fields: dict[str, Any] | None) -> Change | None:
    if fields is None:
        return None
    include_tasks, only_failed = fields.get("include-tasks"), fields.get("only-failed")
    return RestartRequest(name, include_tasks is True, only_failed is True)


def _state_fields(wanted: WantedState) -> dict[str, str]:
    known = wanted.value if wanted is not WantedState.RUNNING else _STARTED
    old = WantedState.PAUSED.value if wanted is WantedState.STOPPED else known
    return {"state": old, "state.v2": known}


def _fields(key: str, value: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise BadRecord(f"'{key}' is no JSON: {error}") from None
    if not isinstance(fields, dict):
        raise BadRecord(f"'{key}' is no JSON object")
    return fields


_READERS: Final[dict[str, Callable[[str, dict[str, Any] | None], Change | None]]] = {
    CONNECTOR: _read_config,
    TARGET_STATE: _read_state,
    RESTART: _read_restart,
}
