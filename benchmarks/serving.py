"""How many searches a second does `headrace serve` answer, beside a bare handler over FAISS?

Both servers hold the same vectors and run on this machine, beside the load generator (wrk,
8 connections). They are measured in turns, so that what else the machine does hits both.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.data import Dataset
from benchmarks.recall import exact_scores, recall_of
from benchmarks.results import Figure
from benchmarks.sides import COLLECTION, SEARCH_LIMIT, HeadraceSide

CONNECTIONS = 8
# The bare handler's graph is as wide as gives it the recall that Headrace's default has, and not
# wider. With 8,000 queries of the synthetic 100,000 x 128 that was 0.99903, and the bare graph's
# 0.99749, 0.99889, 0.99902 and 0.99904 at 128, 160, 167 and 168.
BARE_EF = 167
_ROUNDS = 3
_REQUESTS_PER_S = re.compile(r"Requests/sec:\s+([\d.]+)")
_FAILED = re.compile(r"Non-2xx|Socket errors")

_WRK_SCRIPT = """\
local bodies = {}
for line in io.lines("%s") do bodies[#bodies + 1] = line end
local next_body = 0
request = function()
  next_body = next_body %% #bodies + 1
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, bodies[next_body])
end
"""


class LoadGeneratorMissing(Exception):
    """wrk is not installed; it is in Debian's package of that name."""


def compare_serving(
    dataset: Dataset, data_name: str, folder: Path, tell: Callable[[str], None], seconds: int = 5
) -> Figure:
    """Requests a second of both servers.

    Args:
        dataset: what is stored and asked.
        data_name: what the figure calls it.
        folder: an empty folder on the disk.
        tell: called with a line when a part is done.
        seconds: of each of the rounds, by server.

    Raises:
        LoadGeneratorMissing: there is no wrk.
    """
    if shutil.which("wrk") is None:
        raise LoadGeneratorMissing("wrk is not installed (apt-get install wrk)")
    data = folder / "headrace-serving"
    _fill(dataset, data)
    vectors_file = folder / "vectors.npy"
    np.save(vectors_file, dataset.vectors)
    bodies = [
        json.dumps({"query": query.tolist(), "limit": SEARCH_LIMIT}) for query in dataset.queries
    ]
    script = _write_script(folder, bodies)
    with ExitStack() as stack:
        ours = stack.enter_context(_server("headrace", "serve", "--data", str(data), *_ANY_PORTS))
        theirs = stack.enter_context(
            _server("benchmarks.bare_server", str(vectors_file), str(BARE_EF))
        )
        ours += f"/collections/{COLLECTION}/points/query"
        theirs += "/query"
        recalls = [_recall(url, bodies, dataset) for url in (ours, theirs)]
        tell(f"serving: recall {recalls[0]:.4f}, bare {recalls[1]:.4f}")
        rates: dict[str, list[float]] = {ours: [], theirs: []}
        for _ in range(_ROUNDS):
            for url, of_url in rates.items():
                of_url.append(_requests_per_s(url, script, seconds))
    ours_per_s, theirs_per_s = (median(of_url) for of_url in rates.values())
    return Figure(
        what=f"REST search, {CONNECTIONS} connections",
        ratio=ours_per_s / theirs_per_s,
        target=0.75,
        better="higher",
        unit="requests/s",
        headrace=ours_per_s,
        rival=theirs_per_s,
        rival_name="bare uvicorn handler over FAISS HNSW",
        data=data_name,
        recall=recalls[0],
        rival_recall=recalls[1],
    )


_ANY_PORTS = ("--http-port", "0", "--grpc-port", "0")


def _fill(dataset: Dataset, data: Path) -> None:
    """Store all points and wait until they are indexed."""
    with closing(HeadraceSide(data, dataset.dim)) as side:
        side.upsert_all(dataset)
        side.wait_until_indexed()


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    """A server as a process of its own; gives its REST address once it answers."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if found := re.search(r"http://[\d.]+:\d+", line):
                    yield found[0]
                    return
            raise RuntimeError(f"{module} ended with {process.wait()} before it served")
        finally:
            process.terminate()


def _write_script(folder: Path, bodies: Sequence[str]) -> Path:
    bodies_file = folder / "bodies.jsonl"
    bodies_file.write_text("\n".join(bodies) + "\n", encoding="utf-8")
    script = folder / "queries.lua"
    script.write_text(_WRK_SCRIPT % bodies_file, encoding="utf-8")
    return script


def _recall(url: str, bodies: Sequence[str], dataset: Dataset) -> float:
    found = [[point["id"] for point in _post(url, body)] for body in bodies]
    scores = exact_scores(dataset.vectors, dataset.queries)
    return recall_of(SEARCH_LIMIT, found, list(scores))


def _post(url: str, body: str) -> list[dict[str, int]]:
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        points: list[dict[str, int]] = json.load(response)["result"]["points"]
    return points


def _requests_per_s(url: str, script: Path, seconds: int) -> float:
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60)
    found = _REQUESTS_PER_S.search(done.stdout)
    if found is None or _FAILED.search(done.stdout):
        raise RuntimeError(f"wrk did not measure answers alone:\n{done.stdout}{done.stderr}")
    return float(found[1])
