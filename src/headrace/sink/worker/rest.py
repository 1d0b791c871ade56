"""How does a worker answer Kafka Connect's REST API?

Paths, status codes and JSON are Connect's. Calls change connectors on threads of their own,
since a stop waits for the batch in hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec
import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import headrace
from headrace.model.errors import ErrorCode, HeadraceError
from headrace.sink.config import CONNECTOR_CLASS, ConnectorConfig
from headrace.sink.converters import (
    BYTES_CONVERTER_CLASS,
    JSON_CONVERTER_CLASS,
    SIMPLE_HEADER_CONVERTER_CLASS,
    STRING_CONVERTER_CLASS,
)
from headrace.sink.errors import ConfigError
from headrace.sink.registry import REGISTRY_CONVERTERS
from headrace.sink.task import TaskState
from headrace.sink.transforms.chain import predicate_classes, transform_classes
from headrace.sink.worker.cluster import cluster_id
from headrace.sink.worker.errors import (
    BadWorkerRequest,
    NotThere,
    TaskElsewhere,
    TaskNotFound,
)
from headrace.sink.worker.loggers import LoggerLevel, Loggers
from headrace.sink.worker.metrics import metrics_text
from headrace.sink.worker.request_body import read_body
from headrace.sink.worker.store import WantedState
from headrace.sink.worker.validate import config_infos, definitions, live_errors, static_errors
from headrace.sink.worker.worker import Standing, Worker

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

# Kafka's bounds.
_PARTITION_MAX: Final = 2**31 - 1
_OFFSET_MAX: Final = 2**63 - 1
# What the class has as its sink task in Kafka Connect, which answers name.
_TASK_CLASS: Final = "io.qdrant.kafka.QdrantSinkTask"
_HEADER_CONVERTER_CLASSES: Final = (
    SIMPLE_HEADER_CONVERTER_CLASS,
    STRING_CONVERTER_CLASS,
    BYTES_CONVERTER_CLASS,
    JSON_CONVERTER_CLASS,
)
_CONVERTER_CLASSES: Final = (
    JSON_CONVERTER_CLASS,
    STRING_CONVERTER_CLASS,
    BYTES_CONVERTER_CLASS,
    *dict.fromkeys(class_name for _, class_name in REGISTRY_CONVERTERS.values()),
)
_PLUGIN_NAMES: Final = (CONNECTOR_CLASS, "QdrantSinkConnector", "QdrantSink")
_STATUS: Final = {
    ErrorCode.BAD_INPUT: 400,
    ErrorCode.INVALID_BODY: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.ALREADY_EXISTS: 409,
    ErrorCode.UNAVAILABLE: 503,
}


# Connect takes numbers and booleans for their texts.
_Config = dict[str, str | int | float | bool | None]


class NewConnector(msgspec.Struct, frozen=True):
    """The body of `POST /connectors`."""

    name: str
    config: _Config
    initial_state: WantedState = WantedState.RUNNING


class KafkaPartition(msgspec.Struct, frozen=True):
    """A partition, as Connect's offsets of sinks name it."""

    kafka_topic: str
    kafka_partition: int


class KafkaOffset(msgspec.Struct, frozen=True):
    """The offset of the next record."""

    kafka_offset: int


class PartitionOffset(msgspec.Struct, frozen=True):
    """Where a partition is read on; from nowhere yet if there is no offset."""

    partition: KafkaPartition
    offset: KafkaOffset | None


class ConnectorOffsets(msgspec.Struct, frozen=True):
    """The body of the offsets' routes."""

    offsets: list[PartitionOffset]


class NewLevel(msgspec.Struct, frozen=True):
    """The body of `PUT /admin/loggers/{name}`."""

    level: str


_Endpoint = Callable[["_Call"], Response]


class _Call:
    """One request, read whole, to one worker."""

    def __init__(self, request: Request, body: bytes, worker: Worker, loggers: Loggers) -> None:
        self.body = body
        self.worker = worker
        self.loggers = loggers
        self.path: Mapping[str, Any] = request.path_params
        self.query = request.query_params

    @property
    def name(self) -> str:
        """The connector's."""
        return unquote(str(self.path["name"]))

    def read(self, kind: type[_T]) -> _T:
        """The body as this type, strictly.

        Raises:
            BadWorkerRequest: it is no JSON, or not of this type.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except msgspec.MsgspecError as error:
            raise BadWorkerRequest(f"Cannot read the request's body: {error}") from error

    def flag(self, name: str) -> bool:
        """A query parameter that is true or false.

        Raises:
            BadWorkerRequest: it is something else.
        """
        text = self.query.get(name, "false").lower()
        if text not in ("true", "false"):
            raise BadWorkerRequest(f"Query parameter {name} must be true or false, not '{text}'")
        return text == "true"


def create_worker_app(worker: Worker) -> Starlette:
    """The REST API of a worker; the caller starts and stops the worker."""
    loggers = Loggers()

    def route(path: str, method: str, endpoint: _Endpoint) -> Route:
        async def answer(request: Request) -> Response:
            call = _Call(request, await read_body(request), worker, loggers)
            return await run_in_threadpool(endpoint, call)

        return Route(path, answer, methods=[method], name=endpoint.__name__)

    routes = [route(path, method, endpoint) for method, path, endpoint in _ROUTES]
    handlers: dict[Any, Any] = {
        HeadraceError: _on_error,
        HTTPException: _on_http_error,
        Exception: _on_defect,
    }
    return _WorkerApp(routes=routes, exception_handlers=handlers)


class _WorkerApp(Starlette):
    """Routes are matched as they were sent, so that a `%2F` inside of a name is no separator."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await super().__call__(scope, receive, send)


