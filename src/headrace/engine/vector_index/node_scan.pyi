import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import FloatMatrix, FloatVector

class Sketches:
    def __init__(
        self,
        codes: NDArray[np.uint8],
        middle: NDArray[np.uint8],
        error_allowed: float,
        tried: NDArray[np.int32],
    ) -> None: ...

def sketched(codes: NDArray[np.uint8], sample_nodes: NDArray[np.int64]) -> Sketches | None: ...

class NodeScan:
    can_sketch: bool
    @property
    def has_sketches(self) -> bool: ...
    def __init__(
        self,
        codes: NDArray[np.uint8],
        code_dim: int,
        offset: FloatVector,
        scale: float,
        outside_share: float,
    ) -> None: ...
    def nearest_of(
        self,
        query: FloatVector,
        k: int,
        nodes: NDArray[np.int64] | None = None,
        bits: NDArray[np.uint8] | None = None,
        is_forced: bool = False,
        surely: int = 0,
    ) -> NDArray[np.int64] | None: ...

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
        sketches: tuple[Sketches | None, ...] = (),
        surely: int = 0,
    ) -> NDArray[np.int64] | None: ...
