import numpy as np
from numpy.typing import NDArray

EMPTY: int
KERNELS: int

def nearest_pivots(
    codes: NDArray[np.uint8],
    nodes: NDArray[np.int32],
    pivots: NDArray[np.int32],
    out: NDArray[np.int32],
    kernel: int = ...,
) -> None: ...
def compare_all(
    codes: NDArray[np.uint8],
    nodes: NDArray[np.int32],
    pools: NDArray[np.uint64],
    kernel: int = ...,
) -> None: ...
def compare_neighbours(
    codes: NDArray[np.uint8],
    near: NDArray[np.int32],
    pools: NDArray[np.uint64],
    begin: int,
    end: int,
    seen: NDArray[np.int32],
) -> None: ...
def pooled_nodes(pools: NDArray[np.uint64], out: NDArray[np.int32]) -> None: ...
def linked_from(
    links: NDArray[np.int32], begins: NDArray[np.int64], out: NDArray[np.int32]
) -> None: ...
def choose_links(
    codes: NDArray[np.uint8],
    pools: NDArray[np.uint64],
    slack: float,
    out: NDArray[np.int32],
    begin: int,
    end: int,
    kernel: int = ...,
) -> None: ...
def join_links(
    codes: NDArray[np.uint8],
    chosen: NDArray[np.int32],
    begins: NDArray[np.int64],
    linking: NDArray[np.int32],
    linking_max: int,
    slack: float,
    out: NDArray[np.int32],
    begin: int,
    end: int,
    kernel: int = ...,
) -> None: ...
def reach(
    links: NDArray[np.int32], queue: NDArray[np.int32], queued: int, reached: NDArray[np.uint8]
) -> int: ...
def reach_back(
    begins: NDArray[np.int64],
    linking: NDArray[np.int32],
    queue: NDArray[np.int32],
    queued: int,
    reached: NDArray[np.uint8],
) -> int: ...
def append_links(
    links: NDArray[np.int32], nodes: NDArray[np.int32], more: NDArray[np.int32], most: int
) -> None: ...
