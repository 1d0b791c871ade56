"""Into which slices do many points fall?

SipHash-2-4 of `headrace.engine.filter.slices`, for all ids of a collection at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def number_hashes(numbers: Words) -> Words:
    """The hashes of ids that are numbers, shape (n,)."""
    return _siphash24([numbers], message_bytes=8)


def uuid_hashes(high: Words, low: Words) -> Words:
    """The hashes of ids that are UUIDs.

    Args:
        high, low: shape (n,): the upper and lower 64 bits.
    """
    # The message is the UUID's bytes, most significant first; SipHash reads words the
    # other way round.
    return _siphash24([high.byteswap(), low.byteswap()], message_bytes=16)


def _siphash24(words: list[Words], message_bytes: int) -> Words:
    """The hashes of messages of whole words, with a zero key."""
    count = len(words[0])
    initial = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
    v0, v1, v2, v3 = (np.full(count, word, dtype=np.uint64) for word in initial)
    length = np.full(count, message_bytes << 56, dtype=np.uint64)
    for word in [*words, length]:
        v3 ^= word
        for _ in range(2):
            _round_into(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        _round_into(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


def _round_into(v0: Words, v1: Words, v2: Words, v3: Words) -> None:
    v0 += v1
    _rotate_into(v1, 13)
    v1 ^= v0
    _rotate_into(v0, 32)
    v2 += v3
    _rotate_into(v3, 16)
    v3 ^= v2
    v0 += v3
    _rotate_into(v3, 21)
    v3 ^= v0
    v2 += v1
    _rotate_into(v1, 17)
    v1 ^= v2
    _rotate_into(v2, 32)


def _rotate_into(words: Words, bits: int) -> None:
    words[:] = words << np.uint64(bits) | words >> np.uint64(64 - bits)
