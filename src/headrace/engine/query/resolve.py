"""Which vectors do the example ids of a query stand for?

Before anything is scored, every id in a query and its prefetches becomes the stored
vector it names, from this collection or from the one that `lookup_from` names. Ids of
this collection are left out of all results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from headrace.engine.segment.ids import NO_ROW
from headrace.engine.segment.segment import View
from headrace.model.errors import NotFound, point_not_found
from headrace.model.ids import PointId
from headrace.model.queries import (
    Context,
    ContextPair,
    Discover,
    FeedbackItem,
    LookupFrom,
    Nearest,
    Prefetch,
    Query,
    QueryKind,
    Recommend,
    RelevanceFeedback,
    VectorInput,
)
from headrace.model.vectors import Vector

Node = TypeVar("Node", Query, Prefetch)

# The newest view of another collection; raises NotFound.
FindView = Callable[[str], View]


class Resolver(NamedTuple):
    """Turns the ids of one query into vectors.

    Attributes:
        view: the collection that is queried.
        collection_name: its name.
        find_view: where `lookup_from` collections are found.
        example_rows: filled with the rows of this collection that were used as examples.
    """

    view: View
    collection_name: str
    find_view: FindView
    example_rows: set[int]

    def resolve(self, node: Node) -> Node:
        """The query, or prefetch, with vectors in the place of ids, all the way down.

        Raises:
            NotFound: an id is not stored or lacks the vector; a collection is missing.
            UnknownVectorName: a collection lacks a vector name.
        """
        if is_resolved(node):
            return node
        lookup = _Lookup(self, node.lookup_from, node.using)
        return msgspec.structs.replace(
            node,
            query=None if node.query is None else _resolve_kind(node.query, lookup),
            prefetch=tuple(self.resolve(prefetch) for prefetch in node.prefetch),
        )


def is_resolved(node: Query | Prefetch) -> bool:
    """Whether it plainly names no id and no other collection, as most queries."""
    kind = node.query
    if not isinstance(kind, Nearest) or node.lookup_from is not None or node.prefetch:
        return False
    return not isinstance(kind.target, (int, UUID))


class _Lookup:
    """Where one node's example ids are looked up."""

    def __init__(self, resolver: Resolver, source: LookupFrom | None, using: str) -> None:
        self._view = resolver.view
        self._vector_name = using
        self._example_rows: set[int] | None = resolver.example_rows
        if source is not None:
            if source.collection_name != resolver.collection_name:
                self._view = resolver.find_view(source.collection_name)
                self._example_rows = None
            if source.vector_name is not None:
                self._vector_name = source.vector_name

    def __call__(self, example: VectorInput) -> Vector:
        if not isinstance(example, (int, UUID)):
            return example
        row = self._row(example)
        vector = self._view.vectors(self._vector_name).get(row)
        if vector is None:
            raise NotFound(f'Vector with name "{self._vector_name}" for point not found')
        return vector

    def _row(self, point_id: PointId) -> int:
        row = self._view.row_of(point_id)
        if row == NO_ROW:
            raise point_not_found(point_id)
        if self._example_rows is not None:
            self._example_rows.add(row)
        return row


def _resolve_kind(kind: QueryKind, lookup: _Lookup) -> QueryKind:
    match kind:
        case Nearest(target=target, mmr=mmr):
            return Nearest(lookup(target), mmr)
        case Recommend(positive=positive, negative=negative, strategy=strategy):
            return Recommend(
                tuple(lookup(one) for one in positive),
                tuple(lookup(one) for one in negative),
                strategy,
            )
        case Discover(target=target, context=pairs):
            return Discover(lookup(target), _resolve_pairs(pairs, lookup))
        case Context(pairs=pairs):
            return Context(_resolve_pairs(pairs, lookup))
        case RelevanceFeedback(target=target, feedback=feedback):
            return msgspec.structs.replace(
                kind,
                target=lookup(target),
                feedback=tuple(FeedbackItem(lookup(i.example), i.score) for i in feedback),
            )
        case _:
            return kind


def _resolve_pairs(pairs: tuple[ContextPair, ...], lookup: _Lookup) -> tuple[ContextPair, ...]:
    return tuple(ContextPair(lookup(pair.positive), lookup(pair.negative)) for pair in pairs)
