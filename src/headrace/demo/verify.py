"""Are the demo's own figures true? Each is compared with what the records must have made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qdrant_client import QdrantClient, models

from headrace.demo.searches import LIMIT, Payload, SearchResult
from headrace.demo.stream import BAD_RECORDS
from headrace.demo.topics import DeadLetter
from headrace.model.errors import HeadraceError

_PAGE_POINTS = 1_000


class DemoFailed(HeadraceError):
    """The demo ran, and did not end as it must."""


class WrongFigures(DemoFailed):
    """What the demo found is not what its records must have made."""


def check_points(
    client: QdrantClient, collection_name: str, expected: Mapping[int | str, Payload]
) -> None:
    """Every point that must be there is there, with its payload, and no other.

    Raises:
        WrongFigures: a point is missing, too many, or has another payload.
    """
    count = client.count(collection_name, exact=True).count
    found = {point.id: point.payload for point in _all_points(client, collection_name)}
    missing = [one for one in expected if one not in found]
    surplus = [one for one in found if one not in expected]
    if count != len(expected) or missing or surplus:
        raise WrongFigures(
            f"{collection_name} must have {len(expected):,} points and counts {count:,}; "
            f"{len(missing):,} are missing {missing[:3]}, {len(surplus):,} are too many "
            f"{surplus[:3]}"
        )
    changed = [one for one, payload in expected.items() if found[one] != payload]
    if changed:
        raise WrongFigures(
            f"{collection_name}: {len(changed):,} points have another payload than their "
            f"record, the first is {changed[0]}: {found[changed[0]]}"
        )


def check_dead_letters(letters: Sequence[DeadLetter]) -> None:
    """Each bad record is one dead letter, with its bytes and its reason, and there is no other.

    Raises:
        WrongFigures: one is missing, too many, or has another reason.
    """
    if Counter(letter.value for letter in letters) != Counter(bad.value for bad in BAD_RECORDS):
        raise WrongFigures(
            f"There must be {len(BAD_RECORDS)} dead letters, one for each bad record, "
            f"and {len(letters)} were found"
        )
    reasons = {letter.value: letter.reason for letter in letters}
    for bad in BAD_RECORDS:
        if bad.reason not in reasons[bad.value]:
            raise WrongFigures(
                f"The dead letter {bad.value[:80]!r} must say {bad.reason!r} "
                f"and says {reasons[bad.value]!r}"
            )


def check_search(result: SearchResult, expected: Mapping[int | str, Payload]) -> None:
    """As many points pass the filter as in plain Python, and every hit is one of them.

    Raises:
        WrongFigures: the count differs, hits are missing, or a hit does not pass.
    """
    search = result.search
    passing = sum(search.passes(payload) for payload in expected.values())
    if result.passing != passing:
        raise WrongFigures(
            f"{passing:,} points of {search.collection_name} pass the filter "
            f"({search.filter_text}), and the server counts {result.passing:,}"
        )
    if len(result.hits) != min(LIMIT, passing):
        raise WrongFigures(
            f"The search for {search.title} has {len(result.hits)} hits, not {min(LIMIT, passing)}"
        )
    for hit in result.hits:
        if hit.payload is None or not search.passes(hit.payload):
            raise WrongFigures(
                f"The search for {search.title} found point {hit.id}, which does not pass "
                f"its filter ({search.filter_text})"
            )


def _all_points(client: QdrantClient, collection_name: str) -> Iterator[models.Record]:
    page_start: Any = None
    while True:
        page, page_start = client.scroll(
            collection_name, limit=_PAGE_POINTS, offset=page_start, with_payload=True
        )
        yield from page
        if page_start is None:
            return
