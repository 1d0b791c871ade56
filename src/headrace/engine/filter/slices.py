"""Into which slice does a point fall?

Qdrant's rule: SipHash-2-4 with a zero key over the id's bytes, modulo the number of
slices. Every server that knows an id agrees, so workers can share a collection.
"""

from __future__ import annotations

from uuid import UUID

from headrace.model.filters import Slice
from headrace.model.ids import PointId

_MASK = 2**64 - 1


def in_slice(point_id: PointId, wanted: Slice) -> bool:
    """Whether the point falls into slice `wanted.rank` of `wanted.total`."""
    return slice_of(point_id, wanted.total) == wanted.rank


def slice_of(point_id: PointId, total: int) -> int:
    """The slice of a point, from 0 to `total` - 1."""
    if isinstance(point_id, UUID):
        return siphash24(point_id.bytes) % total
    return siphash24(point_id.to_bytes(8, "little")) % total


def siphash24(message: bytes, key: bytes = bytes(16)) -> int:
    """SipHash-2-4 of a message, an unsigned 64-bit number (Aumasson and Bernstein, 2012).

    Args:
        message: any bytes.
        key: 16 bytes.
    """
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = (
        k0 ^ 0x736F6D6570736575,
        k1 ^ 0x646F72616E646F6D,
        k0 ^ 0x6C7967656E657261,
        k1 ^ 0x7465646279746573,
    )
    padding = -(len(message) + 1) % 8
    padded = message + bytes(padding) + bytes([len(message) & 0xFF])
    for start in range(0, len(padded), 8):
        word = int.from_bytes(padded[start : start + 8], "little")
        v0, v1, v2, v3 = state
        v0, v1, v2, v3 = _rounds((v0, v1, v2, v3 ^ word), 2)
        state = (v0 ^ word, v1, v2, v3)
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), 4)
    return v0 ^ v1 ^ v2 ^ v3


def _rounds(state: tuple[int, int, int, int], count: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0 = (v0 + v1) & _MASK
        v1 = _rotated(v1, 13) ^ v0
        v0 = _rotated(v0, 32)
        v2 = (v2 + v3) & _MASK
        v3 = _rotated(v3, 16) ^ v2
        v0 = (v0 + v3) & _MASK
        v3 = _rotated(v3, 21) ^ v0
        v2 = (v2 + v1) & _MASK
        v1 = _rotated(v1, 17) ^ v2
        v2 = _rotated(v2, 32)
    return v0, v1, v2, v3


def _rotated(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _MASK
