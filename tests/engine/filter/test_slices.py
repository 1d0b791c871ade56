from __future__ import annotations

from uuid import UUID

import pytest

from headrace.engine.filter.slices import in_slice, siphash24, slice_of
from headrace.model.filters import Slice

# From the reference implementation: key 00 01 .. 0f, message 00 01 .. of each length.
REFERENCE_HASHES = {
    0: 0x726FDB47DD0E0E31,
    1: 0x74F839C593DC67FD,
    7: 0xAB0200F58B01D137,
    8: 0x93F5F5799A932462,
    15: 0xA129CA6149BE45E5,
}


@pytest.mark.parametrize(("length", "expected"), REFERENCE_HASHES.items())
def test_siphash_agrees_with_its_reference(length: int, expected: int) -> None:
    assert siphash24(bytes(range(length)), bytes(range(16))) == expected


def test_number_is_hashed_as_eight_little_endian_bytes() -> None:
    assert slice_of(1, 2**64) == siphash24(b"\x01" + bytes(7))
    assert slice_of(2**64 - 1, 2**64) == siphash24(b"\xff" * 8)


def test_uuid_is_hashed_as_its_sixteen_bytes() -> None:
    uuid = UUID("550e8400-e29b-41d4-a716-446655440000")
    assert slice_of(uuid, 2**64) == siphash24(bytes.fromhex("550e8400e29b41d4a716446655440000"))


def test_every_point_is_in_exactly_one_slice() -> None:
    for point_id in range(50):
        assert [in_slice(point_id, Slice(4, rank)) for rank in range(4)].count(True) == 1
        assert in_slice(point_id, Slice(1, 0))
