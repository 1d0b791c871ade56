"""What forms does a vector take on its way from a request to the store?

One at a time at the edges (`Vector`): a 1-D array is dense, a 2-D array is a
multi-vector, a `SparseVector` is sparse. Many at a time from there on (`VectorBatch`):
flat arrays that go to the log and into the store without a Python object per point.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float32]
FloatMatrix = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]

DEFAULT_VECTOR_NAME = ""


class Distance(StrEnum):
    """How nearness is measured; spelled as Qdrant spells it."""

    COSINE = "Cosine"
    EUCLID = "Euclid"
    DOT = "Dot"
    MANHATTAN = "Manhattan"

    @property
    def larger_is_nearer(self) -> bool:
        """Whether a larger score, as shown in answers, means nearer."""
        return self in (Distance.COSINE, Distance.DOT)


class SparseVector(msgspec.Struct, frozen=True, eq=False):
    """The non-zero dimensions of a sparse vector.

    Attributes:
        indices: shape (n,), uint32, ascending and unique once inside the engine.
        values: shape (n,), float32.
    """

    indices: NDArray[np.uint32]
    values: FloatVector


# Dense: shape (dim,), float32. Multi: shape (n, dim), float32, n >= 1.
Vector = FloatVector | FloatMatrix | SparseVector


class DenseBatch(msgspec.Struct, frozen=True, tag="dense", eq=False):
    """Dense vectors of some points of a batch.

    Attributes:
        positions: shape (n,), int64, ascending: which points of the batch have one.
        values: shape (n, dim), float32, C order.
    """

    positions: Rows
    values: FloatMatrix


class MultiBatch(msgspec.Struct, frozen=True, tag="multi", eq=False):
    """Multi-vectors of some points of a batch; point i owns values[bounds[i]:bounds[i+1]].

    Attributes:
        positions: shape (n,), int64, ascending.
        bounds: shape (n + 1,), int64.
        values: shape (total, dim), float32, C order.
    """

    positions: Rows
    bounds: Rows
    values: FloatMatrix


class SparseBatch(msgspec.Struct, frozen=True, tag="sparse", eq=False):
    """Sparse vectors of some points of a batch, as compressed rows.

    Attributes:
        positions: shape (n,), int64, ascending.
        bounds: shape (n + 1,), int64.
        indices: shape (total,), uint32, ascending within each point.
        values: shape (total,), float32.
    """

    positions: Rows
    bounds: Rows
    indices: NDArray[np.uint32]
    values: FloatVector


VectorBatch = DenseBatch | MultiBatch | SparseBatch

# MessagePack extension type of an array inside a log record: dtype code, ndim, shape, data.
ARRAY_EXTENSION_CODE = 1


def encode_array(value: Any) -> Any:
    """msgspec `enc_hook`: an array as a MessagePack extension.

    The extension's data is one byte of type code (`_DTYPES`), one byte of dimensions, a
    little-endian uint64 per dimension, then the elements, little-endian, C order.
    """
    if isinstance(value, np.ndarray):
        header = bytes((_DTYPES.index(value.dtype.str), value.ndim))
        shape = np.asarray(value.shape, dtype="<u8").tobytes()
        return msgspec.msgpack.Ext(ARRAY_EXTENSION_CODE, header + shape + value.tobytes())
    raise NotImplementedError(f"cannot encode {type(value)}")


def decode_array(code: int, data: memoryview) -> NDArray[Any]:
    """msgspec `ext_hook`: the array of an extension, a read-only view of the record's bytes.

    Raises:
        ValueError: the extension is not one that `encode_array` wrote.
    """
    if code != ARRAY_EXTENSION_CODE or len(data) < 2 or data[0] >= len(_DTYPES):
        raise ValueError(f"unknown MessagePack extension {code}")
    ndim = data[1]
    shape = np.frombuffer(data, dtype="<u8", count=ndim, offset=2).astype(np.int64)
    flat = np.frombuffer(data, dtype=_DTYPES[data[0]], offset=2 + 8 * ndim)
    return flat.reshape(tuple(shape))


_DTYPES = ("<f4", "<u4", "<i8", "<u8", "|u1")
