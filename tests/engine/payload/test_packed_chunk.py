"""Packed payloads are the payloads, compiled or not."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from headrace.engine.payload import chunk
from headrace.engine.payload.chunk import PackedChunk, UncompiledPackedChunk, packed

PAYLOADS = [b"{}", b'{"a":1}', b'{"text":"' + b"x" * 300 + b'"}', b"{}"]


@pytest.fixture(params=[PackedChunk, UncompiledPackedChunk])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[PackedChunk]:
    monkeypatch.setattr(chunk, "PackedChunk", request.param)
    made: type[PackedChunk] = request.param
    return made


def test_payloads_come_out_as_they_went_in(kind: type[PackedChunk]) -> None:
    made = packed(PAYLOADS)
    assert isinstance(made, kind)
    assert len(made) == len(PAYLOADS)
    assert [made[place] for place in range(len(PAYLOADS))] == PAYLOADS
    assert list(made) == PAYLOADS
    for begin in range(5):
        for end in range(6):
            assert made[begin:end] == PAYLOADS[begin:end]
    assert made.bytes_max() == max(map(len, PAYLOADS))


def test_a_chunk_of_no_payloads(kind: type[PackedChunk]) -> None:
    made = packed([])
    assert isinstance(made, kind)
    assert len(made) == 0
    assert made[0:10] == []
    assert made.bytes_max() == 0


@pytest.mark.parametrize("place", [4, 100, -1])
def test_a_place_behind_the_last_is_refused(kind: type[PackedChunk], place: int) -> None:
    with pytest.raises(IndexError):
        packed(PAYLOADS)[place]


def test_bounds_may_begin_within_the_payloads(kind: type[PackedChunk]) -> None:
    made = kind(np.array([2, 4, 9], dtype=np.int64), memoryview(b"0123456789"))
    assert list(made) == [b"23", b"45678"]


@pytest.mark.skipif(PackedChunk.__module__ == chunk.__name__, reason="built without a C compiler")
@pytest.mark.parametrize("bounds", [[0, 11], [-1, 3], [0, 5, 3], []])
def test_bounds_outside_of_the_payloads_are_refused(bounds: list[int]) -> None:
    with pytest.raises(ValueError, match="bounds"):
        PackedChunk(np.array(bounds, dtype=np.int64), memoryview(b"0123456789"))


def test_payloads_that_moved_are_the_same_for_all_who_hold_them(kind: type[PackedChunk]) -> None:
    made = packed(PAYLOADS)
    other = b"elsewhere" + b"".join(PAYLOADS)
    bounds = np.cumsum([9, *map(len, PAYLOADS)])
    file = memoryview(other)
    made.move_to(kind(bounds, memoryview(other), file))
    assert made.file is file
    assert list(made) == PAYLOADS
    assert made[1:3] == PAYLOADS[1:3]
    assert made.bytes_max() == max(map(len, PAYLOADS))


def test_readers_of_payloads_that_move_all_the_time_see_them(kind: type[PackedChunk]) -> None:
    made = packed(PAYLOADS)
    places = []
    for begin in range(50):
        bounds = np.cumsum([begin, *map(len, PAYLOADS)])
        places.append(kind(bounds, memoryview(b"x" * begin + b"".join(PAYLOADS))))
    done = threading.Event()

    def move() -> None:
        while not done.is_set():
            for copy in places:
                made.move_to(copy)

    thread = threading.Thread(target=move)
    thread.start()
    try:
        assert all(made[:] == PAYLOADS for _ in range(2000))
    finally:
        done.set()
        thread.join()


def test_payloads_do_not_move_to_others(kind: type[PackedChunk]) -> None:
    with pytest.raises((ValueError, AssertionError)):
        packed(PAYLOADS).move_to(packed(PAYLOADS[1:]))
