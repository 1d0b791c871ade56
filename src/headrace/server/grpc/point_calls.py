"""What do the calls about points do?

Writes sync before they answer, with `wait` or without: what was acknowledged is not lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest
from headrace.model.operations import DropPayloadIndex
from headrace.model.queries import NO_PAYLOAD
from headrace.server.auth import Need
from headrace.server.grpc import operations
from headrace.server.grpc.calls import Method, same_for_all, timeout_of
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.group_calls import group_methods
from headrace.server.grpc.ids import point_id_message, read_point_ids
from headrace.server.grpc.operations import Build
from headrace.server.grpc.payload_indexes import read_create_index
from headrace.server.grpc.points import retrieved_point_message
from headrace.server.grpc.queries import read_scroll, read_with_payload, read_with_vectors
from headrace.server.grpc.query_calls import query_methods
from headrace.server.grpc.rules import (
    broken_rule,
    canonical_path,
    check_collection_name,
    refuse_other_fields,
    refuse_shard_keys,
)
from headrace.server.grpc.vector_names import read_create_vector_name, read_delete_vector_name
from headrace.service.service import Service


def point_methods(service: Service) -> Mapping[str, Method]:
    """The methods of `qdrant.Points`, by name."""
    writes, reads = _Writes(service), _Reads(service)
    return {
        "Upsert": writes.method(operations.read_upsert),
        "Delete": writes.method(operations.read_delete_points),
        "UpdateVectors": writes.method(operations.read_update_vectors),
        "DeleteVectors": writes.method(operations.read_delete_vectors),
        "SetPayload": writes.method(operations.read_set_payload),
        "OverwritePayload": writes.method(operations.read_overwrite_payload),
        "DeletePayload": writes.method(operations.read_delete_payload),
        "ClearPayload": writes.method(operations.read_clear_payload),
        "CreateFieldIndex": writes.method(_read_create_index, Need.WRITE_EXTRAS),
        "DeleteFieldIndex": writes.method(_read_drop_index, Need.WRITE_EXTRAS),
        "CreateVectorName": writes.method(read_create_vector_name, Need.WRITE_EXTRAS),
        "DeleteVectorName": writes.method(read_delete_vector_name, Need.WRITE_EXTRAS),
        "UpdateBatch": same_for_all(writes.update_batch, Need.WRITE, _batch_timed_out),
        "Get": same_for_all(reads.get, Need.READ),
        "Scroll": same_for_all(reads.scroll, Need.READ),
        "Count": same_for_all(reads.count, Need.READ),
        **query_methods(service),
        **group_methods(service),
    }


class _Writes:
    def __init__(self, service: Service) -> None:
        self._service = service

    def method(self, read: Callable[[Any], Build], need: Need = Need.WRITE) -> Method:
        """The method of a request that is one write."""

        def answer(request: Any) -> qdrant.PointsOperationResponse:
            name = check_collection_name(request.collection_name)
            build = read(request)
            self._service.check_timeout(name, timeout_of(request))
            operation = build(self._service.collection_config(name))
            return _update_response(self._service.write(name, [operation]), request)

        return same_for_all(answer, need, _write_timed_out)

    def update_batch(self, request: qdrant.UpdateBatchPoints) -> qdrant.UpdateBatchResponse:
        """All operations or none, so all have the number of one log record."""
        name = check_collection_name(request.collection_name)
        builds = operations.read_batch(request)
        self._service.check_timeout(name, timeout_of(request))
        config = self._service.collection_config(name)
        if not builds:
            return qdrant.UpdateBatchResponse()
        seq_no = self._service.write(name, [build(config) for build in builds])
        result = _update_result(seq_no, request.wait)
        return qdrant.UpdateBatchResponse(result=[result] * len(builds))


class _Reads:
    def __init__(self, service: Service) -> None:
        self._service = service

    def get(self, request: qdrant.GetPoints) -> qdrant.GetResponse:
        name = check_collection_name(request.collection_name)
        refuse_other_fields(request, "ids", "with_payload", "with_vectors", "shard_key_selector")
        refuse_shard_keys(request.shard_key_selector, BadRequest)
        ids = read_point_ids(request.ids)
        with_payload = read_with_payload(request, NO_PAYLOAD)
        self._service.check_timeout(name, timeout_of(request))
        records = self._service.retrieve(name, ids, with_payload, read_with_vectors(request))
        return qdrant.GetResponse(result=[retrieved_point_message(record) for record in records])

    def scroll(self, request: qdrant.ScrollPoints) -> qdrant.ScrollResponse:
        name = check_collection_name(request.collection_name)
        scroll = read_scroll(request)
        self._service.check_timeout(name, timeout_of(request))
        page = self._service.scroll(name, scroll)
        return qdrant.ScrollResponse(
            result=[retrieved_point_message(record) for record in page.records],
            next_page_offset=None if page.next_id is None else point_id_message(page.next_id),
        )

    def count(self, request: qdrant.CountPoints) -> qdrant.CountResponse:
        """Exactly, also where an estimate would do."""
        name = check_collection_name(request.collection_name)
        refuse_other_fields(request, "filter", "exact", "shard_key_selector")
        refuse_shard_keys(request.shard_key_selector, BadRequest)
        filter = read_filter(request.filter) if request.HasField("filter") else None
        self._service.check_timeout(name, timeout_of(request))
        count = self._service.count(name, filter)
        return qdrant.CountResponse(result=qdrant.CountResult(count=count))


def _read_create_index(request: qdrant.CreateFieldIndexCollection) -> Build:
    operation = read_create_index(request)
    return lambda config: operation


def _read_drop_index(request: qdrant.DeleteFieldIndexCollection) -> Build:
    refuse_other_fields(request, "field_name")
    if not request.field_name:
        raise broken_rule("field_name", 'value "" invalid, must be at least 1 characters')
    operation = DropPayloadIndex(canonical_path(request.field_name))
    return lambda config: operation


def _update_response(seq_no: int, request: Any) -> qdrant.PointsOperationResponse:
    return qdrant.PointsOperationResponse(result=_update_result(seq_no, request.wait))


def _update_result(seq_no: int, wait: bool) -> qdrant.UpdateResult:
    status = qdrant.UpdateStatus.Completed if wait else qdrant.UpdateStatus.Acknowledged
    return qdrant.UpdateResult(operation_id=seq_no, status=status)


def _write_timed_out(request: Any) -> qdrant.PointsOperationResponse:
    return qdrant.PointsOperationResponse(result=_TIMED_OUT)


def _batch_timed_out(request: qdrant.UpdateBatchPoints) -> qdrant.UpdateBatchResponse:
    return qdrant.UpdateBatchResponse(result=[_TIMED_OUT] * len(request.operations))


_TIMED_OUT = qdrant.UpdateResult(status=qdrant.UpdateStatus.WaitTimeout)
