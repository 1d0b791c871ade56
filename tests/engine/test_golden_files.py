"""Today's code opens the directories and snapshots that released versions wrote.

A file in `golden` is never changed. When a format changes, `write_golden` of that commit makes
another one beside it.
"""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.engine.catalogue import CATALOGUE_DOCUMENT, older_documents
from headrace.engine.engine import Engine
from headrace.engine.storage import data_file, files, wal_format
from headrace.engine.upkeep.check import check_directory
from headrace.engine.upkeep.repair import repair_directory
from headrace.model.aliases import CreateAlias
from headrace.model.errors import CorruptFile
from headrace.model.operations import SourceOffset, WriteBatch
from headrace.model.queries import Nearest, Query
from headrace.model.upserts import build_upsert
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point, seal, state_of
from tests.engine.snapshot.collections import fill

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = "expected.json"

# By file: the versions of the formats that are in it.
FORMATS = {
    "0.1.0.zip": {"data file": b"HRDATA01", "document": 1, "log": 1, "beside": "aliases.doc"},
    "0.1.0-catalogue.zip": {
        "data file": b"HRDATA01",
        "document": 1,
        "log": 1,
        "beside": "catalogue.doc",
    },
}


def shown(engine: Engine) -> dict[str, Any]:
    """What a reader sees of each collection, as JSON gives it back."""
    seen = {}
    for name in engine.collection_names():
        collection = engine.collection(name)
        query = Query(query=Nearest(np.array([1, 2, 3], dtype=np.float32)), limit=5)
        hits = collection.query(query, lambda name: engine.collection(name).view)
        seen[name] = {
            "state": state_of(collection),
            "nearest": [[hit.record.id, round(hit.score, 4)] for hit in hits],
            "graphs": [len(store.ranges) for store in collection.view.indexed_stores().values()],
            "schema": sorted(collection.payload_schema()),
        }
    aliases = [[one.alias_name, one.collection_name] for one in engine.aliases()]
    positions = list(engine.source_positions(PARTITION.source).values())
    seen["beside"] = {"aliases": aliases, "positions": positions}
    return dict(json.loads(json.dumps(seen, default=lambda payload: payload.decode())))


def write_golden(target: Path, work: Path) -> None:
    """Make a file for `golden` with what this version writes."""
    directory = work / "data"
    engine = Engine.open(directory)
    for name in ("c", "Ü/d"):
        engine.create_collection(name, CONFIG)
        collection = engine.collection(name)
        fill(collection, len(name))
        seal(engine, collection)
        collection.checkpoint()
        # The rest is in the log alone.
        points = [random_point(n, random.Random(n)) for n in range(35, 45)]
        collection.write(WriteBatch([build_upsert(points, CONFIG)]))
    engine.change_aliases([CreateAlias("c", "alias")])
    engine.set_source_positions([SourceOffset(PARTITION, 3)])
    engine.write_settings("quotas", {"points": 3})
    engine.create_full_snapshot()
    expected = shown(engine)
    engine.close()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in directory.rglob("*") if p.is_file()):
            archive.write(path, path.relative_to(work))
        archive.writestr(EXPECTED, json.dumps(expected, sort_keys=True))


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_directory_of_a_released_version_opens(tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(GOLDEN / name).extractall(tmp_path)
    expected = json.loads((tmp_path / EXPECTED).read_text())
    engine = Engine.open(tmp_path / "data")
    assert shown(engine) == expected
    assert (tmp_path / "data/catalogue.doc").exists()
    assert older_documents(tmp_path / "data") == []
    # It goes on from there, in whatever today's formats are.
    fill(engine.collection("c"), 99)
    engine.collection("c").checkpoint()
    changed = shown(engine)
    engine.close()
    engine = Engine.open(tmp_path / "data")
    assert shown(engine) == changed != expected
    engine.close()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_directory_of_a_released_version_is_read_beside_its_owner_and_checked(
    tmp_path: Path, name: str
) -> None:
    zipfile.ZipFile(GOLDEN / name).extractall(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    expected = json.loads((tmp_path / EXPECTED).read_text())
    reader = Engine.open(tmp_path / "data", read_only=True)
    assert shown(reader) == expected
    reader.close()
    assert check_directory(tmp_path / "data").problems == []
    assert {path: path.read_bytes() for path in files} == files
    repair_directory(tmp_path / "data", tmp_path / "repaired")
    engine = Engine.open(tmp_path / "repaired")
    assert shown(engine) == expected
    engine.close()


def test_a_damaged_document_of_an_older_version_is_found(tmp_path: Path) -> None:
    zipfile.ZipFile(GOLDEN / "0.1.0.zip").extractall(tmp_path)
    damaged = tmp_path / "data/aliases.doc"
    damaged.write_bytes(damaged.read_bytes().replace(b"alias", b"other"))
    assert [one.file for one in check_directory(tmp_path / "data").problems] == [str(damaged)]
    for read_only in (True, False):
        with pytest.raises(CorruptFile) as caught:
            Engine.open(tmp_path / "data", read_only=read_only)
        assert caught.value.path == str(damaged)
    report = repair_directory(tmp_path / "data", tmp_path / "repaired")
    assert report.left_out == [f"{damaged}: damaged"]
    engine = Engine.open(tmp_path / "repaired")
    assert engine.aliases() == []
    assert engine.source_positions(PARTITION.source) == {PARTITION: 3}
    engine.close()


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_a_snapshot_of_a_released_version_is_restored(tmp_path: Path, name: str) -> None:
    zipfile.ZipFile(GOLDEN / name).extractall(tmp_path)
    expected = json.loads((tmp_path / EXPECTED).read_text())
    [snapshot] = (tmp_path / "data").glob("snapshots/**/*.snapshot")
    engine = Engine.open(tmp_path / "new")
    engine.restore_collection("c", snapshot)
    assert shown(engine)["c"] == expected["c"]
    engine.close()


def test_there_is_a_golden_file_of_every_format_that_is_written() -> None:
    written = {
        "data file": data_file._MAGIC,
        "document": files.DOCUMENT_FORMAT_VERSION,
        "log": wal_format.FORMAT_VERSION,
        "beside": CATALOGUE_DOCUMENT,
    }
    assert written in FORMATS.values()
    assert sorted(path.name for path in GOLDEN.iterdir()) == sorted(FORMATS)


def test_a_golden_file_can_be_made_of_what_this_version_writes(tmp_path: Path) -> None:
    write_golden(tmp_path / "now.zip", tmp_path)
    shutil.rmtree(tmp_path / "data")
    zipfile.ZipFile(tmp_path / "now.zip").extractall(tmp_path)
    engine = Engine.open(tmp_path / "data")
    assert shown(engine) == json.loads((tmp_path / EXPECTED).read_text())
    engine.close()
