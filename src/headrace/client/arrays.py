"""How are points written, searched and read as arrays, without an object for each?

The fast way in and out of a store in the caller's process. It opens the same directories
as `connect`, beside it if need be: what one writes, the other sees at once.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from headrace.client import arrow
from headrace.client.columns import (
    VectorsLike,
    as_ids,
    as_payloads,
    as_vectors,
    id_array,
    last_of_each,
)
from headrace.client.errors import ArraysDisagree
from headrace.client.filters import FilterLike, as_filter, as_json
from headrace.client.results import Hits, Points, hits_of
from headrace.client.shared import SharedStore, lease_store
from headrace.model.batches import batch_entries, batch_part
from headrace.model.collection_config import CollectionConfig, SparseVectorParams
from headrace.model.errors import BadRequest, InvalidVector
from headrace.model.ids import PointId
from headrace.model.operations import (
    DeletePoints,
    Operation,
    PayloadJson,
    PointSelector,
    SetPayload,
    UpsertPoints,
)
from headrace.model.queries import (
    NO_PAYLOAD,
    WHOLE_PAYLOAD,
    Nearest,
    Query,
    SearchParams,
    VectorSelection,
)
from headrace.model.vectors import (
    DEFAULT_VECTOR_NAME,
    Rows,
    SparseVector,
    Vector,
    VectorBatch,
)
from headrace.server.rest.collections import parse_create_collection
from headrace.service.service import Service

# One log record each: large enough that a sync is nothing beside it, small enough that a
# few of them fit into memory.
_BYTES_PER_WRITE = 16 * 2**20

# What ids, versions and payload references take of a record besides the vectors.
_BYTES_PER_POINT = 64

_POINTS_PER_PIECE = 16_384


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a data directory in this process, for arrays.

    Args:
        path: a directory, made if it is not there; or ":memory:" for a store that is
            empty, unshared, and gone when it is closed.

    Raises:
        DirectoryInUse: another process has it open.
        CorruptFile: a file is damaged beyond a torn tail.
    """
    return Store(path)