# The worker


def _root(call: _Call) -> Response:
    worker = call.worker
    answer = {
        "version": headrace.__version__,
        "commit": "unknown",
        "kafka_cluster_id": cluster_id(worker),
    }
    return _json(answer)


def _metrics(call: _Call) -> Response:
    return Response(metrics_text(call.worker), media_type="text/plain; version=0.0.4")


# Connectors


def _list(call: _Call) -> Response:
    asked = call.query.getlist("expand")
    worker = call.worker
    worker.check_known()
    if not asked:
        return _json(worker.names())
    parts = {"status": _status_of, "info": _info_of}
    for one in asked:
        if one not in parts:
            raise BadWorkerRequest(f"Query parameter expand must be status or info, not '{one}'")
    return _json(
        {name: {one: parts[one](worker, name) for one in asked} for name in worker.names()}
    )


def _create(call: _Call) -> Response:
    body = call.read(NewConnector)
    name = body.name.strip()
    if not name:
        raise BadWorkerRequest("Connector name must not be empty")
    call.worker.create(_named(_texts(body.config), name), body.initial_state)
    return _created(call.worker, name)


def _info(call: _Call) -> Response:
    return _json(_info_of(call.worker, call.name))


def _delete(call: _Call) -> Response:
    call.worker.delete(call.name)
    return Response(status_code=204)


def _config(call: _Call) -> Response:
    return _json(_config_of(call.worker, call.name))


def _put_config(call: _Call) -> Response:
    config = _texts(call.read(_Config))
    is_new = call.worker.replace_config(call.name, _named(config, call.name))
    return _created(call.worker, call.name) if is_new else _info(call)


def _patch_config(call: _Call) -> Response:
    given = call.read(_Config)
    patch: dict[str, str | None] = {**dict.fromkeys(given), **_texts(given)}
    if patch.get("name", call.name) != call.name:
        raise _other_name(str(patch["name"]), call.name)
    call.worker.patch_config(call.name, patch)
    return _info(call)


def _status(call: _Call) -> Response:
    return _json(_status_of(call.worker, call.name))


def _pause(call: _Call) -> Response:
    call.worker.pause(call.name)
    return Response(status_code=202)


def _resume(call: _Call) -> Response:
    call.worker.resume(call.name)
    return Response(status_code=202)


def _stop(call: _Call) -> Response:
    call.worker.stop_connector(call.name)
    return Response(status_code=204)


def _restart(call: _Call) -> Response:
    include_tasks, only_failed = call.flag("includeTasks"), call.flag("onlyFailed")
    standing = call.worker.standing(call.name)
    failed = TaskState.FAILED
    restarted = [
        one.task
        for one in standing.tasks
        if include_tasks and (not only_failed or one.state is failed)
    ]
    answer = _status_of(call.worker, call.name)
    if not only_failed or standing.state == failed:
        answer["connector"]["state"] = "RESTARTING"
    for task in answer["tasks"]:
        is_failed = task["state"] == failed.value
        elsewhere = task["id"] >= len(standing.tasks)
        if task["id"] in restarted or (
            elsewhere and include_tasks and (is_failed or not only_failed)
        ):
            task["state"] = "RESTARTING"
    call.worker.restart(call.name, include_tasks, only_failed)
    if not include_tasks and not only_failed:
        return Response(status_code=204)
    return _json(answer, 202)


# Tasks, topics, offsets


def _tasks(call: _Call) -> Response:
    worker, name = call.worker, call.name
    config = {**worker.config(name), "task.class": _TASK_CLASS}
    tasks = _info_of(worker, name)["tasks"]
    return _json([{"id": one, "config": config} for one in tasks])


