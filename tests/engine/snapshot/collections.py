"""Collections with something of everything in them, and what of them can be seen."""

from __future__ import annotations

import random
from pathlib import Path

from headrace.engine.collection.collection import Collection
from headrace.engine.engine import Engine
from headrace.engine.storage.file_ops import FILE_OPS, FileOps
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.operations import (
    CreatePayloadIndex,
    DeletePoints,
    PointSelector,
    SourceOffset,
    WriteBatch,
)
from headrace.model.upserts import build_upsert
from tests.crash.test_engine_crash import CONFIG, PARTITION, random_point


def fill(collection: Collection, seed: int, points: int = 40) -> None:
    """Write points, delete some, index a field, take a source forward."""
    rng = random.Random(seed)
    upsert = build_upsert([random_point(n, rng) for n in range(points)], CONFIG)
    delete = DeletePoints(PointSelector(ids=(1, 2)))
    index = CreatePayloadIndex("n", PayloadFieldSchema(PayloadFieldType.INTEGER))
    collection.write(WriteBatch([upsert, delete, index], [SourceOffset(PARTITION, seed)]))


def filled_engine(directory: Path, *names: str, ops: FileOps = FILE_OPS) -> Engine:
    """An engine with collections of these names, each filled in its own way."""
    engine = Engine.open(directory, ops)
    for seed, name in enumerate(names, start=10):
        engine.create_collection(name, CONFIG)
        fill(engine.collection(name), seed)
    return engine