class Store:
    """An opened data directory; thread-safe. A context manager, which closes it.

    Args:
        path: see `open_store`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._lease = lease_store(path)
        self._lease.close_with(self)

    def close(self) -> None:
        """Close it; the directory, if nothing else in this process has it open."""
        self._lease.close()

    def create_collection(
        self, name: str, config: CollectionConfig | Mapping[str, Any]
    ) -> ArrayCollection:
        """Make a collection; durable when it returns.

        Args:
            name: not taken yet.
            config: as the engine has it, or in the JSON shape of Qdrant's API, such as
                `{"vectors": {"size": 768, "distance": "Cosine"}}`; values may be models of
                the official client.

        Raises:
            AlreadyExists: the name is taken.
            FormatError, InvalidBody, BadRequest: the configuration is none.
        """
        if not isinstance(config, CollectionConfig):
            config = parse_create_collection(as_json(config))
        made = config
        store = self._lease.store
        store.run_write(lambda: store.service.create_collection(name, made))
        return self.collection(name)

    def delete_collection(self, name: str) -> bool:
        """Delete a collection, durably; False if there is none."""
        store = self._lease.store
        return store.run_write(lambda: store.service.delete_collection(name))

    def collection_names(self) -> list[str]:
        """The names of all collections, sorted."""
        return self._lease.store.service.collection_names()

    def collection(self, name: str) -> ArrayCollection:
        """A collection, by its name or an alias of it.

        Raises:
            NotFound: there is none.
        """
        self._lease.store.service.collection_config(name)
        return ArrayCollection(name, lambda: self._lease.store)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class ArrayCollection:
    """One collection of a `Store`; thread-safe.

    Args:
        name: its name.
        store: gives the opened store, or raises Unavailable once it is closed.
    """

    def __init__(self, name: str, store: Callable[[], SharedStore]) -> None:
        self.name = name
        self._store = store

    @property
    def config(self) -> CollectionConfig:
        """What the collection was created with."""
        return self._service.collection_config(self.name)

    # Writes

    def upsert(
        self,
        ids: Any,
        vectors: VectorsLike | Mapping[str, VectorsLike],
        payloads: Any = None,
    ) -> None:
        """Insert points, or replace whole points; durable and searchable when it returns.

        All arrays are checked before the first point is written. Points are written in
        batches of about 16 MiB, each of which is applied whole or not at all. The arrays
        are copied: they are the caller's again when this returns.

        Args:
            ids: shape (n,), of an integer dtype; or an Arrow array, or a sequence of
                numbers, UUIDs and their texts. Of points with one id the last wins.
            vectors: those of the default vector, or by name. Dense: shape (n, dim), kept as
                float32. Multi: shape (n, vectors, dim), or a `MultiBatch`. Sparse: compressed
                rows as SciPy has them, or a `SparseBatch`. Where points lack a vector: a
                `DenseBatch`, or an Arrow column with nulls.
            payloads: None; n dictionaries, or JSON objects as bytes; or columns by field
                name: sequences, arrays or an Arrow table, where None leaves a field out.

        Raises:
            WrongVectorDimension, UnknownVectorName, InvalidVector: vectors do not fit.
            ArraysDisagree: the arrays are not those of n points, or an id or payload is none.
            NotFound: the collection is gone.
            NoSpace, StorageFailed: later batches were not written.
        """
        point_ids = as_ids(ids)
        batches = as_vectors(vectors, len(point_ids), self.config)
        self._upsert(point_ids, batches, as_payloads(payloads, len(point_ids)))

    def upsert_arrow(self, table: Any) -> None:
        """Upsert an Arrow table; see `upsert`.

        Args:
            table: a Table, RecordBatch or RecordBatchReader: a column `id`, a column for
                each vector it has (`vector` for the default one), and either `payload`
                (JSON text or a struct) or any other columns as payload fields.

        Raises:
            ArraysDisagree: there is no column `id`, or there are both kinds of payload.
            Others: as `upsert`.
        """
        for piece in table if hasattr(table, "read_next_batch") else (table,):
            self._upsert_table(piece)

    def delete(self, ids: Any = None, *, filter: FilterLike | None = None) -> None:
        """Delete points by ids or by filter; durable when it returns.

        Raises:
            BadRequest: not exactly one of both is given.
            NotFound: the collection is gone.
        """
        self._write(DeletePoints(_selector(ids, filter)))

    def set_payload(
        self,
        payload: Mapping[str, Any],
        ids: Any = None,
        *,
        filter: FilterLike | None = None,
        key: str | None = None,
    ) -> None:
        """Merge fields into the payloads of points; durable when it returns.

        Args:
            payload: the fields; None removes one.
            ids, filter: which points; exactly one of both.
            key: the payload path of the object that they are merged into, if not the top.

        Raises:
            BadRequest: not exactly one of ids and filter is given.
            NotFound: the collection is gone, or an id is not stored.
        """
        [encoded] = as_payloads([payload], 1)
        self._write(SetPayload(_selector(ids, filter), encoded, key))

    # Reads

    def search(
        self,
        query: ArrayLike | SparseVector | Sequence[SparseVector],
        *,
        limit: int = 10,
        filter: FilterLike | None = None,
        using: str = DEFAULT_VECTOR_NAME,
        with_payload: bool = False,
        score_threshold: float | None = None,
        offset: int = 0,
        exact: bool = False,
        hnsw_ef: int | None = None,
    ) -> Hits:
        """The points nearest to each of one or more query vectors.

        Args:
            query: dense: shape (dim,) for one query, (queries, dim) for several; multi:
                one dimension more; sparse: a `SparseVector` or a sequence of them.
            limit: how many hits a query has at most.
            filter: which points may be hits.
            using: the vector name that is searched.
            with_payload: whether hits carry payloads.
            score_threshold: hits that are not strictly better are dropped.
            offset: how many of the best are left out.
            exact: score every point.
            hnsw_ef: how wide a graph is searched.

        Raises:
            NotFound: the collection is gone.
            BadRequest: a limit or an offset is negative.
            WrongInput: the query does not fit the collection.
        """
        params = SearchParams(hnsw_ef=hnsw_ef, exact=exact)
        wanted = as_filter(filter)
        limit, offset = _count("limit", limit), _count("offset", offset)
        queries = [
            Query(
                query=Nearest(vector),
                using=using,
                filter=wanted,
                params=params,
                score_threshold=score_threshold,
                limit=limit,
                offset=offset,
                with_payload=WHOLE_PAYLOAD if with_payload else NO_PAYLOAD,
            )
            for vector in self._query_vectors(query, using)
        ]
        return hits_of(self._service.query_batch(self.name, queries), with_payload)

    def get(
        self, ids: Any, *, with_payload: bool = True, with_vectors: bool | Sequence[str] = True
    ) -> Points:
        """Points by id, in the order of `ids`, once each; missing ones are left out.

        Args:
            ids: as `upsert` takes them.
            with_payload: whether payloads are read.
            with_vectors: all, none, or those of these names.

        Raises:
            NotFound: the collection is gone.
            UnknownVectorName: the collection has no such vector.
        """
        found = self._service.retrieve_columns(
            self.name, as_ids(ids), with_payload, _vector_selection(with_vectors)
        )
        return Points(id_array(found.ids), found.vectors, found.payloads, self.config)

    def count(self, filter: FilterLike | None = None) -> int:
        """How many points pass a filter, exactly. Raises NotFound."""
        return self._service.count(self.name, as_filter(filter))

    def to_arrow(
        self,
        filter: FilterLike | None = None,
        *,
        with_payload: bool = True,
        payload_fields: Mapping[str, Any] | None = None,
        with_vectors: bool | Sequence[str] = True,
    ) -> Any:
        """All points that pass a filter, in stored order, as a `pyarrow.RecordBatchReader`.

        The reader makes a batch when it is asked for one, and all show the collection as it
        was when this was called, whatever is written meanwhile.

        Args:
            filter: which points.
            with_payload: whether there is a column `payload`, of JSON text.
            payload_fields: the Arrow type of each payload field that is wanted; the column
                `payload` is then a struct of them, null where a point lacks one.
            with_vectors: all, none, or those of these names.

        Raises:
            MissingExtra: pyarrow is not installed.
            NotFound: the collection is gone.
            UnknownVectorName: the collection has no such vector.
            ArraysDisagree: on reading: a payload field has another type.
        """
        pa = arrow.load_pyarrow()
        config = self.config
        selection = _vector_selection(with_vectors)
        names = selection.names
        if names is None:
            names = (*config.vectors, *config.sparse_vectors) if selection.enabled else ()
        scan = self._service.scan_columns(
            self.name, as_filter(filter), with_payload, selection, _POINTS_PER_PIECE
        )
        payload_type = arrow.payload_type(payload_fields) if with_payload else None
        schema = arrow.points_schema(config, names, scan.has_uuids, payload_type)
        batches = (arrow.points_batch(piece, schema) for piece in scan.pieces)
        return pa.RecordBatchReader.from_batches(schema, batches)

    @property
    def _service(self) -> Service:
        return self._store().service

    def _write(self, operation: Operation) -> None:
        store = self._store()
        store.run_write(lambda: store.service.write(self.name, [operation]))

    def _upsert(
        self, ids: list[PointId], batches: dict[str, VectorBatch], payloads: list[PayloadJson]
    ) -> None:
        kept = last_of_each(ids)
        if kept is not None:
            ids, payloads = [ids[i] for i in kept], [payloads[i] for i in kept]
            batches = {name: _of_points(batch, kept) for name, batch in batches.items()}
        for begin, end in _parts(len(ids), batches, payloads):
            parts = {name: batch_part(batch, begin, end) for name, batch in batches.items()}
            self._write(UpsertPoints(ids[begin:end], parts, payloads[begin:end]))

    def _upsert_table(self, table: Any) -> None:
        columns = dict(zip(table.schema.names, table.columns, strict=True))
        ids = columns.pop(arrow.ID_COLUMN, None)
        if ids is None:
            raise ArraysDisagree(f"the table has no column {arrow.ID_COLUMN!r}")
        config = self.config
        names = {
            arrow.vector_column(name): name for name in (*config.vectors, *config.sparse_vectors)
        }
        vectors = {names[column]: columns.pop(column) for column in names if column in columns}
        payloads: Any = columns
        whole = columns.pop(arrow.PAYLOAD_COLUMN, None)
        if whole is not None:
            if columns:
                raise ArraysDisagree(
                    f"the table has a column {arrow.PAYLOAD_COLUMN!r} and other payload "
                    f"columns: {', '.join(columns)}"
                )
            payloads = [
                value.encode() if isinstance(value, str) else value for value in whole.to_pylist()
            ]
        self.upsert(ids, vectors, payloads)

    def _query_vectors(self, query: Any, using: str) -> list[Vector]:
        """The query vectors, one by one.

        Raises:
            InvalidVector: they are of another kind than the collection's, or not finite.
        """
        params = self.config.vector_params(using)
        if isinstance(params, SparseVectorParams):
            return [query] if isinstance(query, SparseVector) else list(query)
        array = np.asarray(query, dtype=np.float32)
        ndim = 2 if params.is_multi else 1
        if array.ndim not in (ndim, ndim + 1):
            raise InvalidVector(
                f"Expected {ndim} or {ndim + 1} dimensions, got {array.ndim}", using
            )
        if not np.isfinite(array).all():
            raise InvalidVector("A query vector is not finite in float32", using)
        return [array] if array.ndim == ndim else list(array)


def _count(name: str, value: int) -> int:
    count = operator.index(value)
    if count < 0:
        raise BadRequest(f"`{name}` is {count}, the minimum is 0")
    return count


def _selector(ids: Any, filter: FilterLike | None) -> PointSelector:
    if (ids is None) == (filter is None):
        raise BadRequest("Either ids or a filter must be given, and not both")
    if ids is None:
        return PointSelector(filter=as_filter(filter))
    return PointSelector(ids=tuple(as_ids(ids)))


def _vector_selection(with_vectors: bool | Sequence[str]) -> VectorSelection:
    if isinstance(with_vectors, bool):
        return VectorSelection(enabled=with_vectors)
    return VectorSelection(enabled=True, names=tuple(with_vectors))


def _of_points(batch: VectorBatch, kept: Rows) -> VectorBatch:
    """The vectors of some points, which are then counted anew."""
    places = np.searchsorted(kept, batch.positions)
    places[places == len(kept)] = 0
    entries = np.flatnonzero(kept[places] == batch.positions)
    return batch_entries(batch, entries, places[entries])


def _parts(
    points_count: int, batches: Mapping[str, VectorBatch], payloads: Sequence[PayloadJson]
) -> Iterator[tuple[int, int]]:
    """Ranges of points that are about one write large each, if points are much alike."""
    nbytes = sum(batch.values.nbytes for batch in batches.values())
    nbytes += sum(map(len, payloads)) + _BYTES_PER_POINT * points_count
    writes = max(1, -(-nbytes // _BYTES_PER_WRITE))
    step = max(1, -(-points_count // writes))
    for begin in range(0, points_count, step):
        yield begin, min(begin + step, points_count)
