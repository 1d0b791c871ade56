"""What can any front do with the store?

REST, gRPC, the sink and the embedded face all call these functions, and nothing below
them. All are synchronous and thread-safe; a front that has an event loop runs the long
ones in threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.query.matrix import MatrixRow
from headrace.engine.segment.segment import View
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema
from headrace.model.errors import NotFound
from headrace.model.filters import Filter
from headrace.model.ids import PointId, as_point_id
from headrace.model.operations import Operation, SourceOffset, SourcePartition, WriteBatch
from headrace.model.points import PointGroup, Record, ScoredPoint, ScrollPage
from headrace.model.queries import (
    Facet,
    FacetHit,
    GroupBy,
    GroupLookup,
    MatrixRequest,
    PayloadSelection,
    Query,
    Scroll,
    VectorSelection,
)


class PayloadIndexInfo(msgspec.Struct, frozen=True):
    """One entry of `payload_schema`: the index and how many points have a value in it."""

    schema: PayloadFieldSchema
    points: int


class CollectionInfo(msgspec.Struct, frozen=True):
    """A collection as its info call shows it."""

    config: CollectionConfig
    points_count: int
    indexed_vectors_count: int
    segments_count: int
    payload_schema: dict[str, PayloadIndexInfo]


class Service:
    """The store behind every front: an opened data directory.

    Args:
        engine: an open engine; the service's owner closes it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, path: Path | str) -> Service:
        """Open or create the data directory at `path`, replaying its logs.

        Raises:
            DirectoryInUse: another process has it open.
            CorruptFile: a file is damaged beyond a torn tail.
        """
        return cls(Engine.open(Path(path)))

    def close(self) -> None:
        """Finish running writes, release the directory."""
        self._engine.close()

    # Collections

    def create_collection(self, name: str, config: CollectionConfig) -> None:
        """Create a collection; durable when it returns.

        Raises:
            AlreadyExists: the name is taken.
        """
        self._engine.create_collection(name, config)

    def delete_collection(self, name: str) -> bool:
        """Delete a collection and its files; False if there was none."""
        return self._engine.delete_collection(name)

    def collection_names(self) -> list[str]:
        """The names of all collections, sorted."""
        return self._engine.collection_names()

    def collection_exists(self, name: str) -> bool:
        """Whether a collection has this name."""
        return self._engine.has_collection(name)

    def collection_config(self, name: str) -> CollectionConfig:
        """A collection's configuration, which `build_upsert` needs.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(name).config

    def collection_info(self, name: str) -> CollectionInfo:
        """A collection's configuration and counts.

        Raises:
            NotFound: no such collection.
        """
        collection = self._collection(name)
        return CollectionInfo(
            config=collection.config,
            points_count=collection.points_count(),
            indexed_vectors_count=collection.indexed_vectors_count(),
            segments_count=1,
            payload_schema={
                key: PayloadIndexInfo(schema, collection.indexed_points_count(key))
                for key, schema in collection.payload_schema().items()
            },
        )

    # Writes

    def write(
        self,
        collection_name: str,
        operations: Sequence[Operation],
        source_offsets: Sequence[SourceOffset] = (),
    ) -> int:
        """Apply operations in order, all or none; durable and searchable when it returns.

        Args:
            collection_name: the collection.
            operations: applied in order, as one atomic log record.
            source_offsets: how far this write takes each source partition; stored in
                the same log record.

        Returns:
            The seq_no of the log record: the points' new version, and the operation id.

        Raises:
            NotFound: no such collection, or an explicit id that is not stored.
            WrongInput: an operation does not fit the collection; nothing was applied.
            NoSpace, StorageFailed: the log could not be written; nothing was applied.
        """
        batch = WriteBatch(list(operations), list(source_offsets))
        return self._collection(collection_name).write(batch)

    def source_offsets(self, collection_name: str) -> dict[SourcePartition, int]:
        """How far each source partition has been taken into a collection (next offset).

        Raises:
            NotFound: no such collection.
        """
        return self._collection(collection_name).source_offsets()

    def source_positions(self, source: str) -> dict[SourcePartition, int]:
        """The offsets from which a source must be read again: all before are durable.

        At or below every collection's own `source_offsets`; a reader that resumes here
        skips, per collection, what that collection has already taken.
        """
        return self._engine.source_positions(source)

    def set_source_positions(self, positions: Sequence[SourceOffset]) -> None:
        """Record that everything before these offsets is durable in all collections.

        Durable when it returns, by an atomic file replacement (about a millisecond): a
        reader calls it now and then, not for each batch.
        """
        self._engine.set_source_positions(positions)

    # Reads

    def retrieve(
        self,
        collection_name: str,
        ids: Sequence[PointId],
        with_payload: PayloadSelection,
        with_vectors: VectorSelection,
    ) -> list[Record]:
        """Points by id, in request order; duplicates collapse, missing ids are left out.

        Raises:
            NotFound: no such collection.
            UnknownVectorName: `with_vectors` names a vector the collection lacks.
        """
        return self._collection(collection_name).retrieve(ids, with_payload, with_vectors)

    def scroll(self, collection_name: str, scroll: Scroll) -> ScrollPage:
        """One page of points in id order.

        Raises: as `retrieve`.
        """
        return self._collection(collection_name).scroll(scroll)

    def count(self, collection_name: str, filter: Filter | None = None) -> int:
        """How many points pass a filter, exactly.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(collection_name).count(filter)

    def query(self, collection_name: str, query: Query) -> list[ScoredPoint]:
        """The best points of a query, best first.

        Raises:
            NotFound: no such collection, or an example id that is not stored.
            WrongInput: the query does not fit the collection.
        """
        return self._collection(collection_name).query(query, self._find_view)

    def query_groups(
        self,
        collection_name: str,
        query: Query,
        group_by: GroupBy,
        with_lookup: GroupLookup | None = None,
    ) -> list[PointGroup]:
        """The best points of a query by a payload value; `query.limit` has no effect.

        Args:
            collection_name: the collection.
            query: what is asked.
            group_by: the field, how many groups, how many points in each.
            with_lookup: a collection whose points are named by the groups' values.

        Raises:
            NotFound: as `query`, or the lookup collection is missing.
        """
        groups = self._collection(collection_name).groups(query, group_by, self._find_view)
        if with_lookup is None:
            return groups
        self._find_view(with_lookup.collection_name)
        ids = {group.value: as_point_id(group.value) for group in groups}
        wanted = [point_id for point_id in ids.values() if point_id is not None]
        found = self.retrieve(
            with_lookup.collection_name, wanted, with_lookup.with_payload, with_lookup.with_vectors
        )
        by_id = {record.id: record for record in found}
        return [
            PointGroup(group.value, group.points, None if i is None else by_id.get(i))
            for group, i in zip(groups, ids.values(), strict=True)
        ]

    def facet(self, collection_name: str, facet: Facet) -> list[FacetHit]:
        """The most frequent values of an indexed field, by count, then value.

        Raises:
            NotFound: no such collection.
            BadRequest: the field has no payload index that serves equality.
        """
        return self._collection(collection_name).facet(facet)

    def matrix(self, collection_name: str, request: MatrixRequest) -> list[MatrixRow]:
        """The nearest neighbours of each point of a random sample, within the sample.

        Raises:
            NotFound: no such collection.
            UnknownVectorName: no such vector.
        """
        return self._collection(collection_name).matrix(request, self._find_view)

    def _find_view(self, name: str) -> View:
        """The newest view of a collection that another one's query names."""
        try:
            return self._collection(name).view
        except NotFound:
            raise NotFound(f"Collection {name} not found") from None

    def _collection(self, name: str) -> Collection:
        return self._engine.collection(name)
