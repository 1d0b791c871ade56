"""What can any front do with the store?

REST, gRPC, the sink and the embedded face all call these functions, and nothing below
them. All are synchronous and thread-safe; a front that has an event loop runs the long
ones in threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter

from headrace.engine.collection.collection import Collection
from headrace.engine.collection.columns import retrieve_columns
from headrace.engine.engine import Engine
from headrace.engine.payload_index.index import BuildProgress as BuildProgress
from headrace.engine.payload_index.transient_memory import TRANSIENT_BYTES_MAX
from headrace.engine.query.columns import ColumnScan, scan_columns
from headrace.engine.query.matrix import MatrixRow as MatrixRow
from headrace.engine.query.plan import StagePlan as StagePlan
from headrace.engine.segment.segment import View
from headrace.engine.vector_index.indexed_vectors import GraphProgress as GraphProgress
from headrace.engine.work_log import FinishedWork as FinishedWork
from headrace.model.aliases import AliasAction, AliasDescription
from headrace.model.collection_changes import CollectionChange
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema
from headrace.model.errors import BadRequest, NotFound
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import Operation, SourceOffset, SourcePartition, WriteBatch
from headrace.model.points import (
    Pieces,
    PointColumns,
    PointGroup,
    Record,
    ScoredPoint,
    ScrollPage,
    ScrollPieces,
)
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
from headrace.model.query_rules import check_query
from headrace.model.snapshots import SnapshotUrls
from headrace.service.collection_info import CollectionInfo as CollectionInfo
from headrace.service.collection_info import PayloadIndexInfo as PayloadIndexInfo
from headrace.service.collection_info import VectorCounts as VectorCounts
from headrace.service.collection_info import collection_info, vector_counts
from headrace.service.gate import Gate
from headrace.service.group_lookup import joined, lookup_ids
from headrace.service.issues import SLOW_READ_S, Issues, UnindexedField, filters_of
from headrace.service.quotas import Quotas
from headrace.service.snapshots import Snapshots


class Service:
    """The store behind every front: an opened data directory.

    Args:
        engine: an open engine; the service's owner closes it.
        snapshot_urls: from which URLs snapshots may be restored.

    Attributes:
        snapshots: what can be done with snapshots.
    """

    def __init__(self, engine: Engine, snapshot_urls: SnapshotUrls = SnapshotUrls.OFF) -> None:
        self._engine = engine
        self._collection = engine.collection
        self._quotas = Quotas(engine)
        self._gate = Gate(self._quotas)
        self._issues = Issues()
        self.snapshots = Snapshots(engine, snapshot_urls, self._gate.forget)

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        snapshot_urls: SnapshotUrls = SnapshotUrls.OFF,
        read_only: bool = False,
        transient_bytes_max: int = TRANSIENT_BYTES_MAX,
    ) -> Service:
        """Open or create the data directory at `path`, replaying its logs.

        Args:
            path: the directory.
            snapshot_urls: from which URLs snapshots may be restored.
            read_only: take no lock and change nothing, so that this works beside the
                owner; shows what was stored at this moment, and refuses writes.
            transient_bytes_max: how much memory the columns of fields without a payload
                index may take, over all collections.

        Raises:
            DirectoryInUse: another process has it open, and this is not for reading only.
            CorruptFile: a file is damaged beyond a torn tail.
            NotFound: there is no data directory, and this is for reading only.
        """
        engine = Engine.open(
            Path(path), read_only=read_only, transient_bytes_max=transient_bytes_max
        )
        return cls(engine, snapshot_urls)

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
        """Delete a collection, its files and its aliases; False if there was none.

        An alias is not resolved.
        """
        self._gate.forget(name)
        self.snapshots.forget_counts(name)
        return self._engine.delete_collection(name)

    def change_collection(self, name: str, change: CollectionChange) -> None:
        """Change a collection's configuration; durable when it returns.

        Raises:
            NotFound: no such collection.
            UnknownVectorName: the change names a vector that the collection lacks.
        """
        self._engine.change_config(name, change)

    def change_aliases(self, actions: Sequence[AliasAction]) -> None:
        """Take actions in order, all or none; durable when it returns.

        Raises:
            NotFound: the collection of a new alias, or the alias to rename, is missing.
            AlreadyExists: an alias would have the name of a collection.
        """
        self._engine.change_aliases(actions)

    def aliases(self, collection_name: str | None = None) -> list[AliasDescription]:
        """The aliases of one collection or of all, sorted by name."""
        return [
            alias
            for alias in self._engine.aliases()
            if collection_name in (None, alias.collection_name)
        ]

    def collection_names(self) -> list[str]:
        """The names of all collections, sorted."""
        return self._engine.collection_names()

    def collection_exists(self, name: str) -> bool:
        """Whether a collection or an alias has this name."""
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
        return collection_info(self._collection(name))

    def payload_index_builds(self, name: str) -> list[BuildProgress]:
        """What is being built of a collection's payload index at this moment.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(name).payload_index_builds()

    def graph_builds(self, name: str) -> dict[str, GraphProgress]:
        """What is being done to a collection's graphs, or waits for it, by vector name.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(name).graph_builds()

    def finished_work(self, name: str) -> list[FinishedWork]:
        """What was done to a collection in the background lately, newest first.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(name).finished_work()

    def vector_counts(self, name: str) -> dict[str, VectorCounts]:
        """How many vectors of each name a collection has.

        Raises:
            NotFound: no such collection.
        """
        return vector_counts(self._collection(name).view)

    def is_indexing(self, name: str) -> bool:
        """Whether graphs are made for vectors that are searched exactly so far.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(name).is_indexing()

    def points_count(self, collection_name: str) -> int:
        """How many points a collection has; costs nothing, and no limit counts it.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(collection_name).points_count()

    def points_counts(self) -> dict[str, int]:
        """How many points each collection has, by name."""
        counts = {}
        for name in self.collection_names():
            with suppress(NotFound):  # deleted meanwhile
                counts[name] = self.points_count(name)
        return counts

    @property
    def directory(self) -> Path:
        """The data directory."""
        return self._engine.directory

    def has_points(self, collection_name: str, filter: Filter) -> bool:
        """Whether some point passes a filter; for the server's own use: no limit counts it.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(collection_name).count(filter) > 0

    def check_timeout(self, collection_name: str, timeout_s: int | None) -> None:
        """Refuse a request's timeout that the collection's strict mode does not allow.

        Raises:
            NotFound: no such collection.
            BadRequest: it is too long.
        """
        self._gate.check_timeout(self._collection(collection_name), timeout_s)

    @property
    def quotas(self) -> Quotas:
        """The limits of this machine's memory and disk."""
        return self._quotas

    def issues(self) -> list[UnindexedField]:
        """What slow reads lacked, and still lack, the latest first."""
        return self._issues.unsolved(self._schema_or_none)

    def clear_issues(self) -> None:
        """Forget what slow reads lacked."""
        self._issues.clear()

    def _schema_or_none(self, name: str) -> Mapping[str, PayloadFieldSchema] | None:
        try:
            return self._collection(name).view.schema
        except NotFound:
            return None

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
            BadRequest, RateLimited: the collection's strict mode refuses it.
            NoSpace, StorageFailed: the log could not be written, or a quota is reached;
                nothing was applied.
        """
        collection = self._collection(collection_name)
        self._gate.check_write(collection, operations)
        return collection.write(WriteBatch(list(operations), list(source_offsets)))

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

    def move_source(self, moved: Mapping[SourcePartition, int | None]) -> None:
        """Make a source be read again from other offsets on, while nobody reads it.

        Collections forget that they took what comes again. Durable when it returns.

        Args:
            moved: by partition the next offset to read; None for what the reader starts at
                when it never read the partition.

        Raises:
            NoSpace, StorageFailed: a log could not be written; call again.
        """
        self._engine.move_source(moved)

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
        collection = self._collection(collection_name)
        self._gate.check_read(collection, cost=max(1, len(ids)))
        return collection.retrieve(ids, with_payload, with_vectors)

    def retrieve_pieces(
        self,
        collection_name: str,
        ids: Sequence[PointId],
        with_payload: PayloadSelection,
        with_vectors: VectorSelection,
        records_max: int,
    ) -> Pieces[Record]:
        """As `retrieve`, of which `records_max` points at a time are read as they are taken.

        Each point is shown as it is when it is read.

        Raises: as `retrieve`.
        """
        collection = self._collection(collection_name)
        self._gate.check_read(collection, cost=max(1, len(ids)))
        collection.retrieve((), with_payload, with_vectors)
        wanted = list(dict.fromkeys(ids))
        pieces = (
            collection.retrieve(wanted[first : first + records_max], with_payload, with_vectors)
            for first in range(0, len(wanted), records_max)
        )
        return Pieces(len(wanted), pieces)

    def retrieve_columns(
        self,
        collection_name: str,
        ids: Sequence[PointId],
        with_payload: bool,
        with_vectors: VectorSelection,
    ) -> PointColumns:
        """As `retrieve`, as flat arrays.

        Raises: as `retrieve`.
        """
        collection = self._collection(collection_name)
        self._gate.check_read(collection, cost=max(1, len(ids)))
        return retrieve_columns(collection, ids, with_payload, with_vectors)

    def scan_columns(
        self,
        collection_name: str,
        filter: Filter | None,
        with_payload: bool,
        with_vectors: VectorSelection,
        points_max: int,
    ) -> ColumnScan:
        """All points that pass a filter, in pieces of at most `points_max`, in stored order.

        All pieces show the collection as it is when this returns, whatever is written then.

        Raises: as `retrieve`.
        """
        collection = self._collection(collection_name)
        self._gate.check_read(collection, filter)
        return scan_columns(collection.view, filter, with_payload, with_vectors, points_max)

    def scroll(self, collection_name: str, scroll: Scroll) -> ScrollPage:
        """One page of points in id order.

        Raises: as `retrieve`.
        """
        collection, started = self._to_scroll(collection_name, scroll), perf_counter()
        page = collection.scroll(scroll)
        self._read_took(collection, started, scroll.filter)
        return page

    def scroll_pieces(self, collection_name: str, scroll: Scroll, records_max: int) -> ScrollPieces:
        """As `scroll`, of which `records_max` records at a time are read as they are taken.

        Raises: as `retrieve`.
        """
        collection, started = self._to_scroll(collection_name, scroll), perf_counter()
        found = collection.scroll_pieces(scroll, records_max)
        self._read_took(collection, started, scroll.filter)
        return found

    def _to_scroll(self, collection_name: str, scroll: Scroll) -> Collection:
        """The collection, once it is seen to take this scroll."""
        if scroll.order_by is not None and scroll.start_id is not None:
            raise BadRequest(
                "Cannot use an `offset` when using `order_by`. "
                "The alternative for paging is to use `order_by.start_from` and a filter to "
                "exclude the IDs that you've already seen for the `order_by.start_from` value"
            )
        collection = self._collection(collection_name)
        self._gate.check_read(collection, scroll.filter, scroll.limit)
        return collection

    def count(self, collection_name: str, filter: Filter | None = None) -> int:
        """How many points pass a filter, exactly.

        Raises:
            NotFound: no such collection.
        """
        collection = self._collection(collection_name)
        self._gate.check_read(collection, filter)
        started = perf_counter()
        count = collection.count(filter)
        self._read_took(collection, started, filter)
        return count

    def query(self, collection_name: str, query: Query) -> list[ScoredPoint]:
        """The best points of a query, best first.

        Raises:
            NotFound: no such collection, or an example id that is not stored.
            WrongInput, BadRequest: the query does not fit the collection, or contradicts
                itself, or the collection's strict mode refuses it.
            RateLimited: the collection has taken too many reads.
        """
        check_query(query)
        collection = self._collection(collection_name)
        self._gate.check_queries(collection, (query,))
        return self._query(collection, query)

    def query_pieces(
        self, collection_name: str, query: Query, points_max: int
    ) -> Pieces[ScoredPoint]:
        """As `query`, of which `points_max` points at a time are read as they are taken.

        Raises: as `query`.
        """
        check_query(query)
        collection = self._collection(collection_name)
        self._gate.check_queries(collection, [query])
        started = perf_counter()
        found = collection.query_pieces(query, self._find_view, points_max)
        self._read_took(collection, started, query)
        return found

    def query_batch(
        self, collection_name: str, queries: Sequence[Query]
    ) -> list[list[ScoredPoint]]:
        """The best points of each query by itself.

        Raises: as `query`.
        """
        for query in queries:
            check_query(query)
        collection = self._collection(collection_name)
        self._gate.check_queries(collection, queries)
        return [self._query(collection, query) for query in queries]

    def payload_bytes_max(self, collection_name: str) -> int:
        """No payload of a collection is larger, in bytes; one that was may be gone.

        Raises:
            NotFound: no such collection.
        """
        return self._collection(collection_name).payload_bytes_max

    def is_short(self, collection_name: str, query: Query) -> bool:
        """Whether a query certainly takes a millisecond or so at the most.

        A front may then answer it where others wait until it is done. False says nothing.

        Raises:
            NotFound: no such collection.
            UnknownVectorName, BadRequest: the query does not fit it.
        """
        return self._collection(collection_name).is_short(query)

    def explain(self, collection_name: str, query: Query) -> StagePlan:
        """How a query would be answered: its stages, filters and searches, and why so.

        Raises: as `query`.
        """
        check_query(query)
        collection = self._collection(collection_name)
        self._gate.check_queries(collection, [query])
        return collection.explain(query, self._find_view)

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
        check_query(query)
        collection = self._collection(collection_name)
        self._gate.check_groups(collection, query, group_by)
        started = perf_counter()
        groups = collection.groups(query, group_by, self._find_view)
        self._read_took(collection, started, query)
        if with_lookup is None:
            return groups
        self._find_view(with_lookup.collection_name)
        records = self.retrieve(
            with_lookup.collection_name,
            lookup_ids(groups),
            with_lookup.with_payload,
            with_lookup.with_vectors,
        )
        return joined(groups, records)

    def facet(self, collection_name: str, facet: Facet) -> list[FacetHit]:
        """The most frequent values of an indexed field, by count, then value.

        Raises:
            NotFound: no such collection.
            BadRequest: the field has no payload index that serves equality.
        """
        collection = self._collection(collection_name)
        self._gate.check_read(collection, facet.filter, facet.limit)
        started = perf_counter()
        hits = collection.facet(facet)
        self._read_took(collection, started, facet.filter)
        return hits

    def matrix(self, collection_name: str, request: MatrixRequest) -> list[MatrixRow]:
        """The nearest neighbours of each point of a random sample, within the sample.

        Raises:
            NotFound: no such collection.
            UnknownVectorName: no such vector.
        """
        collection = self._collection(collection_name)
        most = request.sample * request.limit
        self._gate.check_read(collection, request.filter, most, cost=request.sample)
        return collection.matrix(request, self._find_view)

    def _query(self, collection: Collection, query: Query) -> list[ScoredPoint]:
        started = perf_counter()
        points = collection.query(query, self._find_view)
        self._read_took(collection, started, query)
        return points

    def _read_took(
        self, collection: Collection, started: float, what: Filter | Query | None
    ) -> None:
        """Look at a read that is done: an issue, if it was slow and lacked an index."""
        if perf_counter() - started >= SLOW_READ_S and what is not None:
            self._issues.slow_read(collection.name, collection.view.schema, filters_of(what))

    def _find_view(self, name: str) -> View:
        """The newest view of a collection that another one's query names."""
        try:
            return self._collection(name).view
        except NotFound:
            raise NotFound(f"Collection {name} not found") from None
