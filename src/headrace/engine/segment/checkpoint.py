"""How does a segment get into files, and back, without its log?

A checkpoint is a manifest and the data files it names. It is made of a view, beside
running writes: append-only arrays are written from where the last checkpoint ended,
payload groups if they changed, the small changing arrays anew. Only when all files are
durable does the manifest replace the old one, by one rename; then the log may be cut and
files that nothing names are removed. The bytes are described in
`docs/formats/checkpoint.md`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.engine.payload.groups import (
    GROUP_ROWS,
    GroupState,
    drop_mapped_pages,
    encode_group,
    group_states,
    mapped_chunks,
    move_into_file,
    move_out_of_file,
)
from headrace.engine.payload.store import PayloadTable
from headrace.engine.segment.segment import Segment, StoredState, Versions, View
from headrace.engine.storage.data_file import (
    DataFileRef,
    map_data_file,
    remove_data_file,
    write_data_file,
)
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, storage_error
from headrace.engine.storage.files import read_document, write_document
from headrace.engine.vector_index.graph_file import open_graph_file, write_graph_file
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vector_index.settings import Placement
from headrace.engine.vectors.arrays import BlockMatrix
from headrace.engine.vectors.base import VectorStore
from headrace.engine.vectors.stored import StoredArray
from headrace.model.collection_config import CollectionConfig, PayloadFieldSchema
from headrace.model.errors import CorruptFile, HeadraceError
from headrace.model.operations import SourceOffset

MANIFEST_NAME = "checkpoint.doc"
DATA_DIRECTORY = "data"

# Stretches of an array are merged while one is less than this many times the next: then
# their lengths fall geometrically, and each element is rewritten a logarithmic number of
# times.
_STRETCH_RATIO = 2


class Stretch(msgspec.Struct, frozen=True):
    """Elements `begin` to `end` of an append-only array, in one file."""

    begin: int
    end: int
    file: DataFileRef


class PayloadGroup(msgspec.Struct, frozen=True):
    """The payloads of consecutive rows, in one file."""

    row_count: int
    file: DataFileRef


class Manifest(msgspec.Struct, frozen=True):
    """What a checkpoint holds.

    Attributes:
        generation: counts the checkpoints of a collection; begins the names of its files.
        seq_no: the last log record it includes.
        row_count: how many rows there are.
        arrays: by name, the stretches of each append-only array, in order.
        versions: uint64, one a row.
        live: one bit a row, `numpy.packbits` order little.
        payloads: groups, in row order.
        schema: the payload indexes.
        source_offsets: how far each source partition has been taken.
        graphs: by vector name, the graphs over its rows, in row order.
        config: the collection's; None in checkpoints of versions that kept it in
            `collection.doc` alone.
    """

    generation: int
    seq_no: int
    row_count: int
    arrays: dict[str, list[Stretch]]
    versions: DataFileRef
    live: DataFileRef
    payloads: list[PayloadGroup]
    schema: dict[str, PayloadFieldSchema]
    source_offsets: list[SourceOffset]
    graphs: dict[str, list[DataFileRef]] = {}
    config: CollectionConfig | None = None

    def files(self) -> Iterator[DataFileRef]:
        """Every data file it names."""
        yield from self.array_files()
        for refs in self.graphs.values():
            yield from refs

    def array_files(self) -> Iterator[DataFileRef]:
        """Every data file but those of graphs."""
        for stretches in self.arrays.values():
            yield from (stretch.file for stretch in stretches)
        yield self.versions
        yield self.live
        yield from (group.file for group in self.payloads)


_NOTHING = Manifest(0, 0, 0, {}, DataFileRef("", 0, 0), DataFileRef("", 0, 0), [], {}, [])


class Checkpoints:
    """The checkpoints of one collection, one after the other. Not thread-safe.

    Args:
        directory: the collection's; the manifest is in it, the data files in `data/`.
        ops: the file operations to use.
    """

    def __init__(self, directory: Path, ops: FileOps = FILE_OPS) -> None:
        self._manifest_path = directory / MANIFEST_NAME
        self._directory = directory / DATA_DIRECTORY
        self._ops = ops
        self._manifest: Manifest | None = None
        self._groups: list[GroupState] = []
        self._generation = 0
        self._pinned: list[Manifest] = []
        # Of these the newest checkpoint holds the rows: a name that was dropped and added
        # again has another store.
        self._stores: Mapping[str, VectorStore] = {}
        # The maps of files that are read where they lie, by name.
        self._cold: dict[str, memoryview] = {}
        # The payload groups that are read where they lie, and the maps of their files, by name.
        self._mapped_groups: dict[str, tuple[GroupState, memoryview]] = {}
        # The graphs that the newest checkpoint holds, by identity: they never change.
        self._graph_files: dict[SealedRange, DataFileRef] = {}

    @property
    def seq_no(self) -> int:
        """The last log record that the newest checkpoint includes; 0 if there is none."""
        return self._manifest.seq_no if self._manifest else 0

    @property
    def generation(self) -> int:
        """Of the newest checkpoint; 0 if there is none."""
        return self._manifest.generation if self._manifest else 0

    def load_into(self, segment: Segment, generation_min: int = 0) -> None:
        """Fill an empty segment from the newest checkpoint, if there is one.

        Every block of every file is verified.

        Args:
            segment: filled.
            generation_min: of a checkpoint that was there; 0 if there may be none.

        Raises:
            CorruptFile: a file is missing, damaged or older.
            StorageFailed: the system cannot read one.
        """
        try:
            manifest = self.read_manifest(generation_min)
        except FileNotFoundError:
            return
        if manifest.config is not None:
            segment.adopt_config(manifest.config)
        cold = {ref.name for _, refs in _cold_files(segment, manifest) for ref in refs}
        # Payloads are read here and there alone: having been verified shall take no memory.
        dropped = cold | {group.file.name for group in manifest.payloads}
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            refs = {ref.name: ref for ref in manifest.array_files()}
            mapped = pool.map(
                lambda ref: map_data_file(self._directory, ref, ref.name in dropped), refs.values()
            )
            contents = dict(zip(refs, mapped, strict=True))
        self._cold = {name: contents[name] for name in cold}
        table: PayloadTable = []
        for group in manifest.payloads:
            table.extend(mapped_chunks(contents[group.file.name], group.row_count))
        for name, (array, length) in segment.stored_arrays().items():
            stretches = manifest.arrays.get(name)
            if stretches is None:
                raise CorruptFile(str(self._manifest_path), 0, f"the array {name}", "none")
            begin = manifest.row_count if length is None else 0
            if stretches:
                begin = stretches[0].begin
            array.load([contents[stretch.file.name] for stretch in stretches], begin)
        segment.load_state(
            StoredState(
                manifest.seq_no,
                np.frombuffer(contents[manifest.versions.name], dtype=np.uint64),
                _unpack(contents[manifest.live.name], manifest.row_count),
                table,
                manifest.schema,
                {taken.partition: taken.next_offset for taken in manifest.source_offsets},
                {name: _length(stretches) for name, stretches in manifest.arrays.items()},
            )
        )
        drop_mapped_pages(table)
        for name, graph_refs in manifest.graphs.items():
            self._load_graphs(segment.indexed_stores()[name], graph_refs, manifest.row_count)
        self._manifest = manifest
        self._generation = manifest.generation
        self._stores = segment.stores
        self._groups = group_states(table, manifest.row_count)
        self._mapped_groups = {
            in_file.file.name: (group, contents[in_file.file.name])
            for group, in_file in zip(self._groups, manifest.payloads, strict=True)
        }

    def lacks_graphs(self, view: View) -> bool:
        """Whether there are graphs that the newest checkpoint does not hold."""
        return any(
            sealed not in self._graph_files
            for store in view.indexed_stores().values()
            for sealed in store.ranges
            if sealed.row_end <= view.row_count
        )

    def read_manifest(self, generation_min: int = 0) -> Manifest:
        """The newest manifest, as it is stored.

        Args:
            generation_min: of a checkpoint that was there; 0 if there may be none.

        Raises:
            FileNotFoundError: there is no checkpoint.
            CorruptFile: it is damaged, or older.
        """
        path = self._manifest_path
        expected = f"a checkpoint of generation {generation_min} or later"
        try:
            manifest = read_document(path, Manifest, ops=self._ops)
        except FileNotFoundError:
            if generation_min:
                raise CorruptFile(str(path), 0, expected, "no file") from None
            raise
        if manifest.generation < generation_min:
            raise CorruptFile(str(path), 0, expected, f"generation {manifest.generation}")
        return manifest

    def pin(self) -> Manifest:
        """Keep the files of the checkpoint just written, also once they are not its newest.

        The caller gives the manifest to `unpin` when it has read them.
        """
        assert self._manifest is not None
        self._pinned.append(self._manifest)
        return self._manifest

    def unpin(self, manifest: Manifest) -> None:
        """Let the next checkpoint remove the files that no manifest names any more."""
        self._pinned.remove(manifest)

    def write(self, view: View, versions: Versions) -> None:
        """Make a checkpoint of a view; durable when it returns. Writes may go on meanwhile.

        Args:
            view: what it holds.
            versions: shape (view.row_count,): of its rows, at the moment of the view.

        Raises:
            NoSpace, StorageFailed: the last checkpoint is still the newest.
        """
        if not self._directory.exists():
            self._make_directory()
        before = self._manifest or _NOTHING
        kept_stores: set[str | None] = {None}
        kept_stores |= {n for n, store in view.stores.items() if self._stores.get(n) is store}
        self._generation += 1
        writer = _Writer(self._directory, view, self._generation, self._ops)
        try:
            groups = group_states(view.payloads, view.row_count)
            graphs = writer.graphs(self._graph_files)
            manifest = Manifest(
                generation=self._generation,
                seq_no=view.seq_no,
                row_count=view.row_count,
                arrays={
                    name: writer.stretches(
                        name,
                        stored,
                        before.arrays.get(name, []) if _owner(name) in kept_stores else [],
                    )
                    for name, stored in view.stored_arrays().items()
                },
                versions=writer.file("versions", [versions]),
                live=writer.file("live", [np.packbits(view.live, bitorder="little")]),
                payloads=writer.payload_groups(groups, self._groups, before),
                schema=dict(view.schema),
                source_offsets=[SourceOffset(*item) for item in view.source_offsets.items()],
                graphs={name: list(files.values()) for name, files in graphs.items()},
                config=view.config,
            )
            self._sync_directory()
            write_document(self._manifest_path, manifest, self._ops)
        except BaseException:
            if not self._may_name(writer.written):
                for name in writer.written:
                    remove_data_file(self._directory / name, self._ops)
            raise
        self._manifest, self._groups, self._stores = manifest, groups, view.stores
        self._graph_files = {
            sealed: ref for files in graphs.values() for sealed, ref in files.items()
        }
        self.remove_unnamed_files()

    def _may_name(self, names: Sequence[str]) -> bool:
        """Whether the manifest on disk names any of these files, as far as can be told.

        It does when it was put in its place and then could not be synced.
        """
        try:
            return not {ref.name for ref in self.read_manifest().files()}.isdisjoint(names)
        except FileNotFoundError:
            return False
        except HeadraceError:
            return True

    def map_cold(self, view: View) -> list[tuple[BlockMatrix, list[memoryview]]]:
        """The files of the newest checkpoint, which is of this view, for what is read from disk.

        Every block of a file is verified once.

        Raises:
            CorruptFile, StorageFailed: one cannot be read.
        """
        assert self._manifest is not None
        files = _cold_files(view, self._manifest)
        named = {ref.name: ref for _, refs in files for ref in refs}
        self._cold = {
            name: self._cold.get(name) or map_data_file(self._directory, ref, is_cold=True)
            for name, ref in named.items()
        }
        return [(matrix, [self._cold[ref.name] for ref in refs]) for matrix, refs in files]

    def move_payloads(self) -> None:
        """Have payloads lie in the files of the newest checkpoint alone.

        Every block of a file is verified once. Those who hold the payloads notice nothing,
        and no longer hold the files of older checkpoints, but those they need most of.

        Raises:
            CorruptFile, StorageFailed: one cannot be read.
        """
        assert self._manifest is not None
        stored = self._manifest.payloads
        for rank, (group, in_file) in enumerate(zip(self._groups, stored, strict=True)):
            if in_file.file.name not in self._mapped_groups:
                try:
                    content = map_data_file(self._directory, in_file.file, is_cold=True)
                except CorruptFile:
                    # The payloads still lie elsewhere: the next checkpoint writes them anew.
                    self._groups[rank] = GroupState([], [])
                    raise
                move_into_file(group, content)
                self._mapped_groups[in_file.file.name] = (group, content)
        for name in self._mapped_groups.keys() - {in_file.file.name for in_file in stored}:
            move_out_of_file(*self._mapped_groups.pop(name))

    def place_graphs(self, view: View) -> None:
        """Have the graphs of the newest checkpoint in memory or in their files, as wanted.

        Raises:
            CorruptFile, StorageFailed: a file cannot be read.
        """
        for store, sealed, ref in self._misplaced(view):
            placed = open_graph_file(
                self._directory, ref, store.dim, view.row_count, store.settings.placement
            )
            self._graph_files[placed] = ref
            store.replace_range(sealed, placed)

    def misplaces_graphs(self, view: View) -> bool:
        """Whether `place_graphs` has something to do."""
        return any(True for _ in self._misplaced(view))

    def _misplaced(self, view: View) -> Iterator[tuple[IndexedVectors, SealedRange, DataFileRef]]:
        """The graphs that the newest checkpoint holds, and that lie where they are not wanted."""
        for store in view.indexed_stores().values():
            for sealed in store.ranges:
                ref = self._graph_files.get(sealed)
                if ref is not None and sealed.graph is not None:
                    # One that is mapped, or not, stays so where nothing is said.
                    unwanted = Placement.PINNED if sealed.graph.is_mapped else Placement.COLD
                    if store.settings.placement is unwanted:
                        yield store, sealed, ref

    def forget(self) -> None:
        """Write the next checkpoint whole: the rows have been renumbered."""
        self._groups = []
        self._mapped_groups = {}
        self._graph_files = {}
        if self._manifest is not None:
            self._manifest = msgspec.structs.replace(self._manifest, arrays={}, payloads=[])

    def remove_unnamed_files(self) -> None:
        """Remove the data files that the newest manifest does not name."""
        if not self._directory.exists():
            return
        kept = [*self._pinned, self._manifest] if self._manifest else self._pinned
        named = {ref.name for manifest in kept for ref in manifest.files()}
        for path in self._directory.iterdir():
            if path.name not in named:
                remove_data_file(path, self._ops)

    def _load_graphs(self, store: IndexedVectors, refs: list[DataFileRef], row_count: int) -> None:
        placement = store.settings.placement
        ranges = [
            open_graph_file(self._directory, ref, store.dim, row_count, placement) for ref in refs
        ]
        store.adopt_ranges(ranges)
        self._graph_files.update(zip(ranges, refs, strict=True))

    def _make_directory(self) -> None:
        try:
            self._ops.mkdir(self._directory)
            self._ops.fsync_dir(self._directory.parent)
        except OSError as error:
            raise storage_error(error, f"creating {self._directory}") from error

    def _sync_directory(self) -> None:
        try:
            self._ops.fsync_dir(self._directory)
        except OSError as error:
            raise storage_error(error, f"syncing {self._directory}") from error


class _Writer:
    """Writes the files of one checkpoint, and remembers their names."""

    def __init__(self, directory: Path, view: View, generation: int, ops: FileOps) -> None:
        self._generation = generation
        self._directory = directory
        self._view = view
        self._ops = ops
        self.written: list[str] = []

    def file(self, what: str, parts: list[NDArray[Any]] | list[bytes]) -> DataFileRef:
        """Write a data file named after what it holds, the checkpoint and its rank."""
        name = self._new_name(what)
        buffers = [
            np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else part
            for part in parts
            if len(part)
        ]
        return write_data_file(self._directory, name, buffers, self._ops)

    def graphs(
        self, stored: dict[SealedRange, DataFileRef]
    ) -> dict[str, dict[SealedRange, DataFileRef]]:
        """The graphs over rows of the view, by vector name; those that are stored stay."""
        return {
            name: {
                sealed: stored.get(sealed) or self._graph(sealed, store.dim)
                for sealed in store.ranges
                if sealed.row_end <= self._view.row_count
            }
            for name, store in self._view.indexed_stores().items()
        }

    def _graph(self, sealed: SealedRange, dim: int) -> DataFileRef:
        name = self._new_name("graph")
        return write_graph_file(self._directory, name, sealed, dim, self._ops)

    def _new_name(self, what: str) -> str:
        name = f"{self._generation:010d}-{len(self.written):06d}-{what}.data"
        self.written.append(name)
        return name

    def stretches(self, name: str, stored: StoredArray, before: list[Stretch]) -> list[Stretch]:
        """The stretches of an array: those that stay, and one of all that is new or merged."""
        end = self._view.row_count if stored.length is None else stored.length
        kept = list(before)
        begin = _length(kept) if kept else stored.array.begin
        while kept and kept[-1].end - kept[-1].begin < _STRETCH_RATIO * (end - begin):
            begin = kept.pop().begin
        if begin < end:
            what = name.rpartition("/")[2]
            kept.append(Stretch(begin, end, self.file(what, stored.array.parts(begin, end))))
        return kept

    def payload_groups(
        self, groups: list[GroupState], before: list[GroupState], manifest: Manifest
    ) -> list[PayloadGroup]:
        """The payload groups: those that did not change stay in their files."""
        stored = []
        for rank, group in enumerate(groups):
            if rank < len(manifest.payloads) and before[rank].is_unchanged(group):
                stored.append(manifest.payloads[rank])
            else:
                ref = self.file("payloads", encode_group(group))
                stored.append(PayloadGroup(sum(group.lengths), ref))
        assert all(group.row_count == GROUP_ROWS for group in stored[:-1])
        return stored


def holds_cold_in_memory(view: View) -> bool:
    """Whether vectors that are to be read from disk are in memory that no file backs."""
    return any(matrix.is_in_memory for _, matrix in _cold_matrices(view))


def _cold_matrices(of: View | Segment) -> Iterator[tuple[str, BlockMatrix]]:
    """The arrays that are to be read from disk, and their names."""
    for name, params in of.config.vectors.items():
        if params.is_cold:
            for what, matrix in of.stores[name].matrices().items():
                yield f"vectors/{name}/{what}", matrix


def _cold_files(
    of: View | Segment, manifest: Manifest
) -> list[tuple[BlockMatrix, list[DataFileRef]]]:
    """The files of the arrays that are to be read from disk, of those that have any."""
    found = [
        (matrix, [stretch.file for stretch in manifest.arrays.get(name, [])])
        for name, matrix in _cold_matrices(of)
    ]
    return [(matrix, refs) for matrix, refs in found if refs]


def _owner(array_name: str) -> str | None:
    """The vector name that an array belongs to; None if it is of no vector name."""
    kind, _, rest = array_name.partition("/")
    return rest.rpartition("/")[0] if kind == "vectors" else None


def _length(stretches: list[Stretch]) -> int:
    return stretches[-1].end if stretches else 0


def _unpack(content: memoryview, row_count: int) -> NDArray[np.bool_]:
    bits = np.frombuffer(content, dtype=np.uint8)
    return np.unpackbits(bits, count=row_count, bitorder="little").astype(np.bool_)
