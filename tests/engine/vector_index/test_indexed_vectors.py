"""Searches give the same rows however a vector name is cut into ranges and a tail."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.engine.query import explain
from headrace.engine.query.plan import Strategy
from headrace.engine.vector_index import pace, tail_codes, tiers
from headrace.engine.vector_index.builder import IndexBuilder
from headrace.engine.vector_index.indexed_vectors import IndexedVectors
from headrace.engine.vector_index.sealed_range import SealedRange
from headrace.engine.vectors.base import Candidates
from headrace.engine.vectors.row_set import RowSet
from headrace.model.collection_config import CollectionConfig, VectorParams
from headrace.model.queries import SearchParams
from headrace.model.vectors import DenseBatch, Distance, FloatMatrix, FloatVector, Mask, Rows

DIM = 24
ROWS_MIN = 500
EXACT = SearchParams(exact=True)


@pytest.fixture
def builder() -> Iterator[IndexBuilder]:
    made = IndexBuilder()
    yield made
    made.close()


def clustered(count: int, seed: int, dim: int = DIM) -> FloatMatrix:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(7).standard_normal((20, dim)) * 2
    drawn = centres[rng.integers(0, 20, count)] + rng.standard_normal((count, dim))
    return drawn.astype(np.float32)


def unit(vectors: FloatMatrix) -> FloatMatrix:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


class Writer:
    """A store with the live rows that a segment would publish."""

    def __init__(
        self, builder: IndexBuilder, distance: Distance, rows_min: int | None = ROWS_MIN
    ) -> None:
        threshold_kb = 0 if rows_min is None else rows_min * 4 * DIM // 1024 + 1
        config = CollectionConfig(
            optimizers_config={"indexing_threshold": threshold_kb},
            hnsw_config={"max_indexing_threads": 1},
        )
        self.distance = distance
        self.builder = builder
        self.store = IndexedVectors(VectorParams(DIM, distance), config, builder)
        self.live: Mask = np.empty(0, dtype=np.bool_)

    def append(self, vectors: FloatMatrix, absent_every: int = 0) -> None:
        if self.distance is Distance.COSINE:
            vectors = unit(vectors)
        rows = np.arange(len(self.live), len(self.live) + len(vectors))
        kept = np.ones(len(rows), dtype=np.bool_)
        if absent_every:
            kept[::absent_every] = False
        positions = np.flatnonzero(kept)
        self.store.write(rows[kept], DenseBatch(positions, vectors[kept]))
        self._publish(np.concatenate((self.live, np.ones(len(rows), dtype=np.bool_))))

    def delete(self, rows: Rows) -> None:
        live = self.live.copy()
        live[rows] = False
        self._publish(live)

    def finish(self) -> None:
        assert self.builder.wait_until_idle(60)
        assert self.store.build_error is None

    def _publish(self, live: Mask) -> None:
        self.live = live
        self.store.published(live)


def recall(found: Candidates, truth: Candidates) -> float:
    return float(np.isin(truth.rows, found.rows).mean())


def queries(distance: Distance, count: int = 20) -> FloatMatrix:
    drawn = clustered(count, seed=99)
    return unit(drawn) if distance is Distance.COSINE else drawn


def mean_recall(writer: Writer, allowed: Mask, k: int = 10) -> float:
    return float(
        np.mean(
            [
                recall(
                    writer.store.nearest(query, allowed, k),
                    writer.store.nearest(query, allowed, k, EXACT),
                )
                for query in queries(writer.distance)
            ]
        )
    )


@pytest.mark.parametrize("distance", list(Distance))
def test_graph_finds_nearly_all_of_the_nearest(builder: IndexBuilder, distance: Distance) -> None:
    writer = Writer(builder, distance)
    writer.append(clustered(3000, seed=1))
    writer.finish()
    assert len(writer.store.ranges) == 1
    assert writer.store.ranges[0].graph is not None
    assert mean_recall(writer, writer.live) >= 0.98


@pytest.mark.parametrize("distance", list(Distance))
def test_similarities_are_those_of_the_original_vectors(
    builder: IndexBuilder, distance: Distance
) -> None:
    writer = Writer(builder, distance)
    writer.append(clustered(2000, seed=1))
    writer.finish()
    query = queries(distance)[0]
    found = writer.store.nearest(query, writer.live, 10)
    order = np.argsort(found.rows)
    expected = writer.store.similarities(query, found.rows[order])
    np.testing.assert_allclose(found.similarities[order], expected, rtol=1e-6)
    assert (np.diff(found.similarities) <= 0).all()


@pytest.mark.parametrize("distance", list(Distance))
@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0])
def test_mask_is_obeyed_at_every_selectivity(
    builder: IndexBuilder, distance: Distance, share: float
) -> None:
    writer = Writer(builder, distance)
    writer.append(clustered(3000, seed=1))
    writer.finish()
    allowed = np.random.default_rng(3).random(3000) < share
    for query in queries(distance, 5):
        found = writer.store.nearest(query, allowed, 10)
        assert allowed[found.rows].all()
        assert len(found.rows) == min(10, np.count_nonzero(allowed))
        assert len(np.unique(found.rows)) == len(found.rows)
        listed = RowSet.of_rows(np.flatnonzero(allowed), len(allowed))
        assert writer.store.nearest(query, listed, 10).rows.tolist() == found.rows.tolist()
    if allowed.any():
        assert mean_recall(writer, allowed) >= 0.97


def test_filter_far_away_from_the_query_still_finds_all(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    near, far = clustered(3000, seed=1), clustered(2000, seed=2) + np.float32(12)
    writer.append(np.concatenate((near, far)))
    writer.finish()
    allowed = np.arange(5000) >= 3000
    assert mean_recall(writer, allowed) >= 0.99


def test_query_far_outside_of_the_vectors_is_answered_exactly(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    writer.append(clustered(2000, seed=1))
    writer.finish()
    query = np.full(DIM, 1000, dtype=np.float32)
    query[::2] = -400
    found = writer.store.nearest(query, writer.live, 10)
    truth = writer.store.nearest(query, writer.live, 10, EXACT)
    assert found.rows.tolist() == truth.rows.tolist()


def test_deleted_rows_are_never_found(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(2000, seed=1))
    writer.finish()
    query = queries(Distance.COSINE)[0]
    for _ in range(5):
        found = writer.store.nearest(query, writer.live, 20)
        writer.delete(found.rows)
        again = writer.store.nearest(query, writer.live, 20)
        assert not np.isin(again.rows, found.rows).any()
        assert len(again.rows) == 20


def test_range_that_is_mostly_dead_is_made_anew_and_right_meanwhile(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(2000, seed=1))
    writer.finish()
    worn = writer.store.ranges[0]
    writer.delete(np.flatnonzero(np.random.default_rng(5).random(2000) < 0.95))
    allowed = writer.live
    found = worn.nearest(
        queries(Distance.COSINE)[0],
        RowSet.of_mask(allowed),
        10,
        writer.store.settings,
        writer.store.nearest_among,
    )
    truth = writer.store.nearest(queries(Distance.COSINE)[0], allowed, 10, EXACT)
    assert found.rows.tolist() == truth.rows.tolist()
    writer.finish()
    assert writer.store.ranges[0].vector_count == np.count_nonzero(allowed)
    assert mean_recall(writer, allowed) == 1.0


def test_range_without_a_live_row_finds_nothing(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(1000, seed=1))
    writer.finish()
    writer.delete(np.arange(1000))
    writer.finish()
    assert len(writer.store.nearest(queries(Distance.COSINE)[0], writer.live, 10).rows) == 0
    assert writer.store.indexed_vectors_count(writer.live) == 0
    writer.append(clustered(1000, seed=2))
    writer.finish()
    assert mean_recall(writer, writer.live) >= 0.98


def test_rows_without_a_vector_are_left_out(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.DOT)
    writer.append(clustered(3000, seed=1), absent_every=3)
    writer.finish()
    assert writer.store.indexed_vectors_count(writer.live) == 2000
    present = writer.store.present(3000)
    for query in queries(Distance.DOT):
        assert present[writer.store.nearest(query, writer.live, 10).rows].all()
    assert mean_recall(writer, writer.live) >= 0.98


def test_vectors_of_length_zero_do_not_crowd_out_the_others(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    vectors = clustered(3000, seed=1)
    writer.append(vectors)
    zeros = np.arange(3000, 3600)
    writer.store.write(zeros, DenseBatch(np.arange(600), np.zeros((600, DIM), dtype=np.float32)))
    writer.live = np.ones(3600, dtype=np.bool_)
    writer.store.published(writer.live)
    writer.finish()
    assert writer.store.indexed_vectors_count(writer.live) == 3600
    opposite = -unit(vectors.mean(axis=0))
    found = writer.store.nearest(opposite, writer.live, 300)
    truth = writer.store.nearest(opposite, writer.live, 300, EXACT)
    np.testing.assert_allclose(
        found.similarities[:50], truth.similarities[:50], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("state", ["complete", "rows without vectors", "zeros", "tail", "older"])
def test_few_rows_are_found_exactly_whatever_the_range_is(
    builder: IndexBuilder, state: str
) -> None:
    """Under cosine, where vectors of length zero are beside the graph."""
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(2000, seed=1), absent_every=3 if state == "rows without vectors" else 0)
    if state == "zeros":
        rows = np.arange(2000, 2400)
        zeros = DenseBatch(np.arange(400), np.zeros((400, DIM), dtype=np.float32))
        writer.store.write(rows, zeros)
        writer.live = np.ones(2400, dtype=np.bool_)
        writer.store.published(writer.live)
    writer.finish()
    if state == "tail":
        writer.append(clustered(100, seed=2))
    row_count = 1500 if state == "older" else len(writer.live)
    for count, k in ((0, 3), (1, 3), (20, 30), (200, 5)):
        chosen = np.random.default_rng(count).choice(row_count, count, replace=False)
        allowed = RowSet.of_rows(np.sort(chosen), row_count)
        for query in queries(Distance.COSINE, 3):
            found = writer.store.nearest(query, allowed, k)
            truth = writer.store.nearest(query, allowed, k, EXACT)
            np.testing.assert_allclose(found.similarities, truth.similarities, atol=1e-6)
            assert np.isin(found.rows, allowed.rows).all()
            assert len(np.unique(found.rows)) == len(truth.rows)


def test_a_plan_does_not_depend_on_the_one_before(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    writer.append(clustered(3000, seed=1))
    writer.finish()
    sealed, settings = writer.store.ranges[0], writer.store.settings
    asked = list(
        itertools.product(
            (RowSet.of_rows(np.arange(count), 3000) for count in (500, 2500, 3000)),
            (5, 50),
            (settings, msgspec.structs.replace(settings, full_scan_kb=10**6)),
            (SearchParams(), SearchParams(hnsw_ef=8), SearchParams(hnsw_ef=600)),
        )
    )
    plans = []
    for allowed, k, with_settings, params in asked:
        anew = SealedRange(0, 3000, sealed.graph_rows, sealed.loose_rows, sealed.graph)
        expected = anew.plan(allowed, DIM, k, with_settings, params)
        for _ in range(2):
            assert sealed.plan(allowed, DIM, k, with_settings, params) == expected
        plans.append(expected)
    assert len(set(plans)) > 6


def test_growing_tail_and_ranges_answer_as_one(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    for seed in range(8):
        writer.append(clustered(700, seed=seed))
        writer.finish()
    writer.append(clustered(ROWS_MIN // 10, seed=50))
    writer.finish()
    ranges = writer.store.ranges
    assert ranges[0].row_begin == 0
    assert all(left.row_end == right.row_begin for left, right in itertools.pairwise(ranges))
    assert len(ranges) <= 3
    assert ranges[-1].row_end == 5600
    assert mean_recall(writer, writer.live) >= 0.98
    assert writer.store.indexed_vectors_count(writer.live) == 5600


def test_indexed_only_leaves_out_a_tail_that_waits_for_its_graph(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(1000, seed=1))
    writer.finish()
    builder.close()
    target = unit(clustered(1, seed=77))
    writer.append(np.concatenate((clustered(999, seed=2), target)))
    only = SearchParams(indexed_only=True)
    assert writer.store.nearest(target[0], writer.live, 1).rows.tolist() == [1999]
    assert writer.store.nearest(target[0], writer.live, 1, only).rows[0] < 1000


def test_vectors_that_leave_the_box_of_the_codes_get_a_new_graph(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    writer.append(clustered(1000, seed=1))
    writer.finish()
    writer.append(clustered(1000, seed=2) * np.float32(30))
    writer.finish()
    assert len(writer.store.ranges) == 1
    wide = clustered(1, seed=98)[0] * np.float32(30)
    found = writer.store.nearest(wide, writer.live, 10)
    assert recall(found, writer.store.nearest(wide, writer.live, 10, EXACT)) >= 0.9


def test_threshold_of_zero_builds_no_graph(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE, rows_min=None)
    writer.append(clustered(3000, seed=1))
    writer.finish()
    assert writer.store.ranges == ()
    assert writer.store.pending_work() is None
    assert mean_recall(writer, writer.live) == 1.0


def test_closing_gives_up_a_running_build(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(60_000, seed=1))
    assert writer.store.pending_work() is not None
    writer.store.close()
    assert writer.store.pending_work() is None
    assert writer.store.ranges == ()
    builder.close()


@pytest.mark.parametrize(("burst_rows", "is_outgrown"), [(ROWS_MIN, False), (3 * ROWS_MIN, True)])
def test_a_young_build_that_a_burst_has_outgrown_begins_anew_with_all_rows(
    builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch, burst_rows: int, is_outgrown: bool
) -> None:
    monkeypatch.setattr(pace, "_QUIET_S", 0.0)
    builder.close()  # Its steps are taken here.
    writer = Writer(builder, Distance.COSINE)
    planned_rows = 2 * ROWS_MIN
    writer.append(clustered(planned_rows, seed=1))

    def goes_on_beside_a_burst() -> bool:
        if len(writer.live) == planned_rows:
            writer.append(clustered(burst_rows, seed=2))
        return False

    assert writer.store.build_next(goes_on_beside_a_burst)
    covered = [sealed.row_end for sealed in writer.store.ranges]
    assert covered == ([] if is_outgrown else [planned_rows])
    # Whoever waits for it waits for the next step too.
    assert writer.store.pending_work() is not None
    assert writer.store.build_next(lambda: False)
    assert [sealed.row_end for sealed in writer.store.ranges] == [len(writer.live)]
    assert not writer.store.build_next(lambda: False)


def test_searches_are_right_while_ranges_are_swapped(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    writer.append(clustered(1000, seed=0))
    asked = queries(Distance.EUCLID, 8)
    failures: list[str] = []
    done = threading.Event()

    def search(number: int) -> None:
        query: FloatVector = asked[number]
        while not done.is_set():
            live = writer.live
            found = writer.store.nearest(query, live, 10)
            truth = writer.store.nearest(query, live, 10, EXACT)
            if len(found.rows) != 10 or not live[found.rows].all():
                failures.append(f"{found.rows}")
            if recall(found, truth) < 0.7:
                failures.append(f"{found.rows} instead of {truth.rows}")

    threads = [threading.Thread(target=search, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for seed in range(1, 9):
            writer.append(clustered(600, seed=seed))
            writer.delete(np.arange(seed * 40, seed * 40 + 30))
        writer.finish()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert writer.store.pending_work() is None


def same_range(sealed: SealedRange) -> SealedRange:
    """Another object that shows the same, as one whose graph is mapped does."""
    rows = sealed.graph_rows, sealed.loose_rows
    return SealedRange(sealed.row_begin, sealed.row_end, *rows, sealed.graph)


def test_a_range_that_is_replaced_during_a_build_stays_replaced(
    builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "_TIER_RATIO", 0)  # Each graph stays by itself.
    writer = Writer(builder, Distance.DOT)
    writer.append(clustered(2 * ROWS_MIN, seed=1))
    writer.finish()
    [before] = writer.store.ranges
    after = same_range(before)
    build = writer.store._build

    def build_and_replace(*args: Any) -> SealedRange:
        made = build(*args)
        writer.store.replace_range(before, after)
        return made

    monkeypatch.setattr(writer.store, "_build", build_and_replace)
    writer.append(clustered(2 * ROWS_MIN, seed=2))
    writer.finish()
    assert [sealed is after for sealed in writer.store.ranges] == [True, False]


class SlowlyRead(tuple[SealedRange, ...]):
    """Ranges that, once `wait` is set, are gone through only when that has returned."""

    wait: Callable[[], object] | None = None

    def __iter__(self) -> Iterator[SealedRange]:
        if self.wait is not None and threading.current_thread() is threading.main_thread():
            self.wait()
        return super().__iter__()


def test_no_graph_is_lost_while_a_range_is_replaced(
    builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "_TIER_RATIO", 0)
    writer = Writer(builder, Distance.DOT)
    writer.append(clustered(2 * ROWS_MIN, seed=1))
    writer.finish()
    [before] = writer.store.ranges
    ranges = writer.store._ranges = SlowlyRead((before,))
    writer.append(clustered(2 * ROWS_MIN, seed=2))
    # The build ends meanwhile, or waits for what is under way.
    ranges.wait = lambda: builder.wait_until_idle(1)
    writer.store.replace_range(before, same_range(before))
    writer.finish()
    assert len(writer.store.work_log.finished()) == len(writer.store.ranges) == 2


def test_a_graph_that_is_made_while_graphs_are_turned_off_is_not_taken(
    builder: IndexBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiers, "_TIER_RATIO", 0)
    writer = Writer(builder, Distance.DOT)
    writer.append(clustered(2 * ROWS_MIN, seed=1))
    writer.finish()
    build, settings = writer.store._build, writer.store.settings

    def build_and_turn_off(*args: Any) -> SealedRange:
        made = build(*args)
        # Off, and on again: what was planned on is gone.
        writer.store.take_settings(msgspec.structs.replace(settings, m=0, rows_min=None))
        writer.store.take_settings(msgspec.structs.replace(settings, rows_min=10**6))
        return made

    monkeypatch.setattr(writer.store, "_build", build_and_turn_off)
    writer.append(clustered(2 * ROWS_MIN, seed=2))
    writer.finish()
    assert writer.store.ranges == ()


def test_building_is_visible_until_it_is_done(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(ROWS_MIN - 50, seed=1))
    assert writer.store.pending_work() is None
    writer.append(clustered(4000, seed=2))
    pending = writer.store.pending_work()
    assert pending is not None or writer.store.ranges
    writer.finish()
    assert writer.store.pending_work() is None
    assert writer.store.indexed_vectors_count(writer.live) == ROWS_MIN + 3950


def test_graphs_go_on_serving_after_dead_rows_were_taken_out(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    vectors = clustered(3000, seed=1)
    writer.append(vectors, absent_every=7)
    writer.finish()
    # Twice, since nodes whose rows are gone stay in the graph; a few, so that no new one is
    # built meanwhile.
    for seed in (1, 2):
        dead = np.random.default_rng(seed).random(len(writer.live)) < 0.08
        dead[-5:] = True
        kept = np.flatnonzero(~dead)
        smaller = Writer(builder, Distance.EUCLID)
        batch = writer.store.read(kept)
        assert isinstance(batch, DenseBatch)
        smaller.store.write(batch.positions, batch)
        smaller.store.adopt_renumbered(writer.store, kept)
        smaller.live = np.ones(len(kept), dtype=np.bool_)
        writer = smaller
        sealed = writer.store.ranges[0]
        assert (sealed.row_begin, sealed.row_end) == (0, len(kept))
        assert sealed.live_count(writer.live) == len(batch.positions)
        assert sealed.vector_count > len(batch.positions)
        assert mean_recall(writer, writer.live) >= 0.97
        few = np.random.default_rng(9).random(len(kept)) < 0.05
        for query in queries(Distance.EUCLID, 5):
            truth = writer.store.nearest(query, few, 10, EXACT).rows.tolist()
            assert writer.store.nearest(query, few, 10).rows.tolist() == truth
            listed = RowSet.of_rows(np.flatnonzero(few), len(few))
            assert writer.store.nearest(query, listed, 10).rows.tolist() == truth


@pytest.mark.skipif(tail_codes.ByteScan is None, reason="built without a C compiler")
@pytest.mark.parametrize("distance", [Distance.COSINE, Distance.EUCLID])
def test_a_long_tail_is_found_by_its_codes(
    builder: IndexBuilder, distance: Distance, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(builder, distance)
    writer.append(clustered(1000, seed=1))
    writer.finish()
    builder.close()
    writer.append(clustered(12_000, seed=2), absent_every=7)
    writer.delete(np.arange(2000, 3000))
    scans: list[int] = []
    scan = IndexedVectors.nearest_from

    def counted(store: IndexedVectors, row_begin: int, *others: Any) -> Candidates:
        scans.append(row_begin)
        return scan(store, row_begin, *others)

    monkeypatch.setattr(IndexedVectors, "nearest_from", counted)
    # Codes are made for some rows at a time; what has none is scanned.
    for query in queries(distance, 3):
        writer.store.nearest(query, writer.live, 10)
    assert scans == [1000 + 8192]
    *_, of_tail = explain._range_steps(
        writer.store, RowSet.of_mask(writer.live), SearchParams(), DIM, 10
    )
    assert (of_tail.strategy, of_tail.row_begin) == (Strategy.CODES, 1000)
    scans.clear()
    assert mean_recall(writer, writer.live) >= 0.99
    assert set(scans) == {0}, "only what is exact scans"
    half = writer.live & (np.arange(13_000) % 2 == 0)
    assert mean_recall(writer, half) >= 0.99


@pytest.mark.skipif(tail_codes.ByteScan is None, reason="built without a C compiler")
def test_a_tail_of_vectors_unlike_those_before_is_scanned(builder: IndexBuilder) -> None:
    writer = Writer(builder, Distance.EUCLID)
    writer.append(clustered(1000, seed=1))
    writer.finish()
    builder.close()
    writer.append(clustered(5000, seed=2) * np.float32(30))
    wide = clustered(1, seed=98)[0] * np.float32(30)
    found = writer.store.nearest(wide, writer.live, 10)
    assert recall(found, writer.store.nearest(wide, writer.live, 10, EXACT)) == 1.0


@pytest.mark.parametrize("length", [3e-4, 1e-10, 1e-30])
def test_short_queries_find_what_long_ones_find(builder: IndexBuilder, length: float) -> None:
    writer = Writer(builder, Distance.COSINE)
    writer.append(clustered(3000, seed=1))
    writer.finish()
    builder.close()
    writer.append(clustered(3000, seed=2))
    few = writer.live & (np.arange(6000) % 10 == 0)
    for query in queries(Distance.COSINE, 5):
        short = query * np.float32(length)
        for allowed in (writer.live, few):
            found = writer.store.nearest(short, allowed, 10)
            assert len(found.rows) == 10
            if length > 1e-20:
                truth = writer.store.nearest(query, allowed, 10, EXACT)
                assert recall(found, truth) >= 0.8
                np.testing.assert_allclose(
                    found.similarities[0], truth.similarities[0] * length, rtol=1e-4
                )
