"""Rows without a graph are found by their codes as by a scan of their vectors."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.vector_index import graph as graph_module
from headrace.engine.vector_index import tail_codes
from headrace.engine.vector_index.codes import OUTSIDE_SHARE, ByteCodes
from headrace.engine.vector_index.tail_codes import ByteScan, TailCodes, tail_candidates
from headrace.engine.vectors.arrays import BlockMatrix
from headrace.model.vectors import FloatMatrix, FloatVector, Mask, Rows

pytestmark = pytest.mark.skipif(graph_module.ByteWalk is None, reason="built without a C compiler")

DIM = 20
BEGIN = 5000


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a matter of tens of thousands of rows is one of hundreds."""
    monkeypatch.setattr(tail_codes, "_CHUNK_ROWS", 256)
    monkeypatch.setattr(tail_codes, "_ENCODED_ROWS_MAX", 10_000)


def drawn(count: int, seed: int, dim: int = DIM) -> FloatMatrix:
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)


def stored(values: FloatMatrix, begin: int = BEGIN) -> BlockMatrix:
    matrix = BlockMatrix(values.shape[1], begin)
    matrix.reserve(begin + len(values))
    matrix.write(np.arange(begin, begin + len(values)), values)
    return matrix


def scan_of(box: ByteCodes) -> ByteScan:
    return ByteScan(box.code_dim, box.offset, float(box.steps_per_unit), OUTSIDE_SHARE)


def named(
    codes: TailCodes,
    query: FloatVector,
    k: int,
    allowed: Mask,
    vectors: BlockMatrix,
    begin: int = BEGIN,
) -> tuple[Rows, int] | None:
    present = np.ones(begin + len(allowed), dtype=np.bool_)
    return codes.candidates(query, 4 * k + 40, k, begin, allowed, present, vectors)


def nearest(query: FloatVector, values: FloatMatrix, allowed: Mask, k: int) -> Rows:
    distances = ((values - query) ** 2).sum(axis=1)
    distances[~allowed] = np.inf
    order = np.argsort(distances, kind="stable")[:k]
    return order[allowed[order]] + BEGIN


@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_codes_are_those_that_a_graph_would_have(dim: int, count: int, seed: int) -> None:
    values = drawn(count, seed, dim)
    box = ByteCodes.fit(drawn(200, 1, dim))
    codes = np.full((count, box.code_dim), 7, dtype=np.uint8)
    expressed = np.empty(count, dtype=np.uint8)
    scan_of(box).encode(values, codes, expressed)
    # Half a step may be rounded either way.
    assert np.abs(codes.astype(np.int64) - box.encode(values).astype(np.int64)).max() <= 1
    assert not codes[:, dim:].any()
    assert (expressed == ~box.outside(values)).mean() >= 0.99


@given(st.integers(1, 700), st.integers(1, 50), st.integers(0, 600), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_the_nearest_codes_are_found_across_chunks(
    count: int, k: int, begin: int, seed: int
) -> None:
    begin = min(begin, count - 1)
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (768, 32), dtype=np.uint8)
    query = rng.integers(0, 256, 32, dtype=np.uint8)
    allowed = rng.integers(0, 2, count - begin, dtype=np.uint8)
    # A box whose steps are whole numbers, from 0 to 255.
    box = ByteCodes(np.full(32, 127.5, dtype=np.float32), 1.0)
    places = scan_of(box).nearest_of(
        query.astype(np.float32), k, tuple(codes.reshape(3, 256, 32)), begin, allowed
    )
    truth = ((codes.astype(np.int64) - query) ** 2).sum(axis=1)
    possible = np.flatnonzero(allowed) + begin
    expected = possible[np.lexsort((possible, truth[possible]))][:k]
    assert places is not None
    assert places.tolist() == expected.tolist()


def test_wrong_shapes_are_refused() -> None:
    scan = scan_of(ByteCodes.fit(drawn(50, 1)))
    codes, query = np.zeros((16, 32), dtype=np.uint8), np.zeros(DIM, dtype=np.float32)
    allowed = np.ones(16, dtype=np.uint8)
    found = scan.nearest_of(query, 5, (codes,), 0, allowed)
    assert found is not None
    assert len(found) == 5
    nothing = scan.nearest_of(query, 5, (), 0, allowed[:0])
    assert nothing is not None
    assert len(nothing) == 0
    for chunks, begin, asked in (
        ((codes,), 1, query),
        ((codes,), -1, query),
        ((codes, codes[:8]), 0, query),
        ((np.zeros((16, 16), dtype=np.uint8),), 0, query),
        ((codes,), 0, query[:16]),
    ):
        with pytest.raises(ValueError, match=r"codes|dimension"):
            scan.nearest_of(asked, 5, chunks, begin, allowed)
    expressed = np.zeros(16, dtype=np.uint8)
    for values, out in (
        (drawn(16, 1, 19), codes),
        (drawn(15, 1), codes),
        (drawn(16, 1), codes[:9]),
    ):
        with pytest.raises(ValueError, match=r"codes|dimension"):
            scan.encode(values, out, expressed)


