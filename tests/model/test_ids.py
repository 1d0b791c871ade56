"""Which texts are ids, and how ids are ordered."""

from __future__ import annotations

from uuid import UUID

import pytest

from headrace.model.ids import PointId, as_point_id, parse_uuid, point_id_order

ID = UUID("550e8400-e29b-41d4-a716-446655440000")


@pytest.mark.parametrize(
    "text",
    [
        "550e8400-e29b-41d4-a716-446655440000",
        "550E8400-E29B-41D4-A716-446655440000",
        "550e8400e29b41d4a716446655440000",
        "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
        "{550e8400-e29b-41d4-a716-446655440000}",
    ],
)
def test_all_spellings_are_the_same_id(text: str) -> None:
    assert parse_uuid(text) == ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1-1-1-1-1",
        "550e8400-e29b-41d4-a716-44665544000",
        "550e8400-e29b-41d4-a716-446655440000 ",
        "550e8400-e29b-41d4-a716-446655440000\n",
        "URN:UUID:550e8400-e29b-41d4-a716-446655440000",
        "{550e8400e29b41d4a716446655440000}",
        "urn:uuid:550e8400e29b41d4a716446655440000",
        "٥50e8400-e29b-41d4-a716-446655440000",
    ],
)
def test_other_texts_are_no_uuids(text: str) -> None:
    assert parse_uuid(text) is None


def test_numbers_come_before_uuids_and_uuids_go_by_their_bytes() -> None:
    ids: list[PointId] = [UUID(int=2**127), 2**64 - 1, UUID(int=1), 0]
    assert sorted(ids, key=point_id_order) == [0, 2**64 - 1, UUID(int=1), UUID(int=2**127)]


def test_a_payload_value_names_a_point_only_if_it_is_an_id() -> None:
    assert as_point_id(7) == 7
    assert as_point_id(str(ID)) == ID
    assert as_point_id(-1) is None
    assert as_point_id(2**64) is None
    assert as_point_id("seven") is None
