from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import orjson
import pytest

from headrace.engine.payload_index.build import build_parts
from headrace.engine.payload_index.index import PayloadIndex
from headrace.engine.payload_index.part_key import PartKey, PartKind
from headrace.engine.payload_index.transient_memory import TransientMemory
from headrace.engine.query.mask import passing_set
from headrace.engine.query.points import evaluate_rows
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import FieldCondition, Filter, IsEmpty, MatchValue, Nested, Range
from headrace.model.operations import (
    CreatePayloadIndex,
    DropPayloadIndex,
    OverwritePayload,
    PointSelector,
)
from tests.engine.query.stored_points import StoredPoints, upsert_of

KEYWORD = PayloadFieldSchema(PayloadFieldType.KEYWORD)
INTEGER = PayloadFieldSchema(PayloadFieldType.INTEGER)
KIND_STRINGS = PartKey((), "kind", PartKind.STRINGS)
RED = Filter(must=(FieldCondition("kind", match=MatchValue("red")),))


def payload(number: int) -> dict[str, Any]:
    kind = ("red", "green", "blue")[number % 3]
    return {"kind": kind, "number": number, "list": [{"x": number % 5}, {"x": None}]}


def points(begin: int, end: int) -> list[tuple[int, dict[str, Any]]]:
    return [(number, payload(number)) for number in range(begin, end)]


def stored(count: int, schema: dict[str, PayloadFieldSchema] | None = None) -> StoredPoints:
    filled = StoredPoints(schema)
    filled.upsert(points(0, count))
    return filled


def index_of(filled: StoredPoints) -> PayloadIndex:
    return filled.segment.payload_index


def assert_right(view: View, filter: Filter = RED) -> None:
    live = np.flatnonzero(view.live)
    expected = live[evaluate_rows(filter, view, live)]
    assert passing_set(filter, view).rows.tolist() == expected.tolist()


def test_nothing_is_built_where_nothing_is_filtered_or_indexed() -> None:
    filled = stored(2000)
    filled.keep_up()
    assert index_of(filled).coverage(filled.view).runs
    assert index_of(filled).transient_columns() == []


def test_the_background_builds_what_payload_indexes_demand() -> None:
    filled = stored(2000, {"kind": KEYWORD})
    index = index_of(filled)
    assert index.is_due(filled.view)
    filled.keep_up()
    assert not index.is_due(filled.view)
    (covered,) = index.coverage(filled.view).runs
    assert KIND_STRINGS in covered.run.parts
    assert index.transient_columns() == []


def test_an_index_that_is_created_later_is_built_over_all_rows() -> None:
    filled = stored(2000, {"kind": KEYWORD})
    filled.keep_up()
    filled.apply(CreatePayloadIndex("number", INTEGER))
    assert index_of(filled).is_due(filled.view)
    filled.keep_up()
    (covered,) = index_of(filled).coverage(filled.view).runs
    assert PartKey((), "number", PartKind.WHOLE_NUMBERS) in covered.run.parts


def test_the_parts_of_a_dropped_index_are_forgotten() -> None:
    filled = stored(2000, {"kind": KEYWORD, "number": INTEGER})
    filled.keep_up()
    filled.apply(DropPayloadIndex("kind"))
    filled.keep_up()
    (covered,) = index_of(filled).coverage(filled.view).runs
    assert KIND_STRINGS not in covered.run.parts
    assert_right(filled.view)


def test_many_small_writes_become_few_runs() -> None:
    filled = StoredPoints({"kind": KEYWORD})
    for begin in range(0, 12_000, 300):
        filled.upsert(points(begin, begin + 300))
        assert_right(filled.view)
    assert len(index_of(filled).coverage(filled.view).runs) <= 5
    filled.keep_up(is_settled=False)
    assert_right(filled.view)
    filled.keep_up(is_settled=True)
    assert len(index_of(filled).coverage(filled.view).runs) == 1
    assert_right(filled.view)


def test_replaced_payloads_move_to_newer_runs() -> None:
    filled = stored(1000, {"kind": KEYWORD})
    filled.keep_up()
    before = filled.view
    replaced = PointSelector(ids=tuple(range(0, 600, 2)))
    filled.apply(OverwritePayload(replaced, orjson.dumps({"kind": "red"})))
    assert_right(filled.view)
    assert_right(before)
    filled.keep_up()
    assert_right(filled.view)
    assert_right(before)


def test_a_batch_that_was_taken_back_leaves_no_trace() -> None:
    filled = stored(1000, {"kind": KEYWORD})
    filled.keep_up()
    view = filled.view
    before = passing_set(RED, view).rows.tolist()
    everything = PointSelector(filter=Filter())
    filled.apply_and_take_back(
        OverwritePayload(everything, b'{"kind":"red"}'),
        # The filter of the next operation sees, and indexes, what the first one wrote.
        OverwritePayload(PointSelector(filter=RED), b'{"kind":"green"}'),
        upsert_of(points(5000, 5500)),
    )
    assert passing_set(RED, filled.view).rows.tolist() == before
    filled.keep_up()
    assert passing_set(RED, filled.view).rows.tolist() == before
    assert_right(filled.view)