@pytest.mark.parametrize("allowed_share", [1.0, 0.5])
def test_the_nearest_of_a_growing_tail_are_among_the_candidates(allowed_share: float) -> None:
    values = drawn(3000, 2)
    vectors, codes = stored(values), TailCodes(ByteCodes.fit(values), BEGIN)
    rng = np.random.default_rng(3)
    for end in (400, 511, 512, 513, 1000, 900, 3000):
        allowed = rng.random(end) < allowed_share
        for query in drawn(5, end):
            found = named(codes, query, 10, allowed, vectors)
            assert found is not None
            rows, coded_end = found
            assert coded_end == BEGIN + end
            assert (np.diff(rows) > 0).all()
            assert allowed[rows - BEGIN].all()
            assert len(rows) <= 80
            wanted = nearest(query, values[:end], allowed, 10)
            assert np.isin(wanted, rows).all()


def test_full_chunks_get_sketches_and_what_is_nearest_is_still_found() -> None:
    rng = np.random.default_rng(5)
    dim, count = 100, 3000
    centres = rng.standard_normal((20, dim))
    of_rows = centres[rng.integers(0, 20, count)] + 0.5 * rng.standard_normal((count, dim))
    values = of_rows.astype(np.float32)
    values[7::50] = 0
    vectors, codes = stored(values), TailCodes(ByteCodes.fit(values), BEGIN, 1e-7)
    allowed = rng.random(count) < 0.8
    shares = []
    for query in values[1::30]:
        found = named(codes, query, 10, allowed, vectors)
        assert found is not None
        shares.append(np.isin(nearest(query, values, allowed, 10), found[0]).mean())
    assert np.mean(shares) >= 0.99
    sketches = codes._coded.sketches
    assert len(sketches) == count // 256
    assert all(sketches)
    codes.forget_before(BEGIN + 600)
    assert codes._coded.sketches == sketches[2:]


def test_a_search_makes_codes_for_so_many_rows_and_names_where_they_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tail_codes, "_ENCODED_ROWS_MAX", 1000)
    values = drawn(2500, 2)
    vectors, codes = stored(values), TailCodes(ByteCodes.fit(values), BEGIN)
    allowed = np.ones(2500, dtype=np.bool_)
    ends = []
    for _ in range(4):
        found = named(codes, values[0], 10, allowed, vectors)
        assert found is not None
        ends.append(found[1] - BEGIN)
    assert ends == [1000, 2000, 2500, 2500]


def test_vectors_outside_of_the_box_and_without_a_length_are_always_candidates() -> None:
    values = drawn(2000, 2)
    values[100] *= 50
    values[1500] = 0
    box = ByteCodes.fit(np.delete(values, 100, axis=0))
    vectors, codes = stored(values), TailCodes(box, BEGIN, length_squared_min=1e-7)
    allowed = np.ones(2000, dtype=np.bool_)
    for query in drawn(5, 9):
        found = named(codes, query, 1, allowed, vectors)
        assert found is not None
        assert {BEGIN + 100, BEGIN + 1500} <= set(found[0].tolist())
        assert (np.diff(found[0]) > 0).all()
    allowed[100] = False
    found = named(codes, drawn(1, 9)[0], 1, allowed, vectors)
    assert found is not None
    assert BEGIN + 100 not in found[0]


def test_many_vectors_without_a_length_leave_the_others_their_places() -> None:
    # Nothing is as near to a query as 0 is.
    values = drawn(6000, 2, dim=100)
    values /= np.linalg.norm(values, axis=1)[:, None]
    values[::60] = 0
    box = ByteCodes.fit(values)
    vectors, codes = stored(values), TailCodes(box, BEGIN, length_squared_min=1e-7)
    allowed = np.ones(6000, dtype=np.bool_)
    allowed[1::60] = allowed[120::240] = False
    shares = []
    for query in drawn(20, 9, dim=100):
        found = named(codes, query / np.linalg.norm(query), 10, allowed, vectors)
        assert found is not None
        assert set(np.flatnonzero(allowed[::60]) * 60 + BEGIN) <= set(found[0].tolist())
        assert allowed[found[0] - BEGIN].all()
        scores = np.where(allowed, values @ query, -np.inf)
        shares.append(np.isin(np.argsort(-scores)[:10] + BEGIN, found[0]).mean())
    assert np.mean(shares) >= 0.99


