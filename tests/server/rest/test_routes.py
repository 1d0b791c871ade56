"""A path finds the route that Starlette's router would find."""

from __future__ import annotations

import pytest
from starlette.routing import compile_path

from headrace.server.rest.app import JSON_ROUTES, path_as_sent
from headrace.server.rest.routes import JsonRoute, RouteTable

TABLE = RouteTable((route, route) for route in JSON_ROUTES)
PARAMETERS = {"{collection_name}": "a%2Fb", "{id}": "7", "{name}": "x.y", "{snapshot_name}": "s"}


def filled(path: str) -> str:
    """A path with something in the place of each parameter."""
    return "/".join(
        PARAMETERS.get(segment, "0") if segment.startswith("{") else segment
        for segment in path.split("/")
    )


@pytest.mark.parametrize("route", JSON_ROUTES, ids=lambda route: route.name)
def test_each_route_is_found_with_its_parameters(route: JsonRoute) -> None:
    path = filled(route.path)
    expected = next(
        (one, matched.groupdict())
        for one in JSON_ROUTES
        if one.method == route.method and (matched := compile_path(one.path)[0].match(path))
    )
    assert TABLE.find(route.method, path) == expected


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("DELETE", "/collections/c/points/query"),
        ("POST", "/collections//points/query"),
        ("POST", "/collections/c/points/query/more"),
        ("POST", "collections/c/points/query"),
        ("get", "/collections"),
    ],
)
def test_other_paths_and_methods_find_nothing(method: str, path: str) -> None:
    assert TABLE.find(method, path) is None


def test_slashes_at_the_end_of_a_path_are_no_part_of_it() -> None:
    assert path_as_sent(b"/collections/%2F//") == "/collections/%2F"
    assert path_as_sent(b"///") == path_as_sent(b"") == "/"
