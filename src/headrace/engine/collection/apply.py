"""What does each operation change?

Applying is deterministic, and each function here works on the segment's newest state, so
that the operations of a batch see one another. An operation that cannot be applied
raises; the caller then takes the whole batch back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import orjson

from headrace.engine.collection.prepare import config_after
from headrace.engine.payload.mutate import delete_payload_paths, set_payload
from headrace.engine.query.mask import filter_rows, passing_set
from headrace.engine.segment.ids import NO_ROW
from headrace.engine.segment.segment import Segment, View
from headrace.model.errors import point_not_found
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import (
    EMPTY_PAYLOAD,
    ChangeConfig,
    ClearPayload,
    CreatePayloadIndex,
    CreateVectorName,
    DeletePayload,
    DeletePoints,
    DeleteVectors,
    DropPayloadIndex,
    DropVectorName,
    Operation,
    OverwritePayload,
    PointSelector,
    RewindSource,
    SetPayload,
    UpdateMode,
    UpdateVectors,
    UpsertPoints,
)
from headrace.model.payload_path import parse_payload_path
from headrace.model.vectors import (
    DenseBatch,
    Mask,
    MultiBatch,
    Rows,
    SparseBatch,
    VectorBatch,
)

Payload = dict[str, Any]


def apply_operation(segment: Segment, operation: Operation) -> None:
    """Change the segment's newest state.

    Raises:
        NotFound: an explicit id is not stored.
    """
    match operation:
        case UpsertPoints():
            _upsert(segment, operation)
        case DeletePoints(selector):
            _delete(segment, selector)
        case UpdateVectors():
            _update_vectors(segment, operation)
        case DeleteVectors(selector, names):
            _delete_vectors(segment, selector, names)
        case SetPayload(selector, payload, key):
            _set_payload(segment, selector, orjson.loads(payload), key)
        case OverwritePayload(selector, payload):
            rows = _selected_rows(segment, selector)
            segment.replace_payloads(rows, [payload] * len(rows))
        case DeletePayload(selector, keys):
            paths = [parse_payload_path(key) for key in keys]
            _change_payloads(segment, selector, lambda old: delete_payload_paths(old, paths))
        case ClearPayload(selector):
            rows = _selected_rows(segment, selector)
            segment.replace_payloads(rows, [EMPTY_PAYLOAD] * len(rows))
        case CreatePayloadIndex(key, schema):
            segment.set_schema(key, schema)
        case DropPayloadIndex(key):
            segment.set_schema(key, None)
        case CreateVectorName() | DropVectorName() | ChangeConfig():
            changed = config_after(operation, segment.config)
            if changed is not segment.config:
                segment.change_config(changed)
        case RewindSource(partition, next_offset):
            segment.rewind_source(partition, next_offset)


def _upsert(segment: Segment, operation: UpsertPoints) -> None:
    ids, vectors, payloads = operation.ids, operation.vectors, operation.payloads
    if operation.mode is not UpdateMode.UPSERT or operation.update_filter is not None:
        kept = _writable(segment, ids, operation.mode, operation.update_filter)
        ids = [point_id for point_id, keep in zip(ids, kept, strict=True) if keep]
        payloads = [payload for payload, keep in zip(payloads, kept, strict=True) if keep]
        vectors = {name: take_points(batch, kept) for name, batch in vectors.items()}
    segment.append(ids, vectors, payloads)


def _delete(segment: Segment, selector: PointSelector) -> None:
    if selector.ids is not None:
        segment.delete(selector.ids)
    else:
        rows = _selected_rows(segment, selector)
        segment.delete(segment.row_ids.get_many(rows))


def _update_vectors(segment: Segment, operation: UpdateVectors) -> None:
    ids, vectors = operation.ids, operation.vectors
    rows = _existing_rows(segment, ids)
    if operation.update_filter is not None:
        kept = np.isin(rows, filter_rows(operation.update_filter, segment.working_view(), rows))
        ids = [point_id for point_id, keep in zip(ids, kept, strict=True) if keep]
        rows = rows[kept]
        vectors = {name: take_points(batch, kept) for name, batch in vectors.items()}
    payloads = segment.read_payloads(rows)
    segment.append(ids, vectors, payloads, copied_from=rows)


def _delete_vectors(segment: Segment, selector: PointSelector, names: Sequence[str]) -> None:
    """A point without the vectors: a new row that copies the others."""
    rows = _selected_rows(segment, selector)
    ids = segment.row_ids.get_many(rows)
    payloads = segment.read_payloads(rows)
    segment.append(ids, {}, payloads, copied_from=rows, left_out=frozenset(names))


def _set_payload(
    segment: Segment, selector: PointSelector, patch: Payload, key: str | None
) -> None:
    path = None if key is None else parse_payload_path(key)
    _change_payloads(segment, selector, lambda old: set_payload(old, patch, path))


def _change_payloads(
    segment: Segment, selector: PointSelector, change: Callable[[Payload], Payload]
) -> None:
    rows = _selected_rows(segment, selector)
    payloads = [orjson.dumps(change(orjson.loads(old))) for old in segment.read_payloads(rows)]
    segment.replace_payloads(rows, payloads)


def _selected_rows(segment: Segment, selector: PointSelector) -> Rows:
    """The rows of the selected points; ids win over a filter, as in Qdrant."""
    if selector.ids is not None:
        return np.unique(_existing_rows(segment, selector.ids))
    view = segment.working_view()
    assert selector.filter is not None
    return passing_set(selector.filter, view).rows


def _existing_rows(segment: Segment, ids: Sequence[PointId]) -> Rows:
    rows = segment.rows_of(ids)
    missing = np.flatnonzero(rows == NO_ROW)
    if len(missing):
        raise point_not_found(ids[int(missing[0])])
    return rows


def _writable(
    segment: Segment, ids: Sequence[PointId], mode: UpdateMode, update_filter: Filter | None
) -> Mask:
    """Which points of a conditional upsert are written."""
    rows = segment.rows_of(ids)
    exists: Mask = rows != NO_ROW
    if mode is UpdateMode.INSERT_ONLY:
        return np.logical_not(exists)
    writable = np.full(len(ids), mode is UpdateMode.UPSERT)
    writable[exists] = _passing(segment.working_view(), update_filter, rows[exists])
    return writable


def _passing(view: View, update_filter: Filter | None, rows: Rows) -> Mask:
    if update_filter is None:
        return np.ones(len(rows), dtype=np.bool_)
    return np.isin(rows, filter_rows(update_filter, view, rows))


def take_points(batch: VectorBatch, kept: Mask) -> VectorBatch:
    """The batch of the kept points alone, with positions counted among them."""
    chosen = kept[batch.positions]
    positions = (np.cumsum(kept) - 1)[batch.positions[chosen]]
    if isinstance(batch, DenseBatch):
        return DenseBatch(positions, batch.values[chosen])
    counts = np.diff(batch.bounds)
    elements = np.repeat(chosen, counts)
    bounds = np.concatenate(([0], np.cumsum(counts[chosen])))
    if isinstance(batch, MultiBatch):
        return MultiBatch(positions, bounds, batch.values[elements])
    assert isinstance(batch, SparseBatch)
    return SparseBatch(positions, bounds, batch.indices[elements], batch.values[elements])
