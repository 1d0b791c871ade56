"""A file system of a few megabytes fills up, for real, and gets room again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

import headrace
from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.model.errors import NoSpace
from tests.crash.test_engine_crash import seal
from tests.crash.test_engine_kill import CONFIG, assert_whole, numbered_batch

DISK_BYTES = 6 * 2**20
BALLAST_BYTES = 4 * 2**20
NO_SPACE = 507


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is half full: a file `ballast` can be removed from it."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mounted)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        (mounted / "ballast").write_bytes(bytes(BALLAST_BYTES))
        yield mounted
    finally:
        subprocess.run(["umount", "-l", str(mounted)], timeout=20, check=True)


def write_until_full(collection: Collection, number: int) -> int:
    """Returns the number of the last batch that was acknowledged."""
    for _ in range(100_000):
        try:
            collection.write(numbered_batch(1, number + 1))
        except NoSpace:
            return number
        number += 1
    raise AssertionError("the disk never was full")


def write_until_refused(collection: Collection, disk: Path, times: int) -> int:
    """As `write_until_full`, until it is refused so often in a row.

    A checkpoint in the background that finds no room gives back what it took, so that another
    write may pass meanwhile.
    """
    number, refused = 0, 0
    for _ in range(1_000):
        last = write_until_full(collection, number)
        refused = refused + 1 if last == number else 1
        number = last
        if refused == times:
            return number
        fill_rest(disk)
    raise AssertionError("the disk never stayed full")


def fill_rest(disk: Path) -> None:
    with (disk / "rest").open("ab", buffering=0) as rest:
        try:
            while rest.write(bytes(4096)):
                pass
        except OSError:
            return


def test_writes_are_refused_on_a_full_disk_and_resume_by_themselves(disk: Path) -> None:
    engine = Engine.open(disk / "data")
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    last = write_until_refused(collection, disk, times=3)
    assert collection.points_count() == 5
    with pytest.raises(NoSpace):
        engine.create_collection("d", CONFIG)
    with pytest.raises(NoSpace):
        engine.create_snapshot("c")
    seal(engine, collection)
    with pytest.raises(NoSpace):
        collection.checkpoint()

    (disk / "ballast").unlink()
    collection.write(numbered_batch(1, last + 1))
    collection.checkpoint()
    engine.create_collection("d", CONFIG)
    collection.write(numbered_batch(1, last + 2))
    engine.close()
    assert_whole(disk / "data", {1: last + 2})


def test_a_directory_is_closed_and_opened_on_a_full_disk(disk: Path) -> None:
    engine = Engine.open(disk / "data")
    engine.create_collection("c", CONFIG)
    last = write_until_full(engine.collection("c"), 0)
    fill_rest(disk)
    engine.close()
    assert_whole(disk / "data", {1: last})


def test_a_full_disk_answers_507_until_there_is_room(disk: Path) -> None:
    client = headrace.connect(disk / "data")
    vectors = models.VectorParams(size=256, distance=models.Distance.DOT)
    client.create_collection("c", vectors_config=vectors)
    written = upload_until_full(client)
    assert refusal(client, disk).status_code == NO_SPACE
    assert client.count("c").count == written
    assert len(client.query_points("c", query=[1.0] * 256, limit=5).points) == 5
    (disk / "ballast").unlink()
    client.upsert("c", [models.PointStruct(id=10**6, vector=[0.0] * 256)])
    client.close()
    again = headrace.connect(disk / "data")
    assert again.count("c").count == written + 1
    again.close()


def refusal(client: QdrantClient, disk: Path) -> UnexpectedResponse:
    """The answer to a write that replaces a point; a log that is cut meanwhile gives room."""
    for _ in range(100):
        fill_rest(disk)
        try:
            client.upsert("c", [models.PointStruct(id=0, vector=[0.0] * 256)])
        except UnexpectedResponse as error:
            return error
    raise AssertionError("there always was room")


def upload_until_full(client: QdrantClient) -> int:
    for begin in range(0, 100_000, 100):
        vectors = np.ones((100, 256), dtype=np.float32).tolist()
        points = [models.PointStruct(id=begin + i, vector=v) for i, v in enumerate(vectors)]
        try:
            client.upsert("c", points)
        except UnexpectedResponse:
            return begin
    raise AssertionError("the disk never was full")
