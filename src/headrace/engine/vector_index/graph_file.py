"""How does a sealed range get into a file, and back without being built again?

The file is a data file (`storage/data_file.py`): checksummed block by block, verified
before anything in it is used, then mapped. FAISS looks at the graph where it lies in the
map. The bytes are described in `docs/formats/vector_index.md`.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.engine.storage.data_file import DataFileRef, map_data_file, write_data_file
from headrace.engine.storage.file_ops import FILE_OPS, FileOps, ReadableBuffer
from headrace.engine.vector_index.codes import ByteCodes
from headrace.engine.vector_index.graph import Graph, NodeKind
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vectors.untyped_faiss import faiss
from headrace.model.errors import CorruptFile
from headrace.model.vectors import Rows

_MAGIC = b"HRGRAPH1"
_HEADER = struct.Struct("<8sIIQQQQQQd")
_NODE_KINDS = (NodeKind.EUCLID_CODES, NodeKind.DOT_CODES, NodeKind.FLOATS)


class _Header(msgspec.Struct, frozen=True):
    """The numbers at the start of the content, in their order behind the magic."""

    kind: int
    dim: int
    row_begin: int
    row_end: int
    graph_rows: int
    listed_rows: int
    loose_rows: int
    graph_bytes: int
    step: float

    @property
    def content_bytes(self) -> int:
        """The length of a content with these numbers."""
        listed = 8 * (self.listed_rows + self.loose_rows)
        return _HEADER.size + listed + 4 * self.dim + self.graph_bytes


def write_graph_file(
    directory: Path, name: str, sealed: SealedRange, dim: int, ops: FileOps = FILE_OPS
) -> DataFileRef:
    """Write a sealed range as a new file; its bytes are durable then, its name is not.

    Args:
        directory: where.
        name: of the file; it must not exist.
        sealed: what is written.
        dim: components of the vectors.
        ops: the operations to use.

    Raises: as `write_data_file`.
    """
    graph = sealed.graph
    written = faiss.VectorIOWriter()
    middle, step, kind = np.zeros(dim, dtype=np.float32), 1.0, NodeKind.FLOATS
    if graph is not None:
        faiss.write_index(graph.index, written)
        middle, step, kind = graph.codes.middle, graph.codes.step, graph.kind
    header = _Header(
        kind=_NODE_KINDS.index(kind),
        dim=dim,
        row_begin=sealed.row_begin,
        row_end=sealed.row_end,
        graph_rows=len(sealed.graph_rows),
        listed_rows=0 if sealed.is_complete else len(sealed.graph_rows),
        loose_rows=len(sealed.loose_rows),
        graph_bytes=int(written.data.size()),
        step=step,
    )
    parts: list[ReadableBuffer] = [
        _HEADER.pack(_MAGIC, *msgspec.structs.astuple(header)),
        _bytes_of(sealed.graph_rows[: header.listed_rows], "<i8"),
        _bytes_of(sealed.loose_rows, "<i8"),
        _bytes_of(middle, "<f4"),
    ]
    if header.graph_bytes:
        # A view of the writer's memory: `written` lives until the file is written.
        parts.append(faiss.rev_swig_ptr(written.data.data(), header.graph_bytes).data)
    return write_data_file(directory, name, parts, ops)


def open_graph_file(directory: Path, ref: DataFileRef, dim: int, row_count: int) -> SealedRange:
    """The sealed range of a file, after all its blocks were verified; the graph stays mapped.

    Args:
        directory: where it is.
        ref: what `write_graph_file` returned.
        dim: components of the vectors.
        row_count: rows that are stored; the range may not go beyond.

    Raises:
        CorruptFile: it is not the file that was written, or not one of such vectors.
        StorageFailed: the system cannot read it.
    """
    content = map_data_file(directory, ref)
    path = directory / ref.name
    header = _read_header(path, content, dim)
    if header.row_end > row_count:
        raise CorruptFile(str(path), 24, f"rows below {row_count}", f"{header.row_end}")
    begin = _HEADER.size
    graph_rows = _array(content, begin, header.listed_rows, "<i8").astype(np.int64)
    begin += 8 * header.listed_rows
    loose_rows = _array(content, begin, header.loose_rows, "<i8").astype(np.int64)
    begin += 8 * header.loose_rows
    middle = _array(content, begin, header.dim, "<f4").astype(np.float32)
    begin += 4 * header.dim
    if header.graph_rows and not header.listed_rows:
        graph_rows = np.arange(header.row_begin, header.row_end, dtype=np.int64)
    _check_rows(path, graph_rows, header.row_begin, header.row_end)
    _check_rows(path, loose_rows, header.row_begin, header.row_end - 1)
    graph = None
    if header.graph_rows:
        codes = ByteCodes(middle, header.step)
        graph = _read_graph(path, content[begin:], begin, header, codes)
    return SealedRange(header.row_begin, header.row_end, graph_rows, loose_rows, graph)


def _read_header(path: Path, content: memoryview, dim: int) -> _Header:
    if len(content) < _HEADER.size:
        raise CorruptFile(str(path), 0, f"{_HEADER.size} bytes or more", f"{len(content)}")
    magic, *numbers = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise CorruptFile(str(path), 0, repr(_MAGIC), repr(magic))
    header = _Header(*numbers)
    if header.dim != dim:
        raise CorruptFile(str(path), 12, f"vectors of {dim} components", f"{header.dim}")
    if header.kind >= len(_NODE_KINDS):
        raise CorruptFile(str(path), 8, f"a kind below {len(_NODE_KINDS)}", f"{header.kind}")
    span = header.row_end - header.row_begin
    is_complete = not header.listed_rows and header.graph_rows == span
    if span < 0 or not (is_complete or header.listed_rows == header.graph_rows):
        raise CorruptFile(str(path), 16, "rows for the nodes of the graph", repr(header))
    if header.content_bytes != len(content):
        expected = f"content of {header.content_bytes} bytes"
        raise CorruptFile(str(path), 32, expected, f"{len(content)}")
    return header


def _check_rows(path: Path, rows: Rows, first: int, last: int) -> None:
    if len(rows) and not (first <= rows[0] and rows[-1] <= last and (np.diff(rows) >= 0).all()):
        raise CorruptFile(str(path), _HEADER.size, "ascending rows of the range", "others")


def _read_graph(
    path: Path, stored: memoryview, byte_offset: int, header: _Header, codes: ByteCodes
) -> Graph:
    """FAISS's index, looking at the map; its own reader checks its structure."""
    kind = _NODE_KINDS[header.kind]
    memory = np.frombuffer(stored, dtype=np.uint8)
    try:
        index = faiss.read_index(faiss.ZeroCopyIOReader(faiss.swig_ptr(memory), len(memory)))
    except RuntimeError as error:
        raise CorruptFile(str(path), byte_offset, "a FAISS index", str(error)) from error
    found = f"{type(index).__name__} of {index.ntotal} x {index.d}"
    node_dim = codes.code_dim if kind is NodeKind.EUCLID_CODES else header.dim
    wanted = faiss.IndexHNSWFlat if kind is NodeKind.FLOATS else faiss.IndexHNSWSQ
    expected = f"{wanted.__name__} of {header.graph_rows} x {node_dim}"
    if found != expected:
        raise CorruptFile(str(path), byte_offset, expected, found)
    return Graph(index, kind, codes, keep_alive=memory)


def _bytes_of(values: NDArray[Any], dtype: str) -> memoryview:
    return np.ascontiguousarray(values, dtype=dtype).data.cast("B")


def _array(content: memoryview, byte_offset: int, count: int, dtype: str) -> NDArray[Any]:
    return np.frombuffer(content, dtype=dtype, count=count, offset=byte_offset)
