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
from headrace.engine.vector_index.graph import Graph, NodeKind, options_of
from headrace.engine.vector_index.quantizers import code_dim_of
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vector_index.settings import GraphOptions, Placement
from headrace.engine.vectors.untyped_faiss import faiss
from headrace.model.errors import CorruptFile
from headrace.model.vectors import Rows

_MAGIC = b"HRGRAPH2"
_HEADER = struct.Struct("<8sIIQQQQQQdQ")

# The first version did not say what a graph was made with.
_MAGIC_1 = b"HRGRAPH1"
_HEADER_1 = struct.Struct("<8sIIQQQQQQd")

_NODE_KINDS = (
    NodeKind.EUCLID_CODES,
    NodeKind.DOT_CODES,
    NodeKind.FLOATS,
    NodeKind.QUANTISED,
)


_FAISS_CLASSES = {
    NodeKind.EUCLID_CODES: "IndexHNSWSQ",
    NodeKind.DOT_CODES: "IndexHNSWSQ",
    NodeKind.FLOATS: "IndexHNSWFlat",
    NodeKind.QUANTISED: "IndexHNSW",
}


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
    options_bytes: int = -1

    @property
    def header_bytes(self) -> int:
        """The length of the header itself."""
        return (_HEADER if self.options_bytes >= 0 else _HEADER_1).size

    @property
    def content_bytes(self) -> int:
        """The length of a content with these numbers."""
        listed = 8 * (self.listed_rows + self.loose_rows)
        options = max(self.options_bytes, 0)
        return self.header_bytes + listed + 4 * self.dim + options + self.graph_bytes


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
    middle, step, kind, options = np.zeros(dim, dtype=np.float32), 1.0, NodeKind.FLOATS, b""
    if graph is not None:
        faiss.write_index(graph.index, written)
        middle, step, kind = graph.codes.middle, graph.codes.step, graph.kind
        options = msgspec.json.encode(graph.options)
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
        options_bytes=len(options),
    )
    parts: list[ReadableBuffer] = [
        _HEADER.pack(_MAGIC, *msgspec.structs.astuple(header)),
        _bytes_of(sealed.graph_rows[: header.listed_rows], "<i8"),
        _bytes_of(sealed.loose_rows, "<i8"),
        _bytes_of(middle, "<f4"),
        options,
    ]
    if header.graph_bytes:
        # A view of the writer's memory: `written` lives until the file is written.
        parts.append(faiss.rev_swig_ptr(written.data.data(), header.graph_bytes).data)
    return write_data_file(directory, name, parts, ops)


def open_graph_file(
    directory: Path,
    ref: DataFileRef,
    dim: int,
    row_count: int,
    placement: Placement = Placement.CACHED,
) -> SealedRange:
    """The sealed range of a file, after all its blocks were verified.

    Args:
        directory: where it is.
        ref: what `write_graph_file` returned.
        dim: components of the vectors.
        row_count: rows that are stored; the range may not go beyond.
        placement: whether the graph is copied into memory, stays mapped, or stays mapped
            with no memory taken by having verified it.

    Raises:
        CorruptFile: it is not the file that was written, or not one of such vectors.
        StorageFailed: the system cannot read it.
    """
    content = map_data_file(directory, ref, placement is Placement.COLD)
    path = directory / ref.name
    header = _read_header(path, content, dim)
    if header.row_end > row_count:
        raise CorruptFile(str(path), 24, f"rows below {row_count}", f"{header.row_end}")
    begin = header.header_bytes
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
        options = None
        if header.options_bytes >= 0:
            options = _read_options(path, content[begin : begin + header.options_bytes], begin)
            begin += header.options_bytes
        graph = _read_graph(path, content[begin:], begin, header, codes, options)
        if placement is Placement.PINNED:
            graph = Graph(graph.copied_index(), graph.kind, codes, graph.options)
    return SealedRange(header.row_begin, header.row_end, graph_rows, loose_rows, graph)


def _read_header(path: Path, content: memoryview, dim: int) -> _Header:
    if len(content) < _HEADER.size:
        raise CorruptFile(str(path), 0, f"{_HEADER.size} bytes or more", f"{len(content)}")
    is_old = content[: len(_MAGIC_1)] == _MAGIC_1
    magic, *numbers = (_HEADER_1 if is_old else _HEADER).unpack_from(content)
    if magic not in (_MAGIC, _MAGIC_1):
        raise CorruptFile(str(path), 0, repr(_MAGIC), repr(magic))
    if not is_old and numbers[-1] >= 2**63:
        raise CorruptFile(str(path), 72, "a length", f"{numbers[-1]}")
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


def _read_options(path: Path, stored: memoryview, byte_offset: int) -> GraphOptions:
    try:
        return msgspec.json.decode(stored, type=GraphOptions)
    except msgspec.MsgspecError as error:
        raise CorruptFile(str(path), byte_offset, "the options of a graph", str(error)) from error


def _read_graph(
    path: Path,
    stored: memoryview,
    byte_offset: int,
    header: _Header,
    codes: ByteCodes,
    options: GraphOptions | None,
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
    if kind is NodeKind.QUANTISED and options is not None and options.quantization is not None:
        node_dim = code_dim_of(options.quantization, header.dim)
    expected = f"{_FAISS_CLASSES[kind]} of {header.graph_rows} x {node_dim}"
    if found != expected:
        raise CorruptFile(str(path), byte_offset, expected, found)
    return Graph(index, kind, codes, options or options_of(index), keep_alive=memory)


def _bytes_of(values: NDArray[Any], dtype: str) -> memoryview:
    return np.ascontiguousarray(values, dtype=dtype).data.cast("B")


def _array(content: memoryview, byte_offset: int, count: int, dtype: str) -> NDArray[Any]:
    return np.frombuffer(content, dtype=dtype, count=count, offset=byte_offset)
