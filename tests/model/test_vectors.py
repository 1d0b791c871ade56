"""Arrays in a log record are read back as they were, however they lie in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from headrace.model.vectors import decode_array, encode_array

SQUARE = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "array",
    [
        SQUARE,
        np.asfortranarray(SQUARE),
        SQUARE[:, 1::2],
        SQUARE[::-1],
        np.broadcast_to(SQUARE[0], (5, 4)),
        SQUARE.reshape(1, 2, 6),
        np.array(2.5, dtype=np.float32),
        np.empty(0, dtype=np.int64),
        np.empty((0, 4), dtype=np.float32),
        np.empty((4, 0), dtype=np.float32),
        np.array([2**63 - 1, -(2**63)], dtype=np.int64),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([2**32 - 1], dtype=np.uint32),
        np.array([[255, 0]], dtype=np.uint8),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_an_array_is_read_back_as_it_was(array: NDArray[Any]) -> None:
    encoded = msgspec.msgpack.encode(array, enc_hook=encode_array)
    again = msgspec.msgpack.Decoder(ext_hook=decode_array).decode(encoded)
    assert again.dtype == array.dtype
    assert again.shape == array.shape
    assert again.tolist() == array.tolist()


def test_elements_lie_in_a_record_in_c_order() -> None:
    encoded = msgspec.msgpack.encode(np.asfortranarray(SQUARE), enc_hook=encode_array)
    assert encoded.endswith(SQUARE.tobytes())
