"""A source that is read again from elsewhere: what collections forget, and what they keep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.engine.engine import Engine
from headrace.model.collection_config import CollectionConfig
from headrace.model.operations import SourceOffset, SourcePartition, WriteBatch

FIRST = SourcePartition("connect-a", "topic", 0)
SECOND = SourcePartition("connect-a", "topic", 1)
OTHER = SourcePartition("connect-b", "topic", 0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine.open(tmp_path)
    taken = [SourceOffset(FIRST, 10), SourceOffset(SECOND, 20), SourceOffset(OTHER, 30)]
    engine.create_collection("c", CollectionConfig(vectors={}))
    engine.collection("c").write(WriteBatch([], taken))
    engine.set_source_positions(taken)
    yield engine
    engine.close()


def test_a_collection_takes_again_from_where_its_source_is_moved_back_to(engine: Engine) -> None:
    engine.move_source({FIRST: 4})
    assert engine.source_positions("connect-a") == {FIRST: 4, SECOND: 20}
    assert engine.collection("c").source_offsets() == {FIRST: 4, SECOND: 20, OTHER: 30}


def test_a_source_that_is_moved_ahead_leaves_collections_as_they_are(engine: Engine) -> None:
    engine.move_source({FIRST: 15})
    assert engine.source_positions("connect-a") == {FIRST: 15, SECOND: 20}
    assert engine.collection("c").source_offsets()[FIRST] == 10


def test_a_source_that_is_moved_to_none_was_never_read(engine: Engine) -> None:
    engine.move_source({FIRST: None, SECOND: None})
    assert engine.source_positions("connect-a") == {}
    assert engine.collection("c").source_offsets() == {OTHER: 30}
    assert engine.source_positions("connect-b") == {OTHER: 30}


def test_a_moved_source_is_moved_after_a_restart(engine: Engine, tmp_path: Path) -> None:
    engine.move_source({FIRST: 4, SECOND: None})
    engine.close()
    engine = Engine.open(tmp_path)
    try:
        assert engine.source_positions("connect-a") == {FIRST: 4}
        assert engine.collection("c").source_offsets() == {FIRST: 4, OTHER: 30}
    finally:
        engine.close()
