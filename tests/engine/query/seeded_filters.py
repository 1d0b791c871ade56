"""Filters of every kind that a seed tells, most of them about fields that have an index.

Hypothesis (`random_filters`) looks for the smallest odd case; this looks at many ordinary
ones: each operator is asked of each kind of index, with values that occur in payloads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from headrace.model.collection_config import PayloadFieldSchema, PayloadFieldType
from headrace.model.filters import (
    Condition,
    DatetimeRange,
    FieldCondition,
    Filter,
    Geo,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
    HasId,
    HasVector,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MatchPhrase,
    MatchPrefix,
    MatchText,
    MatchTextAny,
    MatchValue,
    MinShould,
    Nested,
    Range,
    Slice,
    ValuesCount,
)
from tests.engine.query.random_filters import (
    DATETIMES,
    ELEMENT_KEYS,
    INTEGERS,
    KEYS,
    PLACES,
    SENTENCES,
    UUID_TEXTS,
    WORDS,
)

Schema = Mapping[str, PayloadFieldSchema]

_FLOATS = (0.0, 1.0, 1.2, 1.5, -2.5, 5.0, 2.0**53, 1e300, -1e300)
_MICROS = (1_577_836_800_000_000, 1_592_224_200_123_456, -1, 0, 2**53 + 1)
_PREFIXES = ("", "r", "red", "Re", "2020", "café", "quick r")
_RINGS = (
    (Geo(0.0, 0.0), Geo(5.0, 0.0), Geo(5.0, 5.0), Geo(0.0, 5.0), Geo(0.0, 0.0)),
    (Geo(-40.0, 30.0), Geo(30.0, -30.0), Geo(30.0, 60.0), Geo(-40.0, 30.0)),
)
_HOLE = (Geo(0.5, 1.0), Geo(3.0, 1.0), Geo(3.0, 3.0), Geo(0.5, 3.0), Geo(0.5, 1.0))


class SeededFilters:
    """Filters, one after the other.

    Args:
        random: tells which.
        schema: the payload indexes whose fields they are mostly about.
    """

    def __init__(self, random: Random, schema: Schema) -> None:
        self._random = random
        self._schema = schema
        self._indexed = list(schema)

    def next(self) -> Filter:
        """A filter of few conditions, so that some points pass and others do not."""
        return self._filter(self._condition)

    def _filter(self, condition: Callable[[], Condition]) -> Filter:
        random = self._random

        def some(most: int) -> tuple[Condition, ...]:
            return tuple(condition() for _ in range(random.randint(1, most)))

        match random.randrange(8):
            case 0 | 1:
                return Filter(must=some(1))
            case 2:
                return Filter(must=some(2), must_not=some(1))
            case 3:
                return Filter(should=some(3))
            case 4:
                return Filter(must_not=some(2))
            case 5:
                return Filter(must=some(1), should=some(2))
            case 6:
                conditions = some(4)
                least = MinShould(conditions, random.randint(1, len(conditions)))
                return Filter(min_should=least)
        return Filter(must=(self._filter(condition),), must_not=some(1))

    def _condition(self) -> Condition:
        random = self._random
        if random.random() < 0.75:
            key = random.choice(KEYS)
            if self._indexed and random.random() < 0.75:
                key = random.choice(self._indexed)
            return self._field(key, self._schema.get(key))
        return self._other(KEYS, ("n", "n[]", "a", "b"))

    def _element_condition(self) -> Condition:
        random = self._random
        if random.random() < 0.8:
            key = random.choice(ELEMENT_KEYS)
            below = [path for path in self._indexed if path.endswith(f"[].{key}")]
            return self._field(key, self._schema[below[0]] if below else None)
        return self._other(ELEMENT_KEYS, ("m", "m[]", "x"))

    def _other(self, keys: tuple[str, ...], element_keys: tuple[str, ...]) -> Condition:
        random = self._random
        match random.randrange(8):
            case 0:
                return IsEmpty(random.choice(keys))
            case 1:
                return IsNull(random.choice(keys))
            case 2:
                return HasId(tuple(random.sample(range(130), random.randrange(60))))
            case 3:
                return HasVector(random.choice(("", "unknown")))
            case 4:
                return Slice(3, random.randrange(3))
        inner = self._filter(self._element_condition)
        return Nested(random.choice(element_keys), Filter() if random.random() < 0.1 else inner)

    def _field(self, key: str, schema: PayloadFieldSchema | None) -> FieldCondition:
        """One operator, sometimes two, mostly one that the index serves."""
        random = self._random
        names = list(self._operators())
        chosen = random.choice(names)
        if schema is not None and random.random() < 0.7:
            chosen = random.choice(_SERVED[schema.data_type])
        operators = {chosen}
        if random.random() < 0.15:
            operators.add(random.choice(names))
        drawn = {name: self._operators()[name]() for name in operators}
        return FieldCondition(key, **drawn)

    def _operators(self) -> dict[str, Callable[[], Any]]:
        random = self._random
        return {
            "match": self._match,
            "range": lambda: random.choice((self._range, self._datetime_range))(),
            "geo_bounding_box": self._box,
            "geo_radius": self._circle,
            "geo_polygon": lambda: GeoPolygon(random.choice(_RINGS), random.choice([(), (_HOLE,)])),
            "values_count": lambda: ValuesCount(**self._bounds(range(4))),
            "is_empty": lambda: random.random() < 0.5,
            "is_null": lambda: random.random() < 0.5,
        }

    def _match(self) -> Match:
        random = self._random
        text = random.choice((random.choice(SENTENCES), " ".join(random.choices(WORDS, k=2))))
        return random.choice(
            (
                lambda: MatchValue(random.choice((self._text(), self._integer(), True, False))),
                lambda: MatchAny(self._listed()),
                lambda: MatchExcept(self._listed()),
                lambda: MatchPrefix(random.choice(_PREFIXES)),
                lambda: MatchText(text),
                lambda: MatchTextAny(text),
                lambda: MatchPhrase(text),
            )
        )()

    def _listed(self) -> tuple[str, ...] | tuple[int, ...]:
        count = range(self._random.randrange(4))
        if self._random.random() < 0.5:
            return tuple(self._text() for _ in count)
        return tuple(self._integer() for _ in count)

    def _integer(self) -> int:
        return self._random.choice(INTEGERS)

    def _text(self) -> str:
        uuid = self._random.choice(UUID_TEXTS)
        spelled = (uuid, uuid.upper(), uuid.replace("-", ""), f"{{{uuid}}}", f"urn:uuid:{uuid}")
        kinds = (WORDS, SENTENCES, DATETIMES, spelled)
        return self._random.choice(self._random.choice(kinds))

    def _range(self) -> Range:
        return Range(**self._bounds((*_FLOATS, -3, 2, 4)))

    def _datetime_range(self) -> DatetimeRange:
        return DatetimeRange(**self._bounds(_MICROS))

    def _bounds(self, bounds: Any) -> dict[str, Any]:
        random = self._random
        lower, upper = sorted(random.choices(bounds, k=2))
        kept = {random.choice(("gt", "gte")): lower, random.choice(("lt", "lte")): upper}
        return {name: bound for name, bound in kept.items() if random.random() < 0.7}

    def _box(self) -> GeoBoundingBox:
        return self._random.choice(
            (
                GeoBoundingBox(Geo(-5.0, 5.0), Geo(5.0, -5.0)),
                GeoBoundingBox(Geo(0.0, 45.0), Geo(30.0, 0.0)),
                GeoBoundingBox(Geo(9.0, 45.0), Geo(-20.0, -45.0)),
            )
        )

    def _circle(self) -> GeoRadius:
        radius_m = self._random.choice((0.0, 1.0, 300_000.0, 4e6, 1e7, 1.9e7, 3e7))
        return GeoRadius(self._random.choice(PLACES), radius_m)


_SERVED: dict[PayloadFieldType, tuple[str, ...]] = {
    PayloadFieldType.KEYWORD: ("match",),
    PayloadFieldType.INTEGER: ("match", "range"),
    PayloadFieldType.FLOAT: ("range",),
    PayloadFieldType.BOOL: ("match",),
    PayloadFieldType.DATETIME: ("range",),
    PayloadFieldType.UUID: ("match",),
    PayloadFieldType.GEO: ("geo_bounding_box", "geo_radius", "geo_polygon"),
    PayloadFieldType.TEXT: ("match",),
}
