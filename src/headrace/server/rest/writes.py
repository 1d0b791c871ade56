"""How does the body of a write become operations?

Reading needs no collection; building does, for its vector parameters. So each reader
returns a `Build`, which the handler calls once the collection is known to exist.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from headrace.model.collection_config import CollectionConfig
from headrace.model.errors import BadRequest, WrongInput
from headrace.model.operations import (
    ClearPayload,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    Operation,
    OverwritePayload,
    PointSelector,
    SetPayload,
)
from headrace.model.upserts import build_update_vectors, build_upsert
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.filters import read_filter
from headrace.server.rest.ids import read_point_ids
from headrace.server.rest.points import (
    Upsert,
    VectorUpdates,
    read_payload,
    read_selector,
    read_shard_key,
    read_upsert,
    read_vector_updates,
)
from headrace.server.rest.simd_points import (
    Irregular,
    read_upsert_fast,
    read_vector_updates_fast,
)


class Build(NamedTuple):
    """A write that waits for its collection.

    Attributes:
        shard_key: as text; None if none was given. No collection has it.
        operations: makes the operations; raises WrongInput if they do not fit.
    """

    shard_key: str | None
    operations: Callable[[CollectionConfig], Sequence[Operation]]

    def __call__(self, config: CollectionConfig) -> Sequence[Operation]:
        """The operations for a collection.

        Raises:
            WrongInput: they do not fit the collection.
        """
        if self.shard_key is not None:
            raise WrongInput(f"Shard key {self.shard_key} not found")
        return self.operations(config)


def parse_upsert(body: bytes) -> Build:
    """PUT /points. Raises FormatError, InvalidBody."""
    try:
        return _upsert(read_upsert_fast(body))
    except Irregular:
        pass
    return read_body(body, lambda node: _upsert(read_upsert(node)))


def parse_update_vectors(body: bytes) -> Build:
    """PUT /points/vectors. Raises FormatError, InvalidBody."""
    try:
        return _update_vectors(read_vector_updates_fast(body))
    except Irregular:
        pass
    return read_body(body, lambda node: _update_vectors(read_vector_updates(node)))


def parse_delete_points(body: bytes) -> Build:
    """POST /points/delete. Raises FormatError, InvalidBody."""
    return read_body(body, _read_delete_points)


def parse_delete_vectors(body: bytes) -> Build:
    """POST /points/vectors/delete. Raises FormatError, InvalidBody."""
    return read_body(body, _read_delete_vectors)


def parse_set_payload(body: bytes) -> Build:
    """POST /points/payload. Raises FormatError, InvalidBody."""
    return read_body(body, _read_set_payload)


def parse_overwrite_payload(body: bytes) -> Build:
    """PUT /points/payload. Raises FormatError, InvalidBody."""
    return read_body(body, _read_overwrite_payload)


def parse_delete_payload(body: bytes) -> Build:
    """POST /points/payload/delete. Raises FormatError, InvalidBody."""
    return read_body(body, _read_delete_payload)


def parse_clear_payload(body: bytes) -> Build:
    """POST /points/payload/clear. Raises FormatError, InvalidBody."""
    return read_body(body, _read_clear_payload)


def parse_batch(body: bytes) -> list[Build]:
    """POST /points/batch: one for each entry. Raises FormatError, InvalidBody."""
    return read_body(body, _read_batch)


def _upsert(upsert: Upsert) -> Build:
    return Build(
        upsert.shard_key,
        lambda config: [build_upsert(upsert.points, config, upsert.mode, upsert.update_filter)],
    )


def _update_vectors(updates: VectorUpdates) -> Build:
    return Build(
        updates.shard_key,
        lambda config: [build_update_vectors(updates.points, config, updates.update_filter)],
    )


def _ready(body: Node, *operations: Operation) -> Build:
    return Build(read_shard_key(body), lambda config: operations)


def _read_delete_points(body: Node) -> Build:
    return _ready(body, DeletePoints(read_selector(body)))


def _read_clear_payload(body: Node) -> Build:
    return _ready(body, ClearPayload(read_selector(body)))


def _read_set_payload(body: Node) -> Build:
    payload = read_payload(body.require("payload"))
    key = body.get("key")
    return _ready(
        body,
        SetPayload(read_selector(body), payload, None if key is None else key.payload_path()),
    )


def _read_overwrite_payload(body: Node) -> Build:
    """The payload is replaced whole, whatever path `key` is: as in Qdrant."""
    key = body.get("key")
    if key is not None:
        key.payload_path()
    payload = read_payload(body.require("payload"))
    return _ready(body, OverwritePayload(read_selector(body), payload))


def _read_delete_payload(body: Node) -> Build:
    keys = tuple(path.payload_path() for path in body.require("keys").elements())
    return _ready(body, DeletePayload(read_selector(body), keys))


def _read_delete_vectors(body: Node) -> Build:
    """Filter and points may both be given; both are applied, the filter first."""
    names_node = body.require("vector", "vectors")
    names = tuple(dict.fromkeys(name.text() for name in names_node.elements()))
    if not names:
        names_node.broken("value [] invalid, must be at least 1 characters")
    filter_node, points = body.get("filter"), body.get("points")
    selectors = []
    if filter_node is not None:
        selectors.append(PointSelector(filter=read_filter(filter_node)))
    if points is not None:
        selectors.append(PointSelector(ids=tuple(read_point_ids(points))))
    if not selectors:
        body.rules.check()
        raise BadRequest("No filter or points provided")
    return _ready(body, *(DeleteVectors(selector, names) for selector in selectors))


_BATCH_ENTRIES: dict[str, Callable[[Node], Build]] = {
    "upsert": lambda node: _upsert(read_upsert(node)),
    "delete": _read_delete_points,
    "set_payload": _read_set_payload,
    "overwrite_payload": _read_overwrite_payload,
    "delete_payload": _read_delete_payload,
    "clear_payload": _read_clear_payload,
    "update_vectors": lambda node: _update_vectors(read_vector_updates(node)),
    "delete_vectors": _read_delete_vectors,
}


def _read_batch(body: Node) -> list[Build]:
    builds = []
    for entry in body.require("operations").elements():
        names = [name for name in _BATCH_ENTRIES if entry.has(name)]
        if len(names) != 1:
            expected = ", ".join(f"`{name}`" for name in _BATCH_ENTRIES)
            raise entry.format_error(f"expected one operation of {expected}")
        builds.append(_BATCH_ENTRIES[names[0]](entry.require(names[0])))
    return builds
