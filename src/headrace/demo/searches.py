"""Which filtered searches does the demo run?

Each of the five collections at least once, and a filter of each type of payload. Beside
each filter stands the same condition in plain Python, which the answers are checked by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from headrace.demo.dataset import EARTH_RADIUS_KM, unit_vectors
from headrace.demo.embedding import TextEmbedding, WordWeights
from headrace.demo.formats import DEFAULT, HYBRID, MULTI, NAMED, SPARSE

LIMIT = 5

SAN_FRANCISCO = (37.7749, -122.4194)
GRAND_CANYON = (36.1069, -112.1129)

Payload = Mapping[str, Any]
# Latitude and longitude, in degrees.
Place = tuple[float, float]


@dataclass(frozen=True)
class Search:
    """One search.

    Attributes:
        title: what it looks for, in words.
        filter_text: its filter, in words.
        collection_name: where.
        query: makes the query, as qdrant-client takes it.
        vector_name: the vector it is compared with; None for the default vector.
        filter: the filter.
        passes: whether a payload passes the filter.
        shown_field: the payload field that shows why a hit passed.
    """

    title: str
    filter_text: str
    collection_name: str
    query: Callable[[QueryEncoder], list[float] | list[list[float]] | models.SparseVector]
    vector_name: str | None
    filter: models.Filter
    passes: Callable[[Payload], bool]
    shown_field: str


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        search: the search.
        hits: the best points, best first, with payload.
        passing: how many points of the collection pass the filter, by the server's count.
    """

    search: Search
    hits: Sequence[models.ScoredPoint]
    passing: int


class QueryEncoder:
    """Turns what a search looks for into the query vector of each kind."""

    def __init__(self, embedding: TextEmbedding, weights: WordWeights) -> None:
        self._embedding = embedding
        self._weights = weights

    def text(self, text: str) -> list[float]:
        """A dense vector of the whole text."""
        return [float(one) for one in self._embedding.of_texts([text])[0]]

    def each_word(self, text: str) -> list[list[float]]:
        """A multi-vector: a dense vector of each word."""
        return [[float(one) for one in row] for row in self._embedding.of_words([text])[0]]

    def rare_words(self, text: str) -> models.SparseVector:
        """A sparse vector of the words."""
        vector = self._weights.of_text(text)
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())

    def place(self, place: Place) -> list[float]:
        """A place as a point on the unit sphere."""
        return [float(one) for one in unit_vectors([place])[0]]


def run_search(client: QdrantClient, encoder: QueryEncoder, search: Search) -> SearchResult:
    """Run one search through the official client."""
    answer = client.query_points(
        search.collection_name,
        query=search.query(encoder),
        using=search.vector_name,
        query_filter=search.filter,
        limit=LIMIT,
        with_payload=True,
    )
    count = client.count(search.collection_name, count_filter=search.filter, exact=True)
    return SearchResult(search, answer.points, count.count)


def _must(condition: models.FieldCondition) -> models.Filter:
    return models.Filter(must=[condition])


def _match(payload_path: str, value: str | bool) -> models.FieldCondition:
    return models.FieldCondition(key=payload_path, match=models.MatchValue(value=value))


def _kilometres(payload: Payload, place: Place) -> float:
    ends = unit_vectors([(payload["latitude"], payload["longitude"]), place])
    return float(np.arccos(np.clip(ends[0] @ ends[1], -1.0, 1.0))) * EARTH_RADIUS_KM


SEARCHES: tuple[Search, ...] = (
    Search(
        "an island resort with a beach",
        "keyword: state is HI",
        DEFAULT,
        lambda encoder: encoder.text("island resort with a beach"),
        None,
        _must(_match("state", "HI")),
        lambda payload: payload["state"] == "HI",
        "state",
    ),
    Search(
        "names like 'mountain river valley'",
        "float: latitude from 60 up",
        NAMED,
        lambda encoder: encoder.text("mountain river valley"),
        "name",
        _must(models.FieldCondition(key="latitude", range=models.Range(gte=60.0))),
        lambda payload: float(payload["latitude"]) >= 60.0,
        "latitude",
    ),
    Search(
        "the airports nearest to the Grand Canyon",
        "keyword: state is AZ or UT; bool: not international",
        NAMED,
        lambda encoder: encoder.place(GRAND_CANYON),
        "place",
        models.Filter(
            must=[models.FieldCondition(key="state", match=models.MatchAny(any=["AZ", "UT"]))],
            must_not=[_match("international", True)],
        ),
        lambda payload: payload["state"] in ("AZ", "UT") and not payload["international"],
        "city",
    ),
    Search(
        "the words 'Chicago, Houston, international'",
        "bool: international",
        SPARSE,
        lambda encoder: encoder.rare_words("Chicago, Houston, international"),
        "words",
        _must(_match("international", True)),
        lambda payload: bool(payload["international"]),
        "international",
    ),
    Search(
        "each of the words 'county executive airport'",
        "geo: within 150 km of San Francisco",
        MULTI,
        lambda encoder: encoder.each_word("county executive airport"),
        "name_words",
        _must(
            models.FieldCondition(
                key="location",
                geo_radius=models.GeoRadius(
                    center=models.GeoPoint(lat=SAN_FRANCISCO[0], lon=SAN_FRANCISCO[1]),
                    radius=150_000.0,
                ),
            )
        ),
        lambda payload: _kilometres(payload, SAN_FRANCISCO) < 150.0,
        "location",
    ),
    Search(
        "a busy airport for business jets",
        "integer: 40 neighbours or more within 100 km",
        HYBRID,
        lambda encoder: encoder.text("busy airport for business jets"),
        "text",
        _must(models.FieldCondition(key="neighbours_100km", range=models.Range(gte=40))),
        lambda payload: int(payload["neighbours_100km"]) >= 40,
        "neighbours_100km",
    ),
    Search(
        "the words 'municipal field, MN'",
        "array: some word of the name is lake, river or falls",
        HYBRID,
        lambda encoder: encoder.rare_words("municipal field, MN"),
        "words",
        _must(
            models.FieldCondition(
                key="name_words", match=models.MatchAny(any=["lake", "river", "falls"])
            )
        ),
        lambda payload: not {"lake", "river", "falls"}.isdisjoint(payload["name_words"]),
        "name_words",
    ),
)