def test_transient_parts_stay_within_their_bound_of_memory() -> None:
    filled = stored(3000, {"number": INTEGER})
    memory = TransientMemory(100_000)
    index = PayloadIndex(filled.view.changes, memory)
    filled.segment.payload_index = index
    filled.keep_up()
    for _ in range(2):
        for key in ("kind", "list[].x", "other", "number"):
            filter = Filter(
                must=(FieldCondition(key, match=MatchValue("red")),),
                should=(FieldCondition(key, range=Range(gte=1.0)), IsEmpty(key)),
            )
            assert_right(filled.view, filter)
            assert 0 < memory.nbytes <= 100_000
    (covered,) = index.coverage(filled.view).runs
    assert PartKey((), "number", PartKind.WHOLE_NUMBERS) in covered.run.parts


def test_what_a_filter_needs_may_exceed_the_bound() -> None:
    filled = stored(3000)
    filled.segment.payload_index = PayloadIndex(filled.view.changes, TransientMemory(1))
    nested = Filter(must=(Nested("list", Filter(must=(IsEmpty("x"),))),))
    assert_right(filled.view, nested)
    assert_right(filled.view)
    assert_right(filled.view, nested)


def test_a_part_that_several_ask_for_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = stored(3000)
    view = filled.view
    index = index_of(filled)
    run = index.coverage(view).runs[0].run
    started, go_on = threading.Event(), threading.Event()
    builds = []

    def slow_build(*args: Any) -> Any:
        builds.append(args[0])
        started.set()
        assert go_on.wait(timeout=30)
        return build_parts(*args)

    monkeypatch.setattr("headrace.engine.payload_index.run.build_parts", slow_build)
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(index.require, run, [KIND_STRINGS], {}) for _ in range(4)]
        assert started.wait(timeout=30)
        progress = index.progress()
        go_on.set()
        assert all(KIND_STRINGS in parts.result(timeout=30) for parts in found)
    assert len(builds) == 1
    assert [(one.payload_paths, one.rows_done, one.rows_total) for one in progress] == [
        (["kind"], 0, 3000)
    ]
    assert index.progress() == []


def test_progress_is_told_while_rows_are_read() -> None:
    filled = stored(3000)
    run = index_of(filled).coverage(filled.view).runs[0].run
    told: list[int] = []
    run.require([KIND_STRINGS], told.append)
    assert told[-1] == 3000
    assert told == sorted(told)


def test_a_build_that_fails_is_tried_again_by_the_next_who_needs_it() -> None:
    filled = stored(3000)
    run = index_of(filled).coverage(filled.view).runs[0].run

    def fail(rows_done: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        run.require([KIND_STRINGS], fail)
    assert KIND_STRINGS in run.require([KIND_STRINGS])


def test_keeping_up_stops_when_it_is_told_to() -> None:
    filled = stored(3000, {"kind": KEYWORD})
    filled.segment.payload_index.keep_up(filled.view, is_stopped=lambda: True)
    assert index_of(filled).is_due(filled.view)
    assert_right(filled.view)


def test_keeping_up_says_of_how_many_rows_it_built_parts() -> None:
    filled = stored(3000, {"kind": KEYWORD})
    index = index_of(filled)
    assert index.keep_up(filled.view) == 3000
    assert index.keep_up(filled.view) == 0


def test_an_index_that_takes_over_has_the_parts_of_the_old_one() -> None:
    old = stored(2000, {"kind": KEYWORD})
    old.keep_up()
    assert_right(old.view, Filter(must=(FieldCondition("number", range=Range(lt=5.0)),)))
    new = stored(2000, {"kind": KEYWORD})
    index_of(new).take_over(index_of(old), new.view)
    (covered,) = index_of(new).coverage(new.view).runs
    assert KIND_STRINGS in covered.run.parts
    assert PartKey((), "number", PartKind.FLOATS) in covered.run.parts


def test_unused_runs_are_let_go_of_when_nothing_wants_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled = stored(2000)
    assert_right(filled.view)
    monkeypatch.setattr("headrace.engine.payload_index.index._UNUSED_MAX_S", -1.0)
    filled.upsert(points(2000, 4000))
    assert index_of(filled).is_due(filled.view)
    filled.keep_up()
    assert not index_of(filled).is_due(filled.view)
    assert index_of(filled).transient_columns() == []
    assert_right(filled.view)


def test_what_cannot_be_built_is_not_tried_after_each_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    filled = stored(2000, {"kind": KEYWORD})

    def fail(*args: Any) -> Any:
        raise RuntimeError("cannot")

    with monkeypatch.context() as broken:
        broken.setattr("headrace.engine.payload_index.run.build_parts", fail)
        with pytest.raises(RuntimeError, match="cannot"):
            filled.keep_up()
    assert not index_of(filled).is_due(filled.view)
    filled.apply(CreatePayloadIndex("number", INTEGER))
    assert index_of(filled).is_due(filled.view)
    filled.keep_up()
    assert_right(filled.view)