def _task_status(call: _Call) -> Response:
    number = int(call.path["task"])
    for one in _status_of(call.worker, call.name)["tasks"]:
        if one["id"] == number:
            return _json(one)
    raise TaskNotFound(call.name, number)


def _restart_task(call: _Call) -> Response:
    number = int(call.path["task"])
    standing = call.worker.standing(call.name)
    if number not in {one.task for one in standing.tasks}:
        elsewhere = {one["id"]: one for one in _status_of(call.worker, call.name)["tasks"]}
        if number in elsewhere:
            raise TaskElsewhere(call.name, number, elsewhere[number]["worker_id"])
        raise TaskNotFound(call.name, number)
    call.worker.restart_tasks(call.name, [number])
    return Response(status_code=204)


def _topics(call: _Call) -> Response:
    return _json({call.name: {"topics": call.worker.topics(call.name)}})


def _reset_topics(call: _Call) -> Response:
    call.worker.reset_topics(call.name)
    return Response(status_code=202)


def _offsets(call: _Call) -> Response:
    found = [
        PartitionOffset(KafkaPartition(topic, partition), KafkaOffset(at))
        for (topic, partition), at in sorted(call.worker.offsets(call.name).items())
    ]
    return Response(msgspec.json.encode(ConnectorOffsets(found)), media_type="application/json")


def _alter_offsets(call: _Call) -> Response:
    body = call.read(ConnectorOffsets)
    if not body.offsets:
        raise BadWorkerRequest(
            "Partitions / offsets need to be provided for an alter offsets request"
        )
    changes: dict[tuple[str, int], int | None] = {}
    for one in body.offsets:
        at = None if one.offset is None else one.offset.kafka_offset
        if not 0 <= one.partition.kafka_partition <= _PARTITION_MAX:
            raise BadWorkerRequest(f"Partitions must be from 0 to {_PARTITION_MAX}")
        if at is not None and not 0 <= at <= _OFFSET_MAX:
            raise BadWorkerRequest(f"Offsets must be from 0 to {_OFFSET_MAX}")
        changes[one.partition.kafka_topic, one.partition.kafka_partition] = at
    call.worker.change_offsets(call.name, changes)
    return _json({"message": "The offsets for this connector have been altered successfully"})


def _reset_offsets(call: _Call) -> Response:
    call.worker.reset_offsets(call.name)
    return _json({"message": "The offsets for this connector have been reset successfully"})


# Plugins


def _plugins(call: _Call) -> Response:
    kinds = [(CONNECTOR_CLASS, "sink")]
    if call.query.get("connectorsOnly", "true").lower() != "true":
        others = (
            (_CONVERTER_CLASSES, "converter"),
            (_HEADER_CONVERTER_CLASSES, "header_converter"),
            (transform_classes(), "transformation"),
            (predicate_classes(), "predicate"),
        )
        kinds += [(one, kind) for classes, kind in others for one in classes]
    version = headrace.__version__
    return _json([{"class": one, "type": kind, "version": version} for one, kind in kinds])


def _plugin_config(call: _Call) -> Response:
    _check_plugin(call)
    return _json(list(definitions().values()))


def _validate(call: _Call) -> Response:
    plugin = _check_plugin(call)
    config = _texts(call.read(_Config))
    asked = config.setdefault("connector.class", CONNECTOR_CLASS)
    if asked not in _PLUGIN_NAMES:
        raise BadWorkerRequest(
            f"Included connector type {asked} does not match request type {plugin}"
        )
    worker = call.worker
    effective = worker.effective(config)
    errors = static_errors(effective, worker.service is not None)
    if not errors:
        try:
            errors = live_errors(ConnectorConfig.from_mapping(effective), worker.service)
        except ConfigError as error:
            errors = {error.key: error.reason}
    return _json(config_infos(config, errors, plugin))


def _check_plugin(call: _Call) -> str:
    plugin = str(call.path["plugin"])
    if plugin not in _PLUGIN_NAMES:
        raise NotThere(f"Unknown plugin {plugin}.")
    return plugin


# Loggers


def _loggers(call: _Call) -> Response:
    return _json({name: _level(one) for name, one in call.loggers.all().items()})


def _logger(call: _Call) -> Response:
    return _json(_level(call.loggers.get(call.name)))


def _set_logger(call: _Call) -> Response:
    scope = call.query.get("scope", "worker").lower()
    if scope not in ("worker", "cluster"):
        raise BadWorkerRequest(f"Query parameter scope must be worker or cluster, not '{scope}'")
    changed = call.loggers.set(call.name, call.read(NewLevel).level)
    # This worker is the whole cluster, to which Connect answers nothing.
    return _json(changed) if scope == "worker" else Response(status_code=204)


def _level(level: LoggerLevel) -> dict[str, Any]:
    return {"level": level.level, "last_modified": level.modified_ms}


