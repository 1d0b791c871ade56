"""Segments with a history: rows in several runs, replaced payloads, deleted points."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson

from headrace.engine.segment.segment import View
from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.operations import (
    DeletePayload,
    DeletePoints,
    OverwritePayload,
    PointSelector,
    SetPayload,
)
from tests.engine.query.random_filters import IDS, SCALARS
from tests.engine.query.stored_points import StoredPoints, upsert_of

Schema = dict[str, PayloadFieldSchema]


def schema_of(data_type: str, **params: Any) -> Schema:
    sent = {"type": data_type, **params} if params else None
    field = PayloadFieldSchema(PayloadFieldType(data_type), sent)
    return dict.fromkeys(("a", "b.c", "a[]", "n[].x", "n[].m[].x"), field)


SCHEMAS: dict[str, Schema] = {
    "no index": {},
    "keyword": schema_of("keyword"),
    "integer": schema_of("integer"),
    "integer lookup": schema_of("integer", lookup=True, range=False),
    "integer range": schema_of("integer", lookup=False, range=True),
    "float": schema_of("float"),
    "bool": schema_of("bool"),
    "datetime": schema_of("datetime"),
    "uuid": schema_of("uuid"),
    "geo": schema_of("geo"),
    "text": schema_of("text"),
    "text with phrases": schema_of("text", phrase_matching=True, stopwords="english"),
    "text prefixes": schema_of(
        "text", tokenizer="prefix", min_token_len=2, max_token_len=4, phrase_matching=True
    ),
}


def random_payload(random: Random) -> dict[str, Any]:
    def some_value() -> Any:
        scalars = [random.choice(SCALARS) for _ in range(random.randrange(4))]
        return scalars if random.random() < 0.4 else random.choice(SCALARS)

    def some_element() -> Any:
        inner = [{"x": some_value()} for _ in range(random.randrange(3))]
        element = {"x": some_value(), "y": some_value(), "m": inner}
        return random.choice([element, {"x": some_value()}, {}, random.choice(SCALARS)])

    payload = {
        "a": some_value(),
        "b": random.choice([{"c": some_value()}, {}, some_value()]),
        "n": random.choice([[some_element() for _ in range(random.randrange(4))], None]),
    }
    return {key: value for key, value in payload.items() if random.random() < 0.9}


class History:
    """The views that readers may hold while points are written in several steps."""

    def __init__(self, schema: Schema) -> None:
        self.views = views_of_a_history(schema)


def views_of_a_history(schema: Schema) -> list[View]:
    random = Random(len(schema))
    ids = [*range(120), *IDS[-2:]]
    points = StoredPoints(schema)
    views = []

    def fresh(count: int) -> list[Any]:
        return [(point_id, random_payload(random)) for point_id in random.sample(ids, count)]

    points.upsert([(point_id, random_payload(random)) for point_id in ids])
    views.append(points.view)
    points.keep_up(is_settled=False)
    points.upsert(fresh(40))
    views.append(points.view)
    points.segment.payload_index.coverage(views[0])
    points.keep_up(is_settled=False)
    points.apply(
        *(
            OverwritePayload(PointSelector(ids=(point_id,)), orjson.dumps(payload))
            for point_id, payload in fresh(25)
        ),
        SetPayload(PointSelector(ids=tuple(range(10))), orjson.dumps({"a": 1, "b": None})),
    )
    views.append(points.view)
    points.keep_up(is_settled=False)
    points.apply(
        DeletePoints(PointSelector(ids=tuple(range(50, 60)))),
        DeletePayload(PointSelector(ids=tuple(range(20, 30))), ("n[].x", "a")),
    )
    points.apply_and_take_back(
        upsert_of(fresh(10)),
        OverwritePayload(PointSelector(ids=tuple(range(30, 50))), b'{"a":"red"}'),
    )
    views.append(points.view)
    points.upsert(fresh(3))
    views.append(points.view)
    return views
