"""One bit flipped, a file missing, cut, swapped or stale: found, named, never served."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.model.aliases import CreateAlias
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.errors import CorruptFile
from headrace.model.operations import CreatePayloadIndex, SourceOffset, WriteBatch
from headrace.model.upserts import build_upsert
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point, seal, state_of
from tests.engine.storage.faulty_file_ops import FaultyFileOps

# Files that hold nothing that was acknowledged.
IRRELEVANT = {"lock"}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cleanly closed directory with two checkpoints' files, graphs, a log and documents."""
    directory = tmp_path_factory.mktemp("stored")
    rng = random.Random(3)
    engine = Engine.open(directory)
    engine.create_collection("c", CONFIG)
    collection = engine.collection("c")
    points = [random_point(n, rng) for n in range(3000)]
    collection.write(WriteBatch([build_upsert(points[:2900], CONFIG)]))
    seal(engine, collection)
    collection.checkpoint()
    index = CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))
    collection.write(WriteBatch([build_upsert(points[2900:2950], CONFIG), index]))
    collection.checkpoint()
    collection.write(WriteBatch([build_upsert(points[2950:], CONFIG)]))
    engine.change_aliases([CreateAlias("c", "alias")])
    engine.set_source_positions([SourceOffset(PARTITION, 3)])
    engine.close()
    assert list(directory.rglob("*-graph.data"))
    return directory


def files_of(directory: Path) -> list[Path]:
    return sorted(
        path for path in directory.rglob("*") if path.is_file() and path.name not in IRRELEVANT
    )


def assert_found(directory: Path, path: Path) -> None:
    with pytest.raises(CorruptFile) as caught:
        Engine.open(directory, FaultyFileOps())
    assert caught.value.path.startswith(str(path.parent))


def flip_and_open(stored: Path, tmp_path: Path, rng: random.Random, flips: int) -> None:
    paths = files_of(stored)
    sizes = [path.stat().st_size for path in paths]
    for _ in range(flips):
        # Small files are hit as often as large ones half of the time.
        path = rng.choice(paths) if rng.random() < 0.5 else rng.choices(paths, sizes)[0]
        content = bytearray(path.read_bytes())
        bit = rng.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        directory = tmp_path / "damaged"
        shutil.copytree(stored, directory)
        damaged = directory / path.relative_to(stored)
        damaged.write_bytes(content)
        assert_found(directory, damaged)
        shutil.rmtree(directory)


def test_200_flipped_bits_are_found(stored: Path, tmp_path: Path) -> None:
    flip_and_open(stored, tmp_path, random.Random(1), 200)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_10000_flipped_bits_are_found(stored: Path, tmp_path: Path) -> None:
    flip_and_open(stored, tmp_path, random.Random(2), 10_000)


def test_a_missing_file_is_found(stored: Path, tmp_path: Path) -> None:
    for path in files_of(stored):
        if path.name == "checkpoint.doc":
            continue
        directory = tmp_path / "damaged"
        shutil.copytree(stored, directory)
        damaged = directory / path.relative_to(stored)
        damaged.unlink()
        assert_found(directory, damaged)
        shutil.rmtree(directory)


def test_a_missing_manifest_is_found(stored: Path, tmp_path: Path) -> None:
    directory = tmp_path / "damaged"
    shutil.copytree(stored, directory)
    (directory / "collections/c/checkpoint.doc").unlink()
    with pytest.raises(CorruptFile):
        Engine.open(directory)


@pytest.mark.parametrize("damage", ["cut", "longer", "zeroed tail"])
def test_a_file_of_another_length_is_found(stored: Path, tmp_path: Path, damage: str) -> None:
    for path in (p for p in files_of(stored) if p.suffix == ".data"):
        content = path.read_bytes()
        changed = {
            "cut": content[:-7],
            "longer": content + b"\0" * 10,
            "zeroed tail": content[:-40] + bytes(40),
        }[damage]
        directory = tmp_path / "damaged"
        shutil.copytree(stored, directory)
        damaged = directory / path.relative_to(stored)
        damaged.write_bytes(changed)
        assert_found(directory, damaged)
        shutil.rmtree(directory)


def test_swapped_files_are_found(stored: Path, tmp_path: Path) -> None:
    values = [path for path in files_of(stored) if path.name.endswith("values.data")]
    for first, second in itertools.pairwise(values):
        directory = tmp_path / "damaged"
        shutil.copytree(stored, directory)
        one, other = (directory / path.relative_to(stored) for path in (first, second))
        content = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(content)
        assert_found(directory, one)
        shutil.rmtree(directory)


def test_an_undamaged_copy_opens(stored: Path, tmp_path: Path) -> None:
    shutil.copytree(stored, tmp_path / "copy")
    engine = Engine.open(tmp_path / "copy")
    assert len(state_of(engine.collection("c"))["points"]) == 1000
    assert engine.collection("c").points_count() == 3000
    engine.close()
