"""How are payloads kept while readers read and a writer changes them?

As JSON bytes, by row, in a table of small chunks. A published table never changes for
the rows it covers: the writer copies the chunks it changes, once per publication. So a
reader's table is a snapshot, and a change of one payload costs a copy of one chunk of
references.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headrace.engine.payload.chunk import CHUNK_ROWS, PackedChunk, PayloadChunk, packed
from headrace.model.operations import EMPTY_PAYLOAD, PayloadJson

PayloadTable = list[PayloadChunk]


class PayloadStore:
    """The payloads of all rows; one writer.

    Attributes:
        bytes_max: no payload is larger; one that was may be gone.
    """

    def __init__(self) -> None:
        self.bytes_max = len(EMPTY_PAYLOAD)
        self._table: PayloadTable = []
        self._row_count = 0
        self._owned_chunks: set[int] = set()
        self._growing_chunk: list[PayloadJson] = []
        self._owns_table = True

    def append(self, payloads: Sequence[PayloadJson]) -> None:
        """Give the next rows these payloads."""
        self.bytes_max = max(self.bytes_max, max(map(len, payloads), default=0))
        position = 0
        while position < len(payloads):
            within = self._row_count % CHUNK_ROWS
            if within == 0:
                self._growing_chunk = []
                self._own_table().append(self._growing_chunk)
                self._owned_chunks.add(len(self._table) - 1)
            taken = payloads[position : position + CHUNK_ROWS - within]
            # Rows beyond a reader's row count: appending in place changes nothing it sees.
            self._growing_chunk.extend(map(_trimmed, taken))
            self._row_count += len(taken)
            position += len(taken)
            if self._row_count % CHUNK_ROWS == 0:
                self._own_table()[-1] = packed(self._growing_chunk)
                self._owned_chunks.discard(len(self._table) - 1)

    def replace(self, rows: Iterable[int], payloads: Sequence[PayloadJson]) -> None:
        """Change the payloads of some rows; tables taken by `snapshot` keep the old ones."""
        self.bytes_max = max(self.bytes_max, max(map(len, payloads), default=0))
        number, chunk = -1, self._growing_chunk
        for row, payload in zip(rows, map(_trimmed, payloads), strict=True):
            if row // CHUNK_ROWS != number:
                number = row // CHUNK_ROWS
                chunk = self._own_chunk(number)
            chunk[row % CHUNK_ROWS] = payload

    def get_many(self, rows: Iterable[int]) -> list[PayloadJson]:
        """The payloads of some rows as the writer sees them."""
        return payloads_at(self._table, rows)

    def snapshot(self) -> PayloadTable:
        """The table of now; later changes go to copies."""
        self._owned_chunks.clear()
        self._owns_table = False
        return self._table

    def restore(self, table: PayloadTable, row_count: int) -> None:
        """Go back to a snapshot; the rows behind it, up to `row_count`, have some payload."""
        self._table = table.copy()
        self._owns_table = True
        self._owned_chunks.clear()
        self._row_count = sum(len(chunk) for chunk in self._table)
        self._own_growing_chunk()
        self.append([EMPTY_PAYLOAD] * (row_count - self._row_count))

    def load(self, table: PayloadTable) -> None:
        """Take stored payloads, as an empty store."""
        self._table = table
        self._owns_table = True
        self._row_count = sum(len(chunk) for chunk in table)
        self.bytes_max = max(map(_bytes_max, table), default=self.bytes_max)
        self._own_growing_chunk()

    def _own_growing_chunk(self) -> None:
        """Make the last chunk, unless it is full, one that can be appended to."""
        if self._row_count % CHUNK_ROWS:
            self._owned_chunks.discard(len(self._table) - 1)
            self._own_chunk(len(self._table) - 1)

    def _own_chunk(self, number: int) -> list[PayloadJson]:
        """The chunk as one that no snapshot shares."""
        chunk = self._table[number]
        if number in self._owned_chunks:
            assert isinstance(chunk, list)
            return chunk
        owned = list(chunk)
        self._own_table()[number] = owned
        self._owned_chunks.add(number)
        if number == len(self._table) - 1:
            self._growing_chunk = owned
        return owned

    def _own_table(self) -> PayloadTable:
        if not self._owns_table:
            self._table = self._table.copy()
            self._owns_table = True
        return self._table


def _bytes_max(chunk: PayloadChunk) -> int:
    if isinstance(chunk, PackedChunk):
        return chunk.bytes_max()
    return max(map(len, chunk), default=0)


def _trimmed(payload: PayloadJson) -> PayloadJson:
    """A copy of just the payload's length: orjson leaves kilobytes of room behind its bytes."""
    return bytes(memoryview(payload))


def payload_at(table: PayloadTable, row: int) -> PayloadJson:
    """The payload of one row in a table."""
    return table[row // CHUNK_ROWS][row % CHUNK_ROWS]


def payloads_at(table: PayloadTable, rows: Iterable[int]) -> list[PayloadJson]:
    """The payloads of many rows in a table."""
    return [table[row // CHUNK_ROWS][row % CHUNK_ROWS] for row in rows]
