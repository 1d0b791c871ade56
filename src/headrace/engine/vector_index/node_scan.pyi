import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import FloatVector

class NodeScan:
    can_sketch: bool
    has_sketches: bool
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