_ROUTES: Final[tuple[tuple[str, str, _Endpoint], ...]] = (
    ("GET", "/", _root),
    ("GET", "/metrics", _metrics),
    ("GET", "/connectors", _list),
    ("POST", "/connectors", _create),
    ("GET", "/connectors/{name}", _info),
    ("DELETE", "/connectors/{name}", _delete),
    ("GET", "/connectors/{name}/config", _config),
    ("PUT", "/connectors/{name}/config", _put_config),
    ("PATCH", "/connectors/{name}/config", _patch_config),
    ("GET", "/connectors/{name}/status", _status),
    ("PUT", "/connectors/{name}/pause", _pause),
    ("PUT", "/connectors/{name}/resume", _resume),
    ("PUT", "/connectors/{name}/stop", _stop),
    ("POST", "/connectors/{name}/restart", _restart),
    ("GET", "/connectors/{name}/tasks", _tasks),
    ("GET", "/connectors/{name}/tasks/{task:int}/status", _task_status),
    ("POST", "/connectors/{name}/tasks/{task:int}/restart", _restart_task),
    ("GET", "/connectors/{name}/topics", _topics),
    ("PUT", "/connectors/{name}/topics/reset", _reset_topics),
    ("GET", "/connectors/{name}/offsets", _offsets),
    ("PATCH", "/connectors/{name}/offsets", _alter_offsets),
    ("DELETE", "/connectors/{name}/offsets", _reset_offsets),
    ("GET", "/connector-plugins", _plugins),
    ("GET", "/connector-plugins/{plugin}/config", _plugin_config),
    ("PUT", "/connector-plugins/{plugin}/config/validate", _validate),
    ("GET", "/admin/loggers", _loggers),
    ("GET", "/admin/loggers/{name}", _logger),
    ("PUT", "/admin/loggers/{name}", _set_logger),
)


# Connect's JSON


def _info_of(worker: Worker, name: str) -> dict[str, Any]:
    standing = worker.standing(name)
    tasks = range(len(standing.tasks) + len(standing.elsewhere))
    return {
        "name": name,
        "config": _config_of(worker, name),
        "tasks": [{"connector": name, "task": number} for number in tasks],
        "type": "sink",
    }


def _config_of(worker: Worker, name: str) -> dict[str, str]:
    return {**worker.config(name), "name": name}


def _status_of(worker: Worker, name: str) -> dict[str, Any]:
    standing: Standing = worker.standing(name)
    connector = {"state": standing.state, "worker_id": worker.worker_id}
    if standing.trace is not None:
        connector["trace"] = standing.trace
    tasks = []
    for one in standing.tasks:
        task: dict[str, Any] = {
            "id": one.task,
            "state": _task_state(one.state.value),
            "worker_id": worker.worker_id,
        }
        if one.trace is not None:
            task["trace"] = one.trace
        tasks.append(task)
    # This worker's own tasks have their numbers; those of others go on from there.
    for number, (worker_id, other) in enumerate(standing.elsewhere, start=len(tasks)):
        task = {"id": number, "state": _task_state(other.state), "worker_id": worker_id}
        tasks.append(task if other.trace is None else task | {"trace": other.trace})
    return {"name": name, "connector": connector, "tasks": tasks, "type": "sink"}


def _task_state(state: str) -> str:
    """Connect knows STOPPED of connectors alone; a task that ended is assigned to nobody."""
    return TaskState.UNASSIGNED.value if state == TaskState.STOPPED.value else state


def _texts(config: _Config) -> dict[str, str]:
    """What a configuration says, without what is null."""
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in config.items()
        if value is not None
    }


def _named(config: dict[str, str], name: str) -> dict[str, str]:
    if config.setdefault("name", name) != name:
        raise _other_name(config["name"], name)
    return config


def _other_name(inside: str, name: str) -> BadWorkerRequest:
    return BadWorkerRequest(
        f"Connector name configuration ({inside}) doesn't match connector name in the URL ({name})"
    )


def _created(worker: Worker, name: str) -> Response:
    response = _json(_info_of(worker, name), 201)
    response.headers["location"] = f"/connectors/{quote(name, safe='')}"
    return response


def _json(answer: object, status: int = 200) -> Response:
    return Response(orjson.dumps(answer), status, media_type="application/json")


def _error(status: int, message: str) -> Response:
    return _json({"error_code": status, "message": message}, status)


async def _on_error(request: Request, error: HeadraceError) -> Response:
    return _error(_STATUS.get(error.code, 500), error.message)


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    response = _error(error.status_code, f"HTTP {error.status_code} {error.detail}")
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    logger.error("unexpected: this is a defect of headrace, please report it", exc_info=error)
    return _error(500, "Unexpected; the worker's log says more")
