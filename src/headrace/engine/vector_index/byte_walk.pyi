import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import FloatMatrix, FloatVector

class ByteWalk:
    def __init__(
        self,
        codes: NDArray[np.uint8],
        code_dim: int,
        links: NDArray[np.int32],
        begins: NDArray[np.uint64],
        layer_begins: NDArray[np.int32],
        entry: int,
        top_layer: int,
        offset: FloatVector,
        scale: float,
        outside_share: float,
    ) -> None: ...
    def nearest(
        self,
        query: FloatVector,
        k: int,
        width: int,
        allowed: NDArray[np.uint8] | None = None,
        is_forced: bool = False,
    ) -> NDArray[np.int64]: ...

class ByteScan:
    def __init__(
        self, code_dim: int, offset: FloatVector, scale: float, outside_share: float
    ) -> None: ...
    def encode(
        self, vectors: FloatMatrix, codes: NDArray[np.uint8], expressed: NDArray[np.uint8]
    ) -> None: ...
    def nearest_of(
        self,
        query: FloatVector,
        k: int,
        chunks: tuple[NDArray[np.uint8], ...],
        begin: int,
        allowed: NDArray[np.uint8],
    ) -> NDArray[np.int64] | None: ...
