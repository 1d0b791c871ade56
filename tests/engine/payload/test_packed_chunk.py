"""Packed payloads are the payloads, compiled or not."""

from __future__ import annotations

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
