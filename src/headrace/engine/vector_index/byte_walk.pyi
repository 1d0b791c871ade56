import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import FloatVector

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
