"""What do the calls do that search, and answer with points?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message
from qdrant_client import grpc as qdrant

from headrace.model.errors import BadRequest
from headrace.model.queries import Query
from headrace.server.auth import Access, Need
from headrace.server.errors import not_supported
from headrace.server.grpc.calls import Method, timeout_of
from headrace.server.grpc.older_queries import read_discover, read_recommend, read_search
from headrace.server.grpc.points import scored_point_message
from headrace.server.grpc.queries import read_query
from headrace.server.grpc.rules import check_collection_name, refuse_other_fields
from headrace.service.service import Service

_Read = Callable[[Any], Query]
_Answer = Callable[[Any, Access], Message]


def query_methods(service: Service) -> Mapping[str, Method]:
    """The methods of `qdrant.Points` that search, by name."""
    calls = _QueryCalls(service)
    answers: dict[str, _Answer] = {
        "Query": calls.one(read_query, qdrant.QueryResponse),
        "QueryBatch": calls.batch(read_query, "query_points", qdrant.QueryBatchResponse),
        "Search": calls.one(read_search, qdrant.SearchResponse),
        "SearchBatch": calls.batch(read_search, "search_points", qdrant.SearchBatchResponse),
        "Recommend": calls.one(read_recommend, qdrant.RecommendResponse),
        "RecommendBatch": calls.batch(
            read_recommend, "recommend_points", qdrant.RecommendBatchResponse
        ),
        "Discover": calls.one(read_discover, qdrant.DiscoverResponse),
        "DiscoverBatch": calls.batch(
            read_discover, "discover_points", qdrant.DiscoverBatchResponse
        ),
    }
    return {name: Method(answer, Need.READ) for name, answer in answers.items()}


class _QueryCalls:
    def __init__(self, service: Service) -> None:
        self._service = service

    def one(self, read: _Read, response: Callable[..., Message]) -> _Answer:
        """The call of a request that is one query."""

        def answer(request: Any, access: Access) -> Message:
            name = check_collection_name(request.collection_name)
            (points,) = self._found(name, request, [read(request)], access)
            return response(result=points)

        return answer

    def batch(self, read: _Read, entries: str, response: Callable[..., Message]) -> _Answer:
        """The call of a request whose field `entries` holds queries: each by itself."""

        def answer(request: Any, access: Access) -> Message:
            name = check_collection_name(request.collection_name)
            refuse_other_fields(request, entries)
            queries = [read(_checked_entry(one, name)) for one in getattr(request, entries)]
            found = self._found(name, request, queries, access)
            return response(result=[qdrant.BatchResult(result=points) for points in found])

        return answer

    def _found(
        self, name: str, request: Any, queries: Sequence[Query], access: Access
    ) -> list[list[qdrant.ScoredPoint]]:
        self._service.check_timeout(name, timeout_of(request))
        for query in queries:
            access.check_lookups(query)
        return [
            [scored_point_message(point) for point in points]
            for points in self._service.query_batch(name, queries)
        ]


def _checked_entry(entry: Any, collection_name: str) -> Any:
    """An entry of a batch, which is about the batch's collection, in its time.

    Raises:
        BadRequest: it names another collection, or a timeout of its own.
    """
    if entry.collection_name not in ("", collection_name):
        raise BadRequest(
            f"The batch is about `{collection_name}`, an entry of it about "
            f"`{entry.collection_name}`"
        )
    if entry.HasField("timeout"):
        raise not_supported("`timeout` in an entry of a batch")
    return entry
