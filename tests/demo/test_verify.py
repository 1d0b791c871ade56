from __future__ import annotations

from typing import Any

import pytest
from qdrant_client import models

from headrace.demo.searches import LIMIT, SEARCHES, SearchResult
from headrace.demo.stream import BAD_RECORDS
from headrace.demo.topics import DeadLetter
from headrace.demo.verify import (
    WrongFigures,
    check_dead_letters,
    check_points,
    check_search,
)

HAWAII = SEARCHES[0]
PASSING = {"state": "HI"}
OTHER = {"state": "AK"}


class StoredPoints:
    """A client whose collection has these payloads."""

    def __init__(self, payloads: dict[int, Any]) -> None:
        self._payloads = payloads

    def count(self, collection_name: str, exact: bool) -> models.CountResult:
        return models.CountResult(count=len(self._payloads))

    def scroll(self, collection_name: str, **arguments: Any) -> tuple[list[models.Record], None]:
        return [models.Record(id=one, payload=self._payloads[one]) for one in self._payloads], None


@pytest.mark.parametrize(
    "stored",
    [{1: PASSING}, {1: PASSING, 2: PASSING}, {1: PASSING, 2: OTHER, 3: OTHER}, {1: OTHER}],
    ids=["missing", "another payload", "too many", "both"],
)
def test_stored_points_that_differ_fail_the_demo(stored: dict[int, Any]) -> None:
    expected: dict[int | str, Any] = {1: PASSING, 2: OTHER}
    client: Any = StoredPoints(stored)
    with pytest.raises(WrongFigures, match="airports"):
        check_points(client, "airports", expected)


def test_stored_points_that_are_equal_pass() -> None:
    client: Any = StoredPoints({1: PASSING, 2: OTHER})
    check_points(client, "airports", {1: PASSING, 2: OTHER})


def dead_letters() -> list[DeadLetter]:
    return [
        DeadLetter(one.value, f"it says: {one.reason}", "TASK_PUT", "0/1") for one in BAD_RECORDS
    ]


def test_each_bad_record_must_be_one_dead_letter_with_its_reason() -> None:
    check_dead_letters(dead_letters())
    with pytest.raises(WrongFigures, match="There must be"):
        check_dead_letters(dead_letters()[1:])
    with pytest.raises(WrongFigures, match="There must be"):
        check_dead_letters([*dead_letters(), dead_letters()[0]])
    first = DeadLetter(BAD_RECORDS[0].value, "another reason", "TASK_PUT", "0/1")
    with pytest.raises(WrongFigures, match="another reason"):
        check_dead_letters([first, *dead_letters()[1:]])


def hits(*payloads: Any) -> list[models.ScoredPoint]:
    return [models.ScoredPoint(id=1, version=1, score=0.5, payload=one) for one in payloads]


@pytest.mark.parametrize(
    ("found", "passing"),
    [
        (hits(*[PASSING] * LIMIT), LIMIT + 1),
        (hits(*[PASSING] * (LIMIT - 1)), LIMIT),
        (hits(*[PASSING] * (LIMIT - 1), OTHER), LIMIT),
    ],
    ids=["wrong count", "hit missing", "hit does not pass"],
)
def test_search_that_disagrees_with_plain_python_fails_the_demo(
    found: list[models.ScoredPoint], passing: int
) -> None:
    expected: dict[int | str, Any] = {**dict.fromkeys(range(LIMIT), PASSING), LIMIT: OTHER}
    check_search(SearchResult(HAWAII, hits(*[PASSING] * LIMIT), LIMIT), expected)
    with pytest.raises(WrongFigures):
        check_search(SearchResult(HAWAII, found, passing), expected)
