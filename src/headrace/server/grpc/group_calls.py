"""What do the calls do whose answers are more than points: groups, facets, matrices?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from google.protobuf.message import Message
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest
from headrace.model.points import PointGroup
from headrace.model.queries import (
    WHOLE_PAYLOAD,
    Facet,
    FacetHit,
    GroupBy,
    GroupLookup,
    MatrixRequest,
    Query,
)
from headrace.server.auth import Access, Need
from headrace.server.grpc.calls import Method, same_for_all, timeout_of
from headrace.server.grpc.filters import read_filter
from headrace.server.grpc.ids import point_id_message
from headrace.server.grpc.older_queries import read_group_recommend, read_group_search
from headrace.server.grpc.points import retrieved_point_message, scored_point_message
from headrace.server.grpc.queries import (
    read_group_query,
    read_limit,
    read_with_payload,
    read_with_vectors,
)
from headrace.server.grpc.rules import (
    broken_rule,
    canonical_path,
    check_at_least,
    check_collection_name,
    refuse_other_fields,
    refuse_shard_keys,
)
from headrace.service.service import MatrixRow, Service

_Groups = qdrant.QueryPointGroups | qdrant.SearchPointGroups | qdrant.RecommendPointGroups


def group_methods(service: Service) -> Mapping[str, Method]:
    """The methods of `qdrant.Points` that answer more than points, by name."""
    calls = _GroupCalls(service)
    return {
        "QueryGroups": calls.groups(read_group_query, qdrant.QueryGroupsResponse),
        "SearchGroups": calls.groups(read_group_search, qdrant.SearchGroupsResponse),
        "RecommendGroups": calls.groups(read_group_recommend, qdrant.RecommendGroupsResponse),
        "Facet": same_for_all(calls.facet, Need.READ),
        "SearchMatrixPairs": same_for_all(calls.matrix_pairs, Need.READ),
        "SearchMatrixOffsets": same_for_all(calls.matrix_offsets, Need.READ),
    }


class _GroupCalls:
    def __init__(self, service: Service) -> None:
        self._service = service

    def groups(self, read: Callable[[Any], Query], response: Callable[..., Message]) -> Method:
        """The method of a request for groups."""

        def answer(request: _Groups, access: Access) -> Message:
            name = check_collection_name(request.collection_name)
            query, group_by, lookup = read(request), _read_group_by(request), _read_lookup(request)
            self._service.check_timeout(name, timeout_of(request))
            access.check_lookups(query, lookup)
            groups = self._service.query_groups(name, query, group_by, lookup)
            return response(result=_groups_message(groups))

        return Method(answer, Need.READ)

    def facet(self, request: qdrant.FacetCounts) -> qdrant.FacetResponse:
        """Exactly, also where an estimate would do."""
        name = check_collection_name(request.collection_name)
        refuse_other_fields(request, "key", "filter", "limit", "exact", "shard_key_selector")
        refuse_shard_keys(request.shard_key_selector, BadRequest)
        facet = Facet(
            canonical_path(request.key),
            read_filter(request.filter) if request.HasField("filter") else None,
        )
        if request.HasField("limit"):
            facet = msgspec.structs.replace(facet, limit=read_limit("limit", request.limit))
        self._service.check_timeout(name, timeout_of(request))
        hits = self._service.facet(name, facet)
        return qdrant.FacetResponse(hits=[_hit_message(hit) for hit in hits])

    def matrix_pairs(self, request: qdrant.SearchMatrixPoints) -> qdrant.SearchMatrixPairsResponse:
        name = check_collection_name(request.collection_name)
        rows = self._matrix(name, request)
        pairs = [
            qdrant.SearchMatrixPair(
                a=point_id_message(row.id), b=point_id_message(near_id), score=score
            )
            for row in rows
            for near_id, score in row.nearest
        ]
        return qdrant.SearchMatrixPairsResponse(result=qdrant.SearchMatrixPairs(pairs=pairs))

    def matrix_offsets(
        self, request: qdrant.SearchMatrixPoints
    ) -> qdrant.SearchMatrixOffsetsResponse:
        """The same as places in the list of sampled ids."""
        name = check_collection_name(request.collection_name)
        rows = self._matrix(name, request)
        places = {row.id: place for place, row in enumerate(rows)}
        cells = [
            (places[row.id], places[near_id], score)
            for row in rows
            for near_id, score in row.nearest
        ]
        return qdrant.SearchMatrixOffsetsResponse(
            result=qdrant.SearchMatrixOffsets(
                offsets_row=[row for row, _, _ in cells],
                offsets_col=[column for _, column, _ in cells],
                scores=[score for _, _, score in cells],
                ids=[point_id_message(row.id) for row in rows],
            )
        )

    def _matrix(self, name: str, request: qdrant.SearchMatrixPoints) -> list[MatrixRow]:
        matrix = _read_matrix(request)
        self._service.check_timeout(name, timeout_of(request))
        return self._service.matrix(name, matrix)


def _read_group_by(request: _Groups) -> GroupBy:
    """The field and the sizes; those of the older API have no default."""
    if not request.group_by:
        raise broken_rule("group_by", 'value "" invalid, must be at least 1 characters')
    defaults = GroupBy(canonical_path(request.group_by))
    limit, group_size = request.limit, request.group_size
    if isinstance(request, qdrant.QueryPointGroups):
        limit = limit if request.HasField("limit") else defaults.limit
        group_size = group_size if request.HasField("group_size") else defaults.group_size
    return GroupBy(defaults.key, read_limit("limit", limit), read_limit("group_size", group_size))


def _read_lookup(request: _Groups) -> GroupLookup | None:
    if not request.HasField("with_lookup"):
        return None
    lookup = request.with_lookup
    refuse_other_fields(lookup, "collection", "with_payload", "with_vectors")
    return GroupLookup(
        lookup.collection,
        read_with_payload(lookup, WHOLE_PAYLOAD),
        read_with_vectors(lookup),
    )


def _read_matrix(request: qdrant.SearchMatrixPoints) -> MatrixRequest:
    refuse_other_fields(request, "filter", "sample", "limit", "using", "shard_key_selector")
    refuse_shard_keys(request.shard_key_selector, BadRequest)
    defaults = MatrixRequest()
    if request.HasField("sample"):
        check_at_least("sample", request.sample, 2)
    return MatrixRequest(
        using=request.using,
        filter=read_filter(request.filter) if request.HasField("filter") else None,
        sample=(
            read_limit("sample", request.sample) if request.HasField("sample") else defaults.sample
        ),
        limit=read_limit("limit", request.limit) if request.HasField("limit") else defaults.limit,
    )


def _groups_message(groups: Iterable[PointGroup]) -> qdrant.GroupsResult:
    return qdrant.GroupsResult(groups=[_group_message(group) for group in groups])


def _group_message(group: PointGroup) -> qdrant.PointGroup:
    return qdrant.PointGroup(
        id=_group_id_message(group.value),
        hits=[scored_point_message(point) for point in group.points],
        lookup=None if group.lookup is None else retrieved_point_message(group.lookup),
    )


def _group_id_message(value: str | int) -> qdrant.GroupId:
    if isinstance(value, str):
        return qdrant.GroupId(string_value=value)
    if value >= 0:
        return qdrant.GroupId(unsigned_value=value)
    return qdrant.GroupId(integer_value=value)


def _hit_message(hit: FacetHit) -> qdrant.FacetHit:
    match hit.value:
        case bool():
            value = qdrant.FacetValue(bool_value=hit.value)
        case int():
            value = qdrant.FacetValue(integer_value=hit.value)
        case _:
            value = qdrant.FacetValue(string_value=hit.value)
    return qdrant.FacetHit(value=value, count=hit.count)
