"""How do the parts of several sets of rows become those of one?"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from headrace.engine.payload_index.build import Part
from headrace.engine.payload_index.elements import merge_elements
from headrace.engine.payload_index.numbers import Numbers, merge_numbers
from headrace.engine.payload_index.part_key import POINTS, PartKey, PartKind, Space
from headrace.engine.payload_index.places import Places, merge_places
from headrace.engine.payload_index.shapes import Shapes, merge_shapes
from headrace.engine.payload_index.terms import Terms, merge_terms
from headrace.engine.payload_index.texts import Texts, merge_texts
from headrace.model.vectors import Rows


def merge_parts(
    keys: Collection[PartKey],
    parts: Sequence[Mapping[PartKey, Part]],
    new_rows: Sequence[Rows],
    row_count: int,
) -> dict[PartKey, Part]:
    """The parts of merged rows.

    Args:
        keys: which parts; each is among the parts of every source.
        parts: of each source.
        new_rows: for each source, by row: the row in the result, or -1 to leave it out.
        row_count: how many rows the result has.
    """
    merged: dict[PartKey, Part] = {}
    moved: dict[Space, tuple[Sequence[Rows], int]] = {POINTS: (new_rows, row_count)}
    for key in sorted(keys, key=_outer_first):
        rows, count = moved[key.space]
        sources: list[Any] = [source[key] for source in parts]
        if key.kind is PartKind.ELEMENTS:
            elements, numbers = merge_elements(sources, rows, count)
            merged[key] = elements
            moved[key.inner_space] = (numbers, len(elements))
        else:
            merged[key] = _merge_kind(sources, rows, count)
    return merged


def _outer_first(key: PartKey) -> tuple[int, bool]:
    return len(key.space), key.kind is not PartKind.ELEMENTS


def _merge_kind(sources: list[Any], rows: Sequence[Rows], count: int) -> Part:
    kind = type(sources[0])
    if kind is Numbers:
        return merge_numbers(sources, rows, count)
    if kind is Terms:
        return merge_terms(sources, rows, count)[0]
    if kind is Shapes:
        return merge_shapes(sources, rows, count)
    if kind is Places:
        return merge_places(sources, rows, count)
    assert kind is Texts, kind
    return merge_texts(sources, rows, count)
