"""Which fields of which messages do the readers of gRPC requests look at?

A program of its own, since it needs protobuf's Python implementation, whose messages are
classes with a property per field: those are replaced by ones that record. It answers
requests to every method and prints, as JSON, each field that was never looked at.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.internal import api_implementation
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from qdrant_client import grpc as qdrant

from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.errors import HeadraceError
from headrace.model.vectors import DEFAULT_VECTOR_NAME, Distance
from headrace.server.auth import FULL_ACCESS
from headrace.server.grpc import calls, config_json
from headrace.server.grpc.operations import read_upsert
from headrace.server.grpc.rules import refuse_other_fields
from headrace.server.grpc.server import _services
from headrace.service.service import Service
from tests.server.grpc.messages import good_requests

# Descriptors, of one class or another, as protobuf is built, with equal members.
Type = Any
Field = Any

COLLECTION = "recorded"
NO_CLUSTER = "Distributed mode disabled"

# What fields of these names are set to, and others by their type.
VALUES: dict[str, Any] = {
    "collection_name": COLLECTION,
    "collection": COLLECTION,
    "limit": 3,
    "sample": 10,
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "datetime": "2024-01-01T00:00:00Z",
    "model": "qdrant/bm25",
    "vector_name": "v",
    "using": DEFAULT_VECTOR_NAME,
    "vectors_count": 1,
    "group_by": "n",
    "names": DEFAULT_VECTOR_NAME,
}
SCALARS = {
    FieldDescriptor.CPPTYPE_STRING: "n",
    FieldDescriptor.CPPTYPE_BOOL: True,
    FieldDescriptor.CPPTYPE_INT32: 1,
    FieldDescriptor.CPPTYPE_INT64: 1,
    FieldDescriptor.CPPTYPE_UINT32: 1,
    FieldDescriptor.CPPTYPE_UINT64: 1,
    FieldDescriptor.CPPTYPE_FLOAT: 1.0,
    FieldDescriptor.CPPTYPE_DOUBLE: 1.0,
    FieldDescriptor.CPPTYPE_ENUM: 1,
}
# Which of several alternatives a message gets that is not aimed at.
CHOSEN = {"num", "constant", "nearest", "dense", "integer", "points", "must", "has_id", "key"} | {
    *(
        "point",
        "vector",
        "single",
        "integer_value",
        "document",
        "enable",
        "delete_points",
        "sparse_config",
    )
}
# One node refuses these, whatever else a request says; with these, the rest is not read.
AVOIDED = {
    *("shard_key_selector", "shard_key", "idf", "lookup_from", "with_lookup", "prefetch"),
    *("quantization_config", "vectors_count", "sparse_indices", "update_filter"),
    *("filter", "context", "context_pairs"),
}


class Recording:
    """The fields that were looked at while it was on."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self._is_on = False

    @contextlib.contextmanager
    def on(self) -> Iterator[None]:
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False

    def note(self, descriptor: Type, name: str) -> None:
        if self._is_on:
            self.seen.add((descriptor.full_name, name))

    def watch(self, descriptor: Type) -> None:
        """Record what is asked of the messages of a type."""
        message_class: Any = GetMessageClass(descriptor)
        for field in descriptor.fields:
            self._watch_field(message_class, field)
        self._watch_method(message_class, "HasField", lambda name: [name])
        oneofs = {one.name: [field.name for field in one.fields] for one in descriptor.oneofs}
        self._watch_method(message_class, "WhichOneof", lambda name: oneofs[name])
        self._watch_list(message_class)

    def _watch_field(self, message_class: Any, field: Field) -> None:
        plain = getattr(message_class, field.name)

        def get(message: Any) -> Any:
            self.note(message.DESCRIPTOR, field.name)
            return plain.fget(message)

        setattr(message_class, field.name, property(get, plain.fset))

    def _watch_list(self, message_class: Any) -> None:
        plain = message_class.ListFields

        def list_fields(message: Any) -> Any:
            listed = plain(message)
            # Whoever refuses all others but a few has read none.
            if sys._getframe(1).f_code is not refuse_other_fields.__code__:
                for field, _ in listed:
                    self.note(message.DESCRIPTOR, field.name)
            return listed

        message_class.ListFields = list_fields

    def _watch_method(
        self, message_class: Any, name: str, fields_of: Callable[[str], list[str]]
    ) -> None:
        plain = getattr(message_class, name)

        def ask(message: Any, asked: str) -> Any:
            for field in fields_of(asked):
                self.note(message.DESCRIPTOR, field)
            return plain(message, asked)

        setattr(message_class, name, ask)


def reachable(descriptor: Type, into: dict[str, Type]) -> None:
    """The types of messages that a request may hold, its own included."""
    if descriptor.full_name in into or descriptor.GetOptions().map_entry:
        for field in descriptor.fields if descriptor.GetOptions().map_entry else ():
            if field.message_type is not None:
                reachable(field.message_type, into)
        return
    into[descriptor.full_name] = descriptor
    for field in descriptor.fields:
        if field.message_type is not None:
            reachable(field.message_type, into)


def paths_from(root: Type) -> dict[str, list[Field]]:
    """A shortest way from a request to each type of message in it."""
    paths: dict[str, list[Field]] = {root.full_name: []}
    waiting = [root]
    while waiting:
        at = waiting.pop(0)
        for field in at.fields:
            inner = field.message_type
            if inner is not None and inner.full_name not in paths:
                paths[inner.full_name] = [*paths[at.full_name], field]
                waiting.append(inner)
    return paths


