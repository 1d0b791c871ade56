"""What do conditions see of the values at a path, in a chunk of documents?

The values as they are (arrays closed), and the leaves: each value, or each element of a
value that is an array. Integers beyond 64 bits are floats, as everywhere in payloads.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import compress
from typing import Any

from msgspec import UNSET

from headrace.engine.payload.paths import JsonValue, values_at
from headrace.model.payload_path import Key, PayloadPath

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1

RowValues = tuple[Sequence[int], Sequence[Any]]


class Leaves:
    """The values at one path in consecutive rows.

    Args:
        path: begins with the key that `members` are the values of.
        members: of each row, the value of that key, or UNSET.
        first_row: the row of the first.
    """

    def __init__(self, path: PayloadPath, members: Sequence[Any], first_row: int) -> None:
        self.first_row = first_row
        self.row_count = len(members)
        self.value_rows, self.values = _values(path, members, first_row)

    @cached_property
    def value_types(self) -> set[type]:
        """The Python types of the values, arrays closed."""
        return set(map(type, self.values))

    @cached_property
    def _opened(self) -> RowValues:
        if list not in self.value_types:
            return self.value_rows, self.values
        rows: list[int] = []
        leaves: list[JsonValue] = []
        for row, value in zip(self.value_rows, self.values, strict=True):
            if type(value) is list:
                rows.extend([row] * len(value))
                leaves.extend(value)
            else:
                rows.append(row)
                leaves.append(value)
        return rows, leaves

    def by_type(self) -> dict[type, RowValues]:
        """The leaves by Python type, with their rows; integers beyond int64 are left out.

        Those stand under `object`, as floats, since no 64-bit index holds them.
        """
        return self._by_type

    @cached_property
    def _by_type(self) -> dict[type, RowValues]:
        rows, leaves = self._opened
        types = list(map(type, leaves))
        kinds = set(types)
        if len(kinds) == 1:
            found: dict[type, RowValues] = {kinds.pop(): (rows, leaves)}
        else:
            found = {}
            for kind in kinds:
                chosen = [one is kind for one in types]
                found[kind] = list(compress(rows, chosen)), list(compress(leaves, chosen))
        integers = found.get(int)
        if (
            integers is not None
            and not _INT64_MIN <= min(integers[1]) <= max(integers[1]) <= _INT64_MAX
        ):
            found.update(_split_integers(*integers))
        return found

    def of_type(self, kind: type) -> RowValues:
        """The leaves of one Python type, with their rows."""
        return self._by_type.get(kind, ((), ()))


def _values(path: PayloadPath, members: Sequence[Any], first_row: int) -> RowValues:
    if len(path.steps) == 1:
        if UNSET not in members:
            return range(first_row, first_row + len(members)), members
        present = [member is not UNSET for member in members]
        rows = range(first_row, first_row + len(members))
        return list(compress(rows, present)), list(compress(members, present))
    first = path.steps[0]
    assert isinstance(first, Key), "a path begins with a key"
    found_rows: list[int] = []
    found: list[JsonValue] = []
    for row, member in enumerate(members, start=first_row):
        if member is not UNSET:
            for value in values_at({first.name: member}, path):
                found_rows.append(row)
                found.append(value)
    return found_rows, found


def _split_integers(rows: Sequence[int], integers: Sequence[int]) -> dict[type, RowValues]:
    fits = [_INT64_MIN <= number <= _INT64_MAX for number in integers]
    large = [not one for one in fits]
    return {
        int: (list(compress(rows, fits)), list(compress(integers, fits))),
        object: (list(compress(rows, large)), [float(n) for n in compress(integers, large)]),
    }