def test_codes_give_up_where_they_cannot_tell() -> None:
    values = drawn(2000, 2)
    box = ByteCodes.fit(values)
    allowed = np.ones(2000, dtype=np.bool_)
    # The query is far away.
    away = np.full(DIM, 1000, dtype=np.float32)
    assert named(TailCodes(box, BEGIN), away, 10, allowed, stored(values)) is None
    # The vectors are too near to each other.
    near = values[0] + np.float32(1e-5) * values
    assert named(TailCodes(box, BEGIN), near[0], 10, allowed, stored(near)) is None
    # The vectors are somewhere else.
    far = values * np.float32(100)
    assert named(TailCodes(box, BEGIN), values[0], 10, allowed, stored(far)) is None


@pytest.mark.parametrize("factor", [1e18, 1e30, np.inf, np.nan])
def test_vectors_too_far_away_to_be_compared_are_scored(factor: float) -> None:
    values = drawn(2000, 2)
    values[100:110] *= np.float32(factor)
    box = ByteCodes.fit(drawn(2000, 2))
    codes, allowed = TailCodes(box, BEGIN), np.ones(2000, dtype=np.bool_)
    found = named(codes, values[0], 10, allowed, stored(values))
    assert found is not None
    assert set(range(BEGIN + 100, BEGIN + 110)) <= set(found[0].tolist())
    with np.errstate(all="raise"):
        far = np.full(DIM, factor, dtype=np.float32)
        assert named(codes, far, 10, allowed, stored(values)) is None


def test_a_graph_that_grew_past_the_codes_leaves_nothing_to_make_up_for() -> None:
    values = drawn(30_000, 2)
    vectors, codes = stored(values), TailCodes(ByteCodes.fit(values), BEGIN)
    assert named(codes, values[7], 10, np.ones(1000, dtype=np.bool_), vectors) is not None
    rest = np.ones(3000, dtype=np.bool_)
    found = named(codes, values[27_500], 10, rest, vectors, BEGIN + 27_000)
    assert found is not None
    assert BEGIN + 27_500 in found[0]
    assert found[1] == BEGIN + 30_000


def test_codes_that_do_not_fit_are_not_made_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = drawn(4000, 2)
    vectors, codes = stored(values * np.float32(100)), TailCodes(ByteCodes.fit(values), BEGIN)
    allowed = np.ones(2000, dtype=np.bool_)
    assert named(codes, values[0], 10, allowed, vectors) is None
    made: list[int] = []
    monkeypatch.setattr(TailCodes, "_encode", lambda *_: made.append(1))
    assert named(codes, values[0], 10, np.ones(4000, dtype=np.bool_), vectors) is None
    assert not made


def test_rows_that_have_a_graph_are_forgotten_and_the_rest_is_found() -> None:
    values = drawn(2000, 2)
    vectors, codes = stored(values), TailCodes(ByteCodes.fit(values), BEGIN)
    whole = np.ones(2000, dtype=np.bool_)
    assert named(codes, values[7], 10, whole, vectors) is not None
    codes.forget_before(BEGIN + 700)
    # Somebody who still looks at fewer graphs has to scan.
    assert named(codes, values[7], 10, whole, vectors) is None
    later = whole.copy()
    later[:700] = False
    for query in drawn(5, 8):
        found = named(codes, query, 10, later[700:], vectors, BEGIN + 700)
        assert found is not None
        assert np.isin(nearest(query, values, later, 10), found[0]).all()
    codes.forget_before(BEGIN + 2000)
    codes.forget_before(BEGIN)
    assert named(codes, values[7], 10, whole[:0], vectors, BEGIN + 2000) is None


def test_threads_search_while_rows_come() -> None:
    values = drawn(20_000, 2)
    vectors, codes = stored(values[:1]), TailCodes(ByteCodes.fit(values), BEGIN)
    ends = [1]
    done = threading.Event()

    def search(seed: int) -> int:
        rng = np.random.default_rng(seed)
        searches = 0
        while not done.is_set() or searches < 50:
            end = ends[-1]
            query = drawn(1, int(rng.integers(2**31)))[0]
            allowed = np.ones(end, dtype=np.bool_)
            found = named(codes, query, 5, allowed, vectors)
            if found is None:
                continue
            rows, coded_end = found
            wanted = nearest(query, values[: coded_end - BEGIN], allowed[: coded_end - BEGIN], 5)
            assert np.isin(wanted, rows).all()
            searches += 1
        return searches

    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search, seed) for seed in range(3)]
        for end in range(200, len(values) + 1, 200):
            vectors.reserve(BEGIN + end)
            vectors.write(np.arange(BEGIN + ends[-1], BEGIN + end), values[ends[-1] : end])
            ends.append(end)
        done.set()
        assert all(one.result(60) >= 50 for one in searching)


def test_few_rows_few_allowed_ones_and_long_answers_are_scanned() -> None:
    assert tail_candidates(10_000, 10_000, 10) == 80
    assert tail_candidates(1000, 1000, 10) is None
    assert tail_candidates(1000, 10_000, 10) is None
    assert tail_candidates(10_000, 10_000, 1000) is None
