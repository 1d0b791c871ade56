"""How do payloads get into files, and back without being read?

Chunks of the payload table are stored in groups. A group's file holds where each payload
begins and then all of them; a mapped group gives payloads out of the file when they are
asked for, so opening a collection copies none. Most are asked for rarely: whoever has read
all of them, to verify or to index them, gives their memory back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.engine.payload.chunk import CHUNK_ROWS, PackedChunk, PayloadChunk, packed
from headrace.engine.payload.store import PayloadTable
from headrace.engine.storage.mapped_memory import drop_pages

GROUP_CHUNKS = 64
GROUP_ROWS = GROUP_CHUNKS * CHUNK_ROWS


class GroupState(NamedTuple):
    """What was stored of a group: the chunks themselves, to see whether they were replaced."""

    chunks: list[PayloadChunk]
    lengths: list[int]

    def is_unchanged(self, now: GroupState) -> bool:
        """Whether the group still holds the very same payloads."""
        same_chunks = all(a is b for a, b in zip(self.chunks, now.chunks, strict=False))
        return same_chunks and self.lengths == now.lengths


def group_states(table: PayloadTable, row_count: int) -> list[GroupState]:
    """The groups of a table, as far as `row_count` reaches."""
    groups = []
    for first in range(0, -(-row_count // CHUNK_ROWS), GROUP_CHUNKS):
        chunks = table[first : first + GROUP_CHUNKS]
        begins = range(first * CHUNK_ROWS, row_count, CHUNK_ROWS)
        lengths = [min(CHUNK_ROWS, row_count - begin) for begin in begins[:GROUP_CHUNKS]]
        groups.append(GroupState(list(chunks[: len(lengths)]), lengths))
    return groups


def encode_group(group: GroupState) -> list[bytes]:
    """The parts of a group's file: uint64 bounds, one more than payloads; the payloads."""
    payloads = [
        payload
        for chunk, length in zip(group.chunks, group.lengths, strict=True)
        for payload in chunk[:length]
    ]
    bounds = np.zeros(len(payloads) + 1, dtype="<u8")
    np.cumsum([len(payload) for payload in payloads], out=bounds[1:])
    return [bounds.tobytes(), b"".join(payloads)]


def mapped_chunks(content: memoryview, row_count: int) -> list[PackedChunk]:
    """The chunks of a group's file.

    Args:
        content: the file's content, verified.
        row_count: how many payloads it holds.
    """
    # Copied: what was verified must hold as long as memory is read by it.
    bounds = np.frombuffer(content, dtype="<u8", count=row_count + 1).astype(np.int64)
    payloads = content[8 * (row_count + 1) :]
    return [
        PackedChunk(bounds[begin : min(begin + CHUNK_ROWS, row_count) + 1], payloads, content)
        for begin in range(0, row_count, CHUNK_ROWS)
    ]


def move_into_file(group: GroupState, content: memoryview) -> None:
    """Have the packed payloads of a group lie in its file, for all who hold its chunks.

    Args:
        group: as it was written.
        content: of the file, verified.
    """
    for chunk, copy in zip(group.chunks, mapped_chunks(content, sum(group.lengths)), strict=True):
        if isinstance(chunk, PackedChunk) and len(chunk) == len(copy):
            chunk.move_to(copy)
    drop_pages(content, 0, len(content))


def move_out_of_file(group: GroupState, content: memoryview) -> None:
    """Have a few chunks that were left in a replaced file not hold all of it.

    A removed file keeps its room on the disk while it is mapped. What is left in it are chunks
    of which payloads changed since, held by views and by runs of the payload index. If they
    are most of the file, it stays: it is then no more than twice what is needed of it.

    Args:
        group: as it was written to the file.
        content: of the file.
    """
    left = [one for one in group.chunks if isinstance(one, PackedChunk) and one.file is content]
    if 2 * len(left) <= len(group.chunks):
        for chunk in left:
            chunk.move_to(packed(chunk[:]))


def drop_mapped_pages(chunks: Sequence[PayloadChunk]) -> None:
    """Give the memory back that mapped payloads took by having been read.

    Args:
        chunks: consecutive ones of a table. All pages of their files are dropped, since the
            system takes pages around those that are read.
    """
    dropped = None
    for chunk in chunks:
        file = chunk.file if isinstance(chunk, PackedChunk) else None
        if file is not None and file is not dropped:
            drop_pages(file, 0, len(file))
            dropped = file
