"""Which rows of a damaged checkpoint are still whole?

A row is kept if every block that holds a part of it verifies: its id, version, live bit,
payload and all its vectors. The others die; their places in the files are filled with
zeros, so that all other rows stay where they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from headrace.engine.segment.checkpoint import Manifest, PayloadGroup, Stretch
from headrace.engine.storage.data_file import (
    DataFileRef,
    find_damage,
    read_undamaged,
    write_data_file,
)
from headrace.engine.storage.file_ops import FileOps
from headrace.model.collection_config import CollectionConfig
from headrace.model.operations import EMPTY_PAYLOAD
from headrace.model.vectors import Mask

_Gaps = list[tuple[int, int]]


class Salvaged(NamedTuple):
    """What is left of a checkpoint.

    Attributes:
        manifest: of files that all verify.
        kept_files: those of them that are in the old directory, undamaged; the others are
            in the new one.
        lost: shape (row_count,): which rows were live, or may have been, and are dead now.
        lost_ids_unknown: which of them have lost their ids too.
    """

    manifest: Manifest
    kept_files: list[DataFileRef]
    lost: Mask
    lost_ids_unknown: Mask


def salvage(
    manifest: Manifest, config: CollectionConfig, old: Path, new: Path, ops: FileOps
) -> Salvaged:
    """Write the files that replace damaged ones; graphs are left out if rows are lost.

    Args:
        manifest: of the checkpoint, which itself is whole.
        config: of the collection.
        old: where its data files are.
        new: where the new ones go.
        ops: the file operations to use.

    Raises:
        NoSpace, StorageFailed: the system refused.
    """
    work = _Salvage(manifest, config, old, new, ops)
    return work.run()


class _Salvage:
    def __init__(
        self, manifest: Manifest, config: CollectionConfig, old: Path, new: Path, ops: FileOps
    ) -> None:
        self._manifest = manifest
        self._config = config
        self._old, self._new, self._ops = old, new, ops
        self._lost: Mask = np.zeros(manifest.row_count, dtype=np.bool_)
        self._kept: list[DataFileRef] = []
        self._ranks = itertools.count()

    def run(self) -> Salvaged:
        manifest = self._manifest
        arrays = {
            name: [self._stretch(name, stretch) for stretch in stretches]
            for name, stretches in manifest.arrays.items()
            if name.startswith("ids/")
        }
        ids_unknown = self._lost.copy()
        arrays |= {
            name: [self._stretch(name, stretch) for stretch in stretches]
            for name, stretches in manifest.arrays.items()
            if name not in arrays
        }
        versions = self._fixed(manifest.versions, 8, 1)
        payloads = list(self._payload_groups())
        live, was_live = self._live()
        graphs = {} if self._lost.any() else self._graphs()
        lost = self._lost & was_live
        repaired = msgspec.structs.replace(
            manifest, arrays=arrays, versions=versions, live=live, payloads=payloads, graphs=graphs
        )
        return Salvaged(repaired, self._kept, lost, lost & ids_unknown)

    def _stretch(self, name: str, stretch: Stretch) -> Stretch:
        content, gaps = self._read(stretch.file)
        if content is None:
            return stretch
        item_bytes = stretch.file.content_bytes // (stretch.end - stretch.begin)
        for begin, end in gaps:
            first = stretch.begin + begin // item_bytes
            last = stretch.begin + -(-end // item_bytes)
            if self._holds_elements(name):
                self._lose_elements(name.rpartition("/")[0], first, last)
            else:
                self._lost[first:last] = True
        return msgspec.structs.replace(stretch, file=self._write(content))

    def _holds_elements(self, name: str) -> bool:
        """Whether an array has elements that rows point to, rather than one for each row."""
        kind, _, rest = name.partition("/")
        vector_name, _, what = rest.rpartition("/")
        is_sparse_part = vector_name in self._config.sparse_vectors and what in (
            "indices",
            "values",
        )
        return kind == "vectors" and (what == "inner" or is_sparse_part)

    def _lose_elements(self, prefix: str, begin: int, end: int) -> None:
        firsts, counts = self._whole(f"{prefix}/first"), self._whole(f"{prefix}/count")
        self._lost |= (counts > 0) & (firsts < end) & (firsts + counts > begin)

    def _whole(self, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """An array of int64, with zeros where it is damaged: those rows are lost anyway."""
        parts = [
            np.frombuffer(read_undamaged(self._old, stretch.file)[0], dtype="<i8")
            for stretch in self._manifest.arrays[name]
        ]
        return np.concatenate([*parts, np.zeros(0, dtype="<i8")]).astype(np.int64)

    def _fixed(self, ref: DataFileRef, item_bytes: int, rows_per_item: int) -> DataFileRef:
        content, gaps = self._read(ref)
        for begin, end in gaps:
            rows = slice(begin // item_bytes * rows_per_item, -(-end // item_bytes) * rows_per_item)
            self._lost[rows] = True
        return ref if content is None else self._write(content)

    def _live(self) -> tuple[DataFileRef, Mask]:
        """The live rows without the lost ones; and those that were live, or may have been."""
        row_count = self._manifest.row_count
        content, gaps = read_undamaged(self._old, self._manifest.live)
        bits = np.frombuffer(content, dtype=np.uint8)
        live = np.unpackbits(bits, count=row_count, bitorder="little").astype(np.bool_)
        was_live = live.copy()
        for begin, end in gaps:
            self._lost[8 * begin : 8 * end] = True
            was_live[8 * begin : 8 * end] = True
        if not self._lost.any() and not find_damage(self._old, self._manifest.live):
            self._kept.append(self._manifest.live)
            return self._manifest.live, was_live
        kept = np.packbits(live & ~self._lost, bitorder="little")
        return self._write(kept.tobytes()), was_live

    def _payload_groups(self) -> Iterator[PayloadGroup]:
        begin = 0
        for group in self._manifest.payloads:
            rows = slice(begin, begin + group.row_count)
            content, gaps = self._read(group.file)
            begin += group.row_count
            if content is None:
                yield group
                continue
            bounds_bytes = 8 * (group.row_count + 1)
            bounds = np.frombuffer(content, dtype="<u8", count=group.row_count + 1)
            starts, ends = bounds[:-1] + bounds_bytes, bounds[1:] + bounds_bytes
            lost = np.zeros(group.row_count, dtype=np.bool_)
            for gap_begin, gap_end in gaps:
                lost |= (starts < gap_end) & (ends > gap_begin)
            if gaps and gaps[0][0] < bounds_bytes:
                lost[:] = True
            self._lost[rows] |= lost
            payloads = [
                EMPTY_PAYLOAD if is_lost else bytes(content[start:end])
                for is_lost, start, end in zip(
                    lost.tolist(), starts.tolist(), ends.tolist(), strict=True
                )
            ]
            new_bounds = np.zeros(group.row_count + 1, dtype="<u8")
            np.cumsum([len(payload) for payload in payloads], out=new_bounds[1:])
            file = self._write(new_bounds.tobytes() + b"".join(payloads))
            yield PayloadGroup(group.row_count, file)

    def _graphs(self) -> dict[str, list[DataFileRef]]:
        """The graphs of each name whose files are all whole; others are made anew."""
        whole = {
            name: refs
            for name, refs in self._manifest.graphs.items()
            if not any(find_damage(self._old, ref) for ref in refs)
        }
        for refs in whole.values():
            self._kept.extend(refs)
        return whole

    def _read(self, ref: DataFileRef) -> tuple[bytearray | None, _Gaps]:
        """What is left of a file, to be written anew; None if it is whole, and stays."""
        if not find_damage(self._old, ref):
            self._kept.append(ref)
            return None, []
        return read_undamaged(self._old, ref)

    def _write(self, content: bytes | bytearray) -> DataFileRef:
        name = f"{self._manifest.generation:010d}-{next(self._ranks):06d}-repaired.data"
        return write_data_file(self._new, name, [content], self._ops)
