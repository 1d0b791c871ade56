import numpy as np
from numpy.typing import NDArray

from headrace.model.vectors import Mask, Rows

class SortedIntegers:
    def __init__(self, values: Rows) -> None: ...
    def within(
        self, gt: float | None, gte: float | None, lt: float | None, lte: float | None
    ) -> tuple[int, int]: ...

def are_between(numbers: NDArray[np.int32], begin: int, end: int) -> Mask: ...
