"""How do the bodies of facets and distance matrices become requests?"""

from __future__ import annotations

from typing import NamedTuple

from headrace.model.queries import Facet, MatrixRequest
from headrace.server.rest.body import Node, read_body
from headrace.server.rest.filters import optional_filter
from headrace.server.rest.points import read_shard_key
from headrace.server.rest.query_parts import LIMIT_DEFAULT, read_count_of, read_using

_SAMPLE_DEFAULT = 10
_NEIGHBOURS_DEFAULT = 3


class FacetRequest(NamedTuple):
    """A facet, and the shard key that it names."""

    facet: Facet
    shard_key: str | None


class SearchMatrixRequest(NamedTuple):
    """A distance matrix, and the shard key that it names."""

    matrix: MatrixRequest
    shard_key: str | None


def parse_facet(body: bytes) -> FacetRequest:
    """POST /facet. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _read_facet, "facet_request")


def parse_matrix(body: bytes) -> SearchMatrixRequest:
    """POST /points/search/matrix/*. Raises FormatError, InvalidBody, BadRequest."""
    return read_body(body, _read_matrix, "search_request")


def _read_facet(body: Node) -> FacetRequest:
    """`exact` is checked; an exact count is also a good estimate."""
    exact = body.get("exact")
    if exact is not None:
        exact.boolean()
    facet = Facet(
        key=body.require("key").payload_path(),
        filter=optional_filter(body, "filter"),
        limit=read_count_of(body, "limit", LIMIT_DEFAULT, minimum=1),
    )
    return FacetRequest(facet, read_shard_key(body))


def _read_matrix(body: Node) -> SearchMatrixRequest:
    matrix = MatrixRequest(
        using=read_using(body),
        filter=optional_filter(body, "filter"),
        sample=read_count_of(body, "sample", _SAMPLE_DEFAULT, minimum=2),
        limit=read_count_of(body, "limit", _NEIGHBOURS_DEFAULT, minimum=1),
    )
    return SearchMatrixRequest(matrix, read_shard_key(body))
