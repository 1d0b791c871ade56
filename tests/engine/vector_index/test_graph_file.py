"""What is read back is what was written, or it is an error that names the place."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from headrace.engine.storage.data_file import DataFileRef, write_data_file
from headrace.engine.vector_index.graph import extended, new_graph
from headrace.engine.vector_index.graph_file import open_graph_file, write_graph_file
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vector_index.settings import IndexSettings
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.distances import similarities, top_k
from headrace.engine.vectors.row_set import RowSet
from headrace.model.errors import CorruptFile
from headrace.model.vectors import Distance, FloatMatrix, FloatVector, Rows

DIM = 12
ROW_COUNT = 5000
SETTINGS = IndexSettings(m=4, ef_construct=40, full_scan_kb=0)


def vectors_of(count: int) -> FloatMatrix:
    drawn = np.random.default_rng(11).standard_normal((count, DIM)).astype(np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float32)


def built(vectors: FloatMatrix, distance: Distance, row_begin: int, gaps: bool) -> SealedRange:
    empty = new_graph(vectors, distance, SETTINGS)
    graph = extended(
        empty,
        len(vectors),
        lambda begin, end: vectors[begin:end],
        lambda: 1,
        lambda: False,
        lambda linked: None,
    )
    rows = row_begin + np.arange(len(vectors)) * (2 if gaps else 1)
    loose = rows[:3] + 1 if gaps else rows[:0]
    row_end = row_begin + len(vectors) * (2 if gaps else 1)
    return SealedRange(row_begin, row_end, rows, loose, graph)


def answers(sealed: SealedRange, vectors: FloatMatrix, distance: Distance) -> list[list[int]]:
    by_row = np.zeros((sealed.row_end, DIM), dtype=np.float32)
    by_row[sealed.graph_rows] = vectors
    allowed = RowSet.all(sealed.row_end)

    def nearest_among(query: FloatVector, rows: Rows, k: int) -> Candidates:
        scored = similarities(query, by_row[rows], distance)
        best = top_k(scored, k)
        return Candidates(rows[best], scored[best])

    return [
        sealed.nearest(query, allowed, 5, SETTINGS, nearest_among).rows.tolist()
        for query in vectors[:20]
    ]


@pytest.mark.parametrize("distance", list(Distance))
@pytest.mark.parametrize("gaps", [False, True])
def test_range_answers_the_same_after_it_was_stored(
    tmp_path: Path, distance: Distance, gaps: bool
) -> None:
    vectors = vectors_of(2000)
    sealed = built(vectors, distance, 100, gaps)
    ref = write_graph_file(tmp_path, "range", sealed, DIM)
    again = open_graph_file(tmp_path, ref, DIM, ROW_COUNT)
    assert (again.row_begin, again.row_end) == (sealed.row_begin, sealed.row_end)
    assert again.graph_rows.tolist() == sealed.graph_rows.tolist()
    assert again.loose_rows.tolist() == sealed.loose_rows.tolist()
    assert answers(again, vectors, distance) == answers(sealed, vectors, distance)


def test_mapped_graph_can_be_extended(tmp_path: Path) -> None:
    vectors = vectors_of(600)
    ref = write_graph_file(tmp_path, "range", built(vectors, Distance.COSINE, 0, False), DIM)
    stored = open_graph_file(tmp_path, ref, DIM, ROW_COUNT).graph
    assert stored is not None
    more = extended(
        stored,
        100,
        lambda begin, end: vectors[begin:end],
        lambda: 1,
        lambda: False,
        lambda linked: None,
    )
    assert (stored.node_count, more.node_count) == (600, 700)
    assert more.index.hnsw.efConstruction == stored.index.hnsw.efConstruction


def test_files_of_the_first_version_are_read(tmp_path: Path) -> None:
    vectors = vectors_of(600)
    sealed = built(vectors, Distance.COSINE, 0, True)
    ref = write_graph_file(tmp_path, "range", sealed, DIM)
    content = (tmp_path / ref.name).read_bytes()[4096 : 4096 + ref.content_bytes]
    options_begin = 80 + 8 * (600 + 3) + 4 * DIM
    (options_bytes,) = struct.unpack("<Q", content[72:80])
    old = b"HRGRAPH1" + content[8:72] + content[80:options_begin]
    old += content[options_begin + options_bytes :]
    again = open_graph_file(tmp_path, write_data_file(tmp_path, "old", [old]), DIM, ROW_COUNT)
    assert again.graph is not None
    assert again.graph.options == SETTINGS.graph_options
    assert answers(again, vectors, Distance.COSINE) == answers(sealed, vectors, Distance.COSINE)


def test_range_without_a_graph_is_stored_too(tmp_path: Path) -> None:
    none = np.empty(0, dtype=np.int64)
    ref = write_graph_file(tmp_path, "range", SealedRange(5, 9, none, none, None), DIM)
    again = open_graph_file(tmp_path, ref, DIM, ROW_COUNT)
    assert (again.row_begin, again.row_end, again.vector_count) == (5, 9, 0)


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    ref = write_graph_file(tmp_path, "range", built(vectors_of(300), Distance.EUCLID, 0, True), DIM)
    path = tmp_path / ref.name
    whole = path.read_bytes()
    rng = np.random.default_rng(2)
    places = {*range(64), *range(4096, 4096 + 64), len(whole) - 1}
    places |= set(rng.integers(0, len(whole), 200).tolist())
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(CorruptFile):
            open_graph_file(tmp_path, ref, DIM, ROW_COUNT)


@pytest.mark.parametrize("kept", [0, 63, 4096, 5000])
def test_cut_file_is_detected(tmp_path: Path, kept: int) -> None:
    ref = write_graph_file(tmp_path, "range", built(vectors_of(300), Distance.EUCLID, 0, True), DIM)
    path = tmp_path / ref.name
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CorruptFile):
        open_graph_file(tmp_path, ref, DIM, ROW_COUNT)


def test_file_of_other_vectors_is_refused(tmp_path: Path) -> None:
    ref = write_graph_file(tmp_path, "range", built(vectors_of(50), Distance.DOT, 0, False), DIM)
    with pytest.raises(CorruptFile):
        open_graph_file(tmp_path, ref, DIM + 1, ROW_COUNT)


def content_with(field: int, value: int, content: bytes) -> bytes:
    """The content with another u64 at this place, as a faulty writer would have made it."""
    return content[:field] + struct.pack("<Q", value) + content[field + 8 :]


@pytest.mark.parametrize("field", [16, 24, 32, 40, 48, 56, 72])
@pytest.mark.parametrize("value", [0, 1, 2**40, 2**63 - 1, 2**64 - 1])
def test_lengths_are_not_trusted_even_under_good_checksums(
    tmp_path: Path, field: int, value: int
) -> None:
    ref = write_graph_file(tmp_path, "range", built(vectors_of(300), Distance.EUCLID, 4, True), DIM)
    whole = (tmp_path / ref.name).read_bytes()
    content = whole[4096 : 4096 + ref.content_bytes]
    other = write_data_file(tmp_path, "other", [content_with(field, value, content)])
    assert isinstance(other, DataFileRef)
    if (field, value) in {(16, 0), (16, 1)}:
        assert open_graph_file(tmp_path, other, DIM, ROW_COUNT).row_begin == value
        return
    with pytest.raises(CorruptFile):
        open_graph_file(tmp_path, other, DIM, ROW_COUNT)
