"""A program forks while 32 threads read and write, and neither side notices the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a program of its own, as a user's would be: forks copy all of a process.
PROGRAM = """
import os, sys, threading, time
import numpy as np
import headrace
from headrace.client.errors import UsedAfterFork
from headrace.engine.engine import Engine
from headrace.model.errors import DirectoryInUse, Unavailable
from headrace.model.operations import WriteBatch
from qdrant_client import models
from qdrant_client.http.exceptions import ResponseHandlingException

directory, forks = sys.argv[1], int(sys.argv[2])
client = headrace.connect(directory)
client.create_collection("c", vectors_config=models.VectorParams(size=4, distance="Dot"))
store = headrace.open(directory)
arrays = store.collection("c")
service = store._lease.store.service
collection = service._engine.collection("c")
stop = threading.Event()
failures, written = [], [0] * 32

def work(number):
    try:
        while not stop.is_set():
            point_id = number * 100_000 + written[number]
            vector = [float(number), 1.0, 2.0, float(written[number])]
            if written[number] % 2:
                client.upsert("c", [models.PointStruct(id=point_id, vector=vector)])
            else:
                arrays.upsert([point_id], np.array([vector], dtype=np.float32))
            written[number] += 1
            if not client.retrieve("c", [point_id]):
                failures.append(f"{point_id} is missing")
            if len(arrays.search(np.ones(4, dtype=np.float32), limit=3)[0].ids) < 1:
                failures.append("a search found nothing")
    except BaseException as error:
        failures.append(repr(error))

def refused(error_type, call):
    try:
        call()
    except error_type:
        return
    except ResponseHandlingException as error:
        assert isinstance(error.source, error_type), error
        return
    raise AssertionError("it was not refused")

def in_child():
    # What a child may not do is refused at once, whatever the parent's threads held.
    refused(UsedAfterFork, lambda: client.count("c"))
    refused(UsedAfterFork, lambda: client.delete_collection("c"))
    refused(UsedAfterFork, lambda: arrays.count())
    refused(UsedAfterFork, lambda: arrays.upsert([1], np.zeros((1, 4), dtype=np.float32)))
    refused(Unavailable, lambda: service.count("c"))
    refused(Unavailable, lambda: service._engine.create_snapshot("c"))
    refused(Unavailable, lambda: collection.write(WriteBatch([])))
    refused(Unavailable, collection.checkpoint)
    refused(DirectoryInUse, lambda: headrace.connect(directory))
    client.close()
    store.close()
    service.close()
    # And what it may do is a store of its own.
    own = headrace.connect(":memory:")
    own.create_collection("d", vectors_config=models.VectorParams(size=2, distance="Dot"))
    own.upsert("d", [models.PointStruct(id=1, vector=[1.0, 2.0])])
    assert own.count("d").count == 1
    own.close()

threads = [threading.Thread(target=work, args=(n,)) for n in range(32)]
for thread in threads:
    thread.start()
for _ in range(forks):
    time.sleep(0.02)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            in_child()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + 60
    while (done := os.waitpid(pid, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            failures.append("a child hangs")
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            break
        time.sleep(0.005)
    if done != (0, 0) and os.waitstatus_to_exitcode(done[1]) != 0:
        failures.append("a child failed")
stop.set()
for thread in threads:
    thread.join(60)
client.close()
store.close()
again = headrace.connect(directory)
if again.count("c").count != sum(written):
    failures.append(f"{sum(written)} written, {again.count('c').count} there")
again.close()
assert not failures, failures[:5]
print(sum(written))
"""


def fork_under_load(directory: Path, forks: int, timeout_s: int) -> int:
    """Returns how many points the threads wrote."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(directory), str(forks)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


@pytest.mark.timeout(200)
def test_5_forks_while_32_threads_read_and_write_disturb_nobody(tmp_path: Path) -> None:
    assert fork_under_load(tmp_path, 5, 180) > 32


@pytest.mark.slow
@pytest.mark.timeout(1300)
def test_100_forks_while_32_threads_read_and_write_disturb_nobody(tmp_path: Path) -> None:
    assert fork_under_load(tmp_path, 100, 1200) > 32
