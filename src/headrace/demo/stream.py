"""Which records does the demo produce, and what must the store hold after them?

Every airport once for each format, among them a few records that must be refused; then
corrections of some airports, and tombstones for some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.demo.dataset import NOT_KNOWN, Airport
from headrace.demo.embedding import TEXT_DIM
from headrace.demo.formats import DEFAULT, HYBRID, MULTI, SPARSE, MessageFormat

# The country whose airports stay; the four elsewhere are taken back by tombstones.
COUNTRY_KEPT = "USA"

# A bad record follows after each so many good ones.
_GOOD_BETWEEN_BAD = 1_500


@dataclass(frozen=True)
class StreamRecord:
    """One record to produce: the bytes of its key and value; a tombstone has no value."""

    kafka_key: bytes | None
    value: bytes | None


@dataclass(frozen=True)
class BadRecord:
    """A value that must be refused.

    Attributes:
        value: its bytes.
        reason: what its dead letter's reason must contain.
    """

    value: bytes
    reason: str


def _bad(reason: str, collection_name: str, **fields: Any) -> BadRecord:
    return BadRecord(orjson.dumps({"collection_name": collection_name, **fields}), reason)


BAD_RECORDS: tuple[BadRecord, ...] = (
    BadRecord(b'{"collection_name": "airports-default", "id": 1, "vec', "serialization error"),
    _bad("'id' value is required", DEFAULT, vector=[0.5] * TEXT_DIM),
    _bad("Point ID must be a positive integer", DEFAULT, id=-1),
    _bad("Point ID must be a valid UUID string. Invalid UUID: 'ORD'", HYBRID, id="ORD"),
    _bad("Payload must be an object.", DEFAULT, id=1, payload=["Chicago"]),
    _bad("expected dim: 256, got 3", DEFAULT, id=1, vector=[0.1, 0.2, 0.3]),
    _bad(
        "Multi vector rows must have consistent dimensions (expected: 2, found: 1)",
        MULTI,
        id=1,
        vector={"name_words": [[0.1, 0.2], [0.3]]},
    ),
    _bad(
        "Sparse vector 'indices' and 'values' must have the same length (indices: 2, values: 1)",
        SPARSE,
        id=1,
        vector={"words": {"indices": [1, 2], "values": [0.5]}},
    ),
)


class DemoStream:
    """The records of one run.

    Args:
        airports: the data.
        formats: the formats to send each of them in.
    """

    def __init__(self, airports: Sequence[Airport], formats: Sequence[MessageFormat]) -> None:
        self._airports = airports
        self._formats = formats
        self._corrected = [
            rank for rank, one in enumerate(airports) if NOT_KNOWN in (one.city, one.state)
        ]
        self._removed = [rank for rank, one in enumerate(airports) if one.country != COUNTRY_KEPT]

    def __len__(self) -> int:
        """How many records there are, bad ones and tombstones too."""
        changes = len(self._corrected) + len(self._removed)
        return (len(self._airports) + changes) * len(self._formats) + len(BAD_RECORDS)

    def __iter__(self) -> Iterator[StreamRecord]:
        """The records, in the order to produce them in."""
        bad = iter(BAD_RECORDS)
        produced = 0
        for rank, airport in enumerate(self._airports):
            for one in self._formats:
                yield _upsert(one, rank, airport, airport.payload())
                produced += 1
                if produced % _GOOD_BETWEEN_BAD == 0:
                    yield from (StreamRecord(None, bad_one.value) for bad_one in _next(bad))
        yield from (StreamRecord(None, bad_one.value) for bad_one in bad)
        for one in self._formats:
            for rank in self._corrected:
                airport = self._airports[rank]
                yield _upsert(one, rank, airport, airport.corrected_payload())
            for rank in self._removed:
                yield StreamRecord(_kafka_key(one, self._airports[rank]), None)

    def expected_payloads(self, one: MessageFormat) -> dict[int | str, dict[str, Any]]:
        """The fold of the records for one format: each point's payload, by point id."""
        removed = set(self._removed)
        return {
            one.id_of(airport): airport.corrected_payload()
            for rank, airport in enumerate(self._airports)
            if rank not in removed
        }


def _next(bad: Iterator[BadRecord]) -> list[BadRecord]:
    following = next(bad, None)
    return [] if following is None else [following]


def _kafka_key(one: MessageFormat, airport: Airport) -> bytes:
    """The key of all records of a point, so that they share a partition and keep their order."""
    return orjson.dumps({"id": one.id_of(airport), "collection_name": one.collection_name})


def _upsert(
    one: MessageFormat, rank: int, airport: Airport, payload: dict[str, Any]
) -> StreamRecord:
    value = {
        "collection_name": one.collection_name,
        "id": one.id_of(airport),
        "vector": one.vector_of(rank),
        "payload": payload,
    }
    return StreamRecord(
        _kafka_key(one, airport), orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    )