def sensible_into(message: Any, depth: int = 0) -> None:
    """Set what a reader would miss, to values that it takes."""
    for field in message.DESCRIPTOR.fields:
        group = field.containing_oneof
        is_chosen = group is None or len(group.fields) == 1 or field.name in CHOSEN
        if not is_chosen or field.name in AVOIDED or depth > 5:
            continue
        if field.name == "key" and group is not None:
            continue  # Where a payload is written whole, a key in it is refused.
        if group is not None and len(group.fields) > 1 and message.WhichOneof(group.name):
            continue
        set_into(message, field, depth)


def set_into(message: Any, field: Field, depth: int) -> Any:
    """Set one field sensibly; returns the message in it, if it holds one."""
    is_repeated = field.is_repeated
    if field.message_type is None:
        value = VALUES.get(field.name, 1 if field.enum_type else SCALARS[field.cpp_type])
        if is_repeated:
            del getattr(message, field.name)[:]
            getattr(message, field.name).extend([value] * (4 if field.name == "data" else 1))
        else:
            setattr(message, field.name, value)
        return None
    if field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        if entry.message_type is None:
            return None
        inner = getattr(message, field.name)["n"]
    elif is_repeated:
        # A ring of a polygon has four points at least.
        inner = None
        for _ in range(4 if field.containing_type.name == "GeoLineString" else 1):
            inner = getattr(message, field.name).add()
            sensible_into(inner, depth + 1)
        return inner
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
    sensible_into(inner, depth + 1)
    return inner


def aimed(root: Type, path: list[Field], target: Field) -> Iterator[Message]:
    """Requests that set one field, among siblings that are left out or make sense."""
    for is_bare in (True, False):
        request: Any = GetMessageClass(root)()
        message = request
        for field in path:
            if field.containing_type.GetOptions().map_entry:
                continue  # The entry's value is at hand already.
            if not is_bare:
                sensible_into(message)
            if field.is_repeated and not field.message_type.GetOptions().map_entry:
                del getattr(message, field.name)[:]
            elif field.containing_oneof is not None:
                message.ClearField(field.name)
            inner = set_into(message, field, depth=9 if is_bare else 0)
            message = inner if inner is not None else message
        if target.containing_type.full_name != message.DESCRIPTOR.full_name:
            continue
        if not is_bare:
            sensible_into(message)
        if hasattr(request, "collection_name"):
            request.collection_name = COLLECTION
        set_into(message, target, depth=0)
        if "field_type" not in root.fields_by_name or target.name == "field_type":
            yield request
            continue
        for kind in qdrant.FieldType.values():
            request.field_type = kind
            yield request


def unread_fields(directory: Path) -> list[str]:
    """`Message.field` of every field that no answer looked at, and no refusal names."""
    recording = Recording()
    as_json = config_json._set_fields

    def set_fields(message: Any) -> Any:
        # Made into JSON whole, and read by the reader of REST.
        for field in message.DESCRIPTOR.fields:
            recording.note(message.DESCRIPTOR, field.name)
        return as_json(message)

    config_json._set_fields = set_fields
    service = Service.open(directory)
    services = _services(service)
    types: dict[str, Type] = {}
    ways = []
    for descriptor, methods in services.items():
        for method in descriptor.methods:
            reachable(method.input_type, types)
            ways.append((method.input_type, methods[method.name], paths_from(method.input_type)))
    for type_ in types.values():
        recording.watch(type_)
    unread = []
    for name, type_ in types.items():
        for target in type_.fields:
            requests = (
                (answers, paths[name], request)
                for root, answers, paths in ways
                if name in paths
                for request in aimed(root, paths[name], target)
            )
            if not any(
                is_looked_at(recording, service, answers, request, path, target)
                for answers, path, request in requests
            ):
                unread.append(f"{name}.{target.name}")
    service.close()
    return sorted(unread)


def is_looked_at(
    recording: Recording,
    service: Service,
    method: calls.Method,
    request: Message,
    path: list[Field],
    target: Field,
) -> bool:
    """Whether an answer to the request read the field, or refused it or what holds it."""
    ensure_collection(service)
    with recording.on():
        try:
            calls.timeout_of(request)
            method.answer(request, FULL_ACCESS)
        except HeadraceError as error:
            refused = {f"`{field.name}`" for field in (*path, target)}
            if any(one in error.message for one in refused) or NO_CLUSTER in error.message:
                return True
    return (target.containing_type.full_name, target.name) in recording.seen


def ensure_collection(service: Service) -> None:
    """A collection with point 1, which most requests name, and without limits."""
    try:
        write_point(service)
    except HeadraceError:
        service.delete_collection(COLLECTION)
        params = VectorParams(size=4, distance=Distance.DOT)
        config = CollectionConfig(vectors={DEFAULT_VECTOR_NAME: params})
        service.create_collection(COLLECTION, config)
        write_point(service)


def write_point(service: Service) -> None:
    upsert: Any = dict(good_requests(COLLECTION))["Upsert"]
    build = read_upsert(upsert)
    service.write(COLLECTION, [build(service.collection_config(COLLECTION))])


if __name__ == "__main__":
    assert api_implementation.Type() == "python"
    print(json.dumps(unread_fields(Path(sys.argv[1]))))
