"""Where do the routes of one collection begin, and which route does a path have?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

from headrace.server.rest.endpoint import JsonRoute

__all__ = ["COLLECTION", "JsonRoute", "RouteTable"]

COLLECTION = "/collections/{collection_name}"

_T = TypeVar("_T")


class RouteTable(Generic[_T]):
    """What answers there, by method and path; of several that fit, the first.

    Starlette's router does the same, a regular expression at a time and behind three layers
    of middleware, which together cost a search more than parsing it does.

    Args:
        entries: routes in the order in which they are tried, and what to find for each.
    """

    def __init__(self, entries: Iterable[tuple[JsonRoute, _T]]) -> None:
        self._by_shape: dict[tuple[str, int], list[_Entry[_T]]] = {}
        for route, found in entries:
            segments = route.path.split("/")
            names = {
                place: segment[1:-1]
                for place, segment in enumerate(segments)
                if segment.startswith("{")
            }
            fixed = [(place, one) for place, one in enumerate(segments) if place not in names]
            entry = _Entry(fixed, list(names.items()), found)
            self._by_shape.setdefault((route.method, len(segments)), []).append(entry)

    def find(self, method: str, path: str) -> tuple[_T, dict[str, str]] | None:
        """What a path has, and its parameters, percent-encoded as they are in it.

        Args:
            method: in capitals.
            path: percent-encoded, without a slash at its end.
        """
        segments = path.split("/")
        for entry in self._by_shape.get((method, len(segments)), ()):
            if all(segments[place] == segment for place, segment in entry.fixed):
                parameters = {name: segments[place] for place, name in entry.names}
                if all(parameters.values()):
                    return entry.found, parameters
        return None


class _Entry(NamedTuple, Generic[_T]):
    """A route, cut at its slashes.

    Attributes:
        fixed: the segments that stand as they are, by their places.
        names: the parameters, by their places.
        found: what the route has.
    """

    fixed: list[tuple[int, str]]
    names: list[tuple[int, str]]
    found: _T
