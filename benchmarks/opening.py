"""How soon does a stored collection answer its first search, and what memory does it take?

Both engines have the same points, were closed cleanly, and are opened in processes of their
own, in turns. The first opening of each is not counted, so that the system has the files of
both in its cache. `python -m benchmarks.opening SIDE FOLDER QUERIES.npy` is one such process.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from benchmarks.data import Dataset
from benchmarks.results import Figure
from benchmarks.sides import EdgeSide, HeadraceSide

_SIDES = {"headrace": HeadraceSide, "edge": EdgeSide}
# Of few points, opening is starting.
_TARGET = 3.0
_TARGET_POINTS_MIN = 1_000_000
_ROUNDS = 3
_TIMEOUT_S = 600.0


class Opened(msgspec.Struct, frozen=True):
    """What one process saw.

    Attributes:
        first_answer_s: from before the opening to the first answer.
        resident_bytes: by how much the process has grown after all searches, files that it
            has mapped and read included.
    """

    first_answer_s: float
    resident_bytes: int


def compare_opening(
    ours: Path, theirs: Path, dataset: Dataset, data: str, tell: Callable[[str], None]
) -> list[Figure]:
    """Open both stores.

    Args:
        ours: Headrace's folder, closed.
        theirs: the rival's, closed.
        dataset: what is in both.
        data: what the figures call it.
        tell: called with a line when it is done.
    """
    queries = ours.parent / "queries.npy"
    np.save(queries, dataset.queries)
    folders = {"headrace": ours, "edge": theirs}
    seen: dict[str, list[Opened]] = {name: [] for name in folders}
    for _ in range(1 + _ROUNDS):
        for name, folder in folders.items():
            seen[name].append(_opened(name, folder, queries))
    seconds = {name: median(one.first_answer_s for one in of[1:]) for name, of in seen.items()}
    memory = {name: median(one.resident_bytes for one in of[1:]) for name, of in seen.items()}
    tell(
        f"{data}: first answer after {seconds['headrace']:.2f} s and {seconds['edge']:.2f} s, "
        f"resident {memory['headrace'] / 2**20:.0f} MiB and {memory['edge'] / 2**20:.0f} MiB"
    )
    return [
        Figure(
            what="open a directory until the first answer",
            ratio=seconds["edge"] / seconds["headrace"],
            target=_TARGET if len(dataset.vectors) >= _TARGET_POINTS_MIN else None,
            better="higher",
            unit="s",
            headrace=seconds["headrace"],
            rival=seconds["edge"],
            rival_name=EdgeSide.name,
            data=data,
        ),
        Figure(
            what=f"resident memory after opening and {len(dataset.queries)} searches",
            ratio=memory["headrace"] / memory["edge"],
            target=1.0,
            better="lower",
            unit="MiB",
            headrace=memory["headrace"] / 2**20,
            rival=memory["edge"] / 2**20,
            rival_name=EdgeSide.name,
            data=data,
        ),
    ]


def _opened(name: str, folder: Path, queries: Path) -> Opened:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.opening", name, str(folder), str(queries)],
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT_S,
    )
    return msgspec.json.decode(done.stdout, type=Opened)


def _open(name: str, folder: Path, queries_file: Path) -> Opened:
    queries = np.load(queries_file)
    gc.collect()
    before = _resident_bytes()
    began = time.perf_counter()
    with closing(_SIDES[name](folder, queries.shape[1], is_new=False)) as side:
        side.search(queries[0])
        first_answer_s = time.perf_counter() - began
        for query in queries:
            side.search(query)
        return Opened(first_answer_s, _resident_bytes() - before)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kilobytes) * 1024


if __name__ == "__main__":
    print(msgspec.json.encode(_open(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))).decode())
