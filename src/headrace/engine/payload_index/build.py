"""How do payloads become the parts of a payload index?

All parts that are wanted of some rows are built in one pass, so that each payload is
decoded once, a chunk at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from headrace.engine.filter.fields import values_count
from headrace.engine.filter.geo import geo_of
from headrace.engine.filter.indexed import indexed_value
from headrace.engine.filter.text import pipeline_of
from headrace.engine.payload.paths import JsonValue, values_at
from headrace.engine.payload_index.documents import member_reader
from headrace.engine.payload_index.elements import Elements, ElementsBuilder
from headrace.engine.payload_index.leaves import Leaves
from headrace.engine.payload_index.numbers import Numbers, NumbersBuilder
from headrace.engine.payload_index.part_key import POINTS, PartKey, PartKind, Space
from headrace.engine.payload_index.places import Places, PlacesBuilder
from headrace.engine.payload_index.shapes import Shapes, ShapesBuilder
from headrace.engine.payload_index.terms import Terms, TermsBuilder
from headrace.engine.payload_index.texts import Texts, TextsBuilder
from headrace.model.collection_config import PayloadFieldType
from headrace.model.datetimes import parse_datetime_micros
from headrace.model.ids import parse_uuid
from headrace.model.operations import PayloadJson
from headrace.model.payload_path import Key, PayloadPath, parse_payload_path

Part = Numbers | Terms | Shapes | Places | Texts | Elements


def build_parts(
    keys: Collection[PartKey],
    chunks: Iterable[Sequence[PayloadJson]],
    tell: Callable[[int], None],
) -> dict[PartKey, Part]:
    """The parts of rows, numbered from 0.

    Args:
        keys: which parts; a part inside elements needs those elements among the keys.
        chunks: the payloads of all rows, in order.
        tell: called with the number of rows read, after each chunk.
    """
    points = _SpaceBuilder(POINTS, keys)
    names = points.member_names()
    reader = member_reader(tuple(names))
    row_count = 0
    for chunk in chunks:
        members = dict(zip(names, reader.read(chunk), strict=True))
        points.add(members, len(chunk))
        row_count += len(chunk)
        tell(row_count)
    return points.finish()


class _Builder(Protocol):
    """Collects one part, a chunk of rows at a time."""

    def add(self, leaves: Leaves) -> None:
        """Take the values of the next rows."""

    def finish(self, row_count: int) -> Part:
        """The part."""


class _SpaceBuilder:
    """Builds the parts of one space, and through their elements those inside it."""

    def __init__(self, space: Space, keys: Collection[PartKey]) -> None:
        self._row_count = 0
        self._builders: dict[PayloadPath, list[tuple[PartKey, _Builder]]] = defaultdict(list)
        self._elements: list[tuple[PartKey, PayloadPath, ElementsBuilder, _SpaceBuilder]] = []
        for key in keys:
            if key.space != space:
                continue
            path = parse_payload_path(key.path)
            if key.kind is PartKind.ELEMENTS:
                inner = _SpaceBuilder(key.inner_space, keys)
                self._elements.append((key, path, ElementsBuilder(), inner))
            else:
                self._builders[path].append((key, _builder_of(key)))

    def member_names(self) -> list[str]:
        """The first keys of all paths."""
        paths = [*self._builders, *(path for _, path, _, _ in self._elements)]
        return list(dict.fromkeys(_first_key(path) for path in paths))

    def add(self, members: dict[str, list[Any]], count: int) -> None:
        """Take the next rows.

        Args:
            members: by name, the member of each row, or UNSET.
            count: how many rows there are.
        """
        first_row = self._row_count
        for path, builders in self._builders.items():
            leaves = Leaves(path, members[_first_key(path)], first_row)
            for _, builder in builders:
                builder.add(leaves)
        for _, path, elements, inner in self._elements:
            rows, objects = _objects(path, members[_first_key(path)], first_row)
            elements.add(rows)
            inner.add_objects(objects)
        self._row_count += count

    def add_objects(self, objects: Sequence[dict[str, JsonValue]]) -> None:
        """Take the next rows, as objects."""
        members = {
            name: [one.get(name, msgspec.UNSET) for one in objects] for name in self.member_names()
        }
        self.add(members, len(objects))

    def finish(self) -> dict[PartKey, Part]:
        """All parts."""
        parts: dict[PartKey, Part] = {}
        for builders in self._builders.values():
            parts.update((key, builder.finish(self._row_count)) for key, builder in builders)
        for key, _, elements, inner in self._elements:
            parts[key] = elements.finish(self._row_count)
            parts.update(inner.finish())
        return parts


def _first_key(path: PayloadPath) -> str:
    first = path.steps[0]
    assert isinstance(first, Key), "a path begins with a key"
    return first.name


def _objects(
    path: PayloadPath, members: Sequence[Any], first_row: int
) -> tuple[list[int], list[dict[str, JsonValue]]]:
    """The objects at a path, and their rows."""
    name = _first_key(path)
    rows: list[int] = []
    objects: list[dict[str, JsonValue]] = []
    for row, member in enumerate(members, start=first_row):
        if member is not msgspec.UNSET:
            for value in values_at({name: member}, path):
                if isinstance(value, dict):
                    rows.append(row)
                    objects.append(value)
    return rows, objects


class _Strings:
    def __init__(self) -> None:
        self._terms = TermsBuilder()

    def add(self, leaves: Leaves) -> None:
        self._terms.add(*leaves.of_type(str))

    def finish(self, row_count: int) -> Terms:
        return self._terms.finish(row_count)


class _Uuids:
    def __init__(self) -> None:
        self._terms = TermsBuilder()

    def add(self, leaves: Leaves) -> None:
        rows, texts = leaves.of_type(str)
        uuids = [
            (row, uuid)
            for row, text in zip(rows, texts, strict=True)
            if (uuid := parse_uuid(text)) is not None
        ]
        self._terms.add([row for row, _ in uuids], [str(uuid) for _, uuid in uuids])

    def finish(self, row_count: int) -> Terms:
        return self._terms.finish(row_count)


class _Numbers:
    """Numbers that a function takes out of leaves."""

    def __init__(
        self,
        dtype: type[np.generic],
        take: Callable[[Leaves], Iterable[tuple[Sequence[int], Sequence[int | float]]]],
    ) -> None:
        self._numbers = NumbersBuilder(dtype)
        self._take = take

    def add(self, leaves: Leaves) -> None:
        for rows, values in self._take(leaves):
            self._numbers.add(rows, values)

    def finish(self, row_count: int) -> Numbers:
        return self._numbers.finish(row_count)


class _Places:
    def __init__(self) -> None:
        self._places = PlacesBuilder()

    def add(self, leaves: Leaves) -> None:
        found_rows: list[int] = []
        found: list[tuple[float, float]] = []
        for row, value in zip(*leaves.of_type(dict), strict=True):
            lon, lat = value.get("lon"), value.get("lat")
            if type(lon) is not float or type(lat) is not float:
                place = geo_of(value)
                if place is None:
                    continue
                lon, lat = place.lon, place.lat
            found_rows.append(row)
            found.append((lon, lat))
        self._places.add(found_rows, found)

    def finish(self, row_count: int) -> Places:
        return self._places.finish(row_count)


class _Texts:
    def __init__(self, params: bytes) -> None:
        self._texts = TextsBuilder(pipeline_of(params))

    def add(self, leaves: Leaves) -> None:
        self._texts.add(*leaves.of_type(str))

    def finish(self, row_count: int) -> Texts:
        return self._texts.finish(row_count)


class _Shapes:
    def __init__(self) -> None:
        self._shapes = ShapesBuilder()

    def add(self, leaves: Leaves) -> None:
        self._shapes.add(leaves)

    def finish(self, row_count: int) -> Shapes:
        return self._shapes.finish()


def _builder_of(key: PartKey) -> _Builder:
    match key.kind:
        case PartKind.SHAPES:
            return _Shapes()
        case PartKind.STRINGS:
            return _Strings()
        case PartKind.UUIDS:
            return _Uuids()
        case PartKind.PLACES:
            return _Places()
        case PartKind.TEXT:
            return _Texts(key.params)
        case PartKind.INTEGERS:
            return _Numbers(np.int64, lambda leaves: [leaves.of_type(int)])
        case PartKind.WHOLE_NUMBERS:
            return _Numbers(np.int64, _whole_numbers)
        case PartKind.FLOATS:
            return _Numbers(np.float64, lambda leaves: map(leaves.of_type, (int, float, object)))
        case PartKind.BOOLS:
            return _Numbers(np.int8, lambda leaves: [leaves.of_type(bool)])
        case PartKind.DATETIMES:
            return _Numbers(np.int64, _datetimes)
        case PartKind.COUNTS:
            return _Numbers(np.int64, _counts)
    raise AssertionError(f"{key.kind} has a space of its own")


def _whole_numbers(leaves: Leaves) -> list[tuple[Sequence[int], Sequence[int]]]:
    """What an integer index holds."""
    rows: list[int] = []
    held: list[int] = []
    for kind in (float, object):
        for row, number in zip(*leaves.of_type(kind), strict=True):
            value = indexed_value(number, PayloadFieldType.INTEGER)
            if isinstance(value, int):
                rows.append(row)
                held.append(value)
    return [leaves.of_type(int), (rows, held)]


def _datetimes(leaves: Leaves) -> list[tuple[Sequence[int], Sequence[int]]]:
    rows, texts = leaves.of_type(str)
    found = [
        (row, micros)
        for row, text in zip(rows, texts, strict=True)
        if (micros := parse_datetime_micros(text)) is not None
    ]
    return [([row for row, _ in found], [micros for _, micros in found])]


def _counts(leaves: Leaves) -> list[tuple[Sequence[int], Sequence[int]]]:
    """How many values there are: 0 where there is none, one count for each value at a path."""
    counts = [values_count(value) for value in leaves.values]
    everywhere = range(leaves.first_row, leaves.first_row + leaves.row_count)
    missing = sorted(set(everywhere).difference(leaves.value_rows))
    return [(leaves.value_rows, counts), (missing, [0] * len(missing))]
