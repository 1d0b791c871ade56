"""Points and payload indexes that a seed tells, here and in Qdrant's engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, NamedTuple

import orjson

from headrace.engine.payload.paths import JsonObject
from headrace.engine.query.mask import passing_set
from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import Filter
from headrace.model.ids import PointId
from headrace.model.operations import OverwritePayload, PointSelector
from tests.engine.filter.edge_shard import EdgeShard, edge_shard
from tests.engine.filter.named_differences import comparable_with_edge, unchanged_by_indexes
from tests.engine.filter.points import passing
from tests.engine.query.histories import random_payload
from tests.engine.query.stored_points import StoredPoints

Schema = dict[str, PayloadFieldSchema]

INDEXED_KEYS = ("a", "b", "b.c", "a[]", "a[0]", "n[].x", "n[].m[].x", "zz", '"odd key"')
POINT_COUNT = 60


class Answers(NamedTuple):
    """Who passes a filter, according to everyone.

    Attributes:
        evaluated: by the payloads, one by one.
        planned: by the payload index.
        unindexed_evaluated, unindexed_planned: the same where no field has an index.
    """

    evaluated: set[PointId]
    planned: set[PointId]
    unindexed_evaluated: set[PointId]
    unindexed_planned: set[PointId]


class RandomStores:
    """The same points here, with payload indexes and without, and in Qdrant's engine.

    Args:
        payloads: by id.
        schema: the payload indexes.
        edge: with the same points and indexes.
        random: says how the points are written, step by step.
    """

    def __init__(
        self,
        payloads: dict[PointId, JsonObject],
        schema: Schema,
        edge: EdgeShard,
        random: Random,
    ) -> None:
        self.payloads = payloads
        self.schema = schema
        self._edge = edge
        self._views = [_written(payloads, indexes, random) for indexes in (schema, {})]

    def assert_all_agree(self, filter: Filter) -> None:
        """On the filter, on what the engine can be asked of it, on what no index changes."""
        answers = self._answers(filter)
        told = f"{filter} over {self.schema}"
        assert answers.planned == answers.evaluated, f"index: {told}"
        assert answers.unindexed_planned == answers.unindexed_evaluated, f"columns: {told}"
        unchanged = self._answers(unchanged_by_indexes(filter, self.schema))
        assert unchanged.planned == unchanged.unindexed_planned, f"index or none: {told}"
        for_edge = comparable_with_edge(filter, self.schema)
        found = self._edge.passing(for_edge)
        assert passing(for_edge, self.payloads, self.schema) == found, f"engine: {told}"

    def _answers(self, filter: Filter) -> Answers:
        planned = [set(_planned(filter, view)) for view in self._views]
        return Answers(
            passing(filter, self.payloads, self.schema),
            planned[0],
            passing(filter, self.payloads, {}),
            planned[1],
        )


@contextmanager
def random_stores(seed: int, schema: Schema | None = None) -> Iterator[RandomStores]:
    """Stores that a seed tells; without a schema, that is drawn too."""
    random = Random(seed)
    payloads: dict[PointId, JsonObject] = {
        2 * number: random_payload(random) for number in range(POINT_COUNT)
    }
    if schema is None:
        schema = random_schema(random)
    for_edge = {id: _as_edge_reads_it(payload) for id, payload in payloads.items()}
    with edge_shard(for_edge, schema) as edge:
        yield RandomStores(payloads, schema, edge, random)


def random_schema(random: Random) -> Schema:
    """Payload indexes of some of the keys, of any type and with any options."""
    keys = random.sample(INDEXED_KEYS, random.randrange(1, 5))
    return {key: random_index(random) for key in keys}


def random_index(random: Random) -> PayloadFieldSchema:
    data_type = random.choice([*PayloadFieldType, PayloadFieldType.TEXT, PayloadFieldType.TEXT])
    options: dict[str, Any] = {}
    match data_type:
        case PayloadFieldType.INTEGER:
            options = random.choice([{}, {"lookup": False, "range": True}, {"range": False}])
        case PayloadFieldType.KEYWORD:
            options = random.choice([{}, {"prefix": True}, {"is_tenant": True}])
        case PayloadFieldType.TEXT:
            options = random_text_options(random)
    return PayloadFieldSchema(data_type, {"type": data_type.value, **options} if options else None)


def random_text_options(random: Random) -> dict[str, Any]:
    options: dict[str, Any] = {
        "tokenizer": random.choice(["word", "whitespace", "prefix", "multilingual"]),
        "min_token_len": random.randrange(1, 4),
        "max_token_len": random.randrange(3, 7),
        "lowercase": random.choice([True, False]),
        "ascii_folding": random.choice([True, False]),
        "phrase_matching": random.choice([True, True, False]),
        "stopwords": random.choice(["english", {"custom": ["RED", "quick"]}]),
        "stemmer": {"type": "snowball", "language": "english"},
    }
    return {name: value for name, value in options.items() if random.random() < 0.4}


def _written(payloads: dict[PointId, JsonObject], schema: Schema, random: Random) -> View:
    """A view whose rows lie in several runs, some of them beside every run."""
    ids = list(payloads)
    points = StoredPoints(schema)
    points.upsert([(id, payloads[id]) for id in ids[:20]])
    points.keep_up(is_settled=False)
    points.upsert([(id, random_payload(random)) for id in ids[10:40]])
    passing_set(Filter(), points.view)
    points.keep_up(is_settled=random.random() < 0.5)
    points.upsert([(id, payloads[id]) for id in ids[15:30]])
    points.apply(
        *(
            OverwritePayload(PointSelector(ids=(id,)), orjson.dumps(payloads[id]))
            for id in (*ids[10:15], *ids[30:40])
        )
    )
    points.upsert([(id, payloads[id]) for id in ids[40:]])
    return points.view


def _planned(filter: Filter, view: View) -> list[PointId]:
    ids: list[PointId] = view.segment.row_ids.get_many(passing_set(filter, view).rows)
    return ids


def _as_edge_reads_it(value: Any) -> Any:
    """The same payload with places spelled as the engine knows them."""
    match value:
        case {"longitude": lon, "latitude": lat}:
            return {"lon": lon, "lat": lat}
        case dict():
            return {name: _as_edge_reads_it(member) for name, member in value.items()}
        case list():
            return [_as_edge_reads_it(element) for element in value]
    return value
