from __future__ import annotations

from random import Random

import pytest

from headrace.engine.filter.geo import EARTH_RADIUS_M, geo_of, haversine_m, shape_contains
from headrace.engine.payload.paths import JsonObject
from headrace.model.filters import (
    FieldCondition,
    Filter,
    Geo,
    GeoBoundingBox,
    GeoPolygon,
    GeoRadius,
)
from tests.engine.filter.edge_shard import edge_shard
from tests.engine.filter.points import passing

BERLIN, MOSCOW = Geo(13.4050, 52.5200), Geo(37.6173, 55.7558)


def ring(*corners: tuple[float, float]) -> tuple[Geo, ...]:
    return tuple(Geo(lon, lat) for lon, lat in (*corners, corners[0]))


SQUARE = ring((0, 0), (5, 0), (5, 5), (0, 5))
HOLE = ring((2, 2), (3, 2), (3, 3), (2, 3))


def test_first_whole_pair_of_degrees_counts() -> None:
    assert geo_of({"lon": 1, "lat": 2.5}) == Geo(1.0, 2.5)
    assert geo_of({"longitude": 1, "latitude": 2}) == Geo(1.0, 2.0)
    assert geo_of({"lon": "east", "longitude": 1, "latitude": 2}) == Geo(1.0, 2.0)
    assert geo_of({"lon": 1, "latitude": 2}) is None
    assert geo_of({"lon": True, "lat": 2}) is None
    assert geo_of([1, 2]) is None


def test_border_of_a_box_is_outside() -> None:
    box = GeoBoundingBox(Geo(0.0, 10.0), Geo(10.0, 0.0))
    assert shape_contains(box, Geo(5.0, 5.0))
    for border in (Geo(0.0, 5.0), Geo(10.0, 5.0), Geo(5.0, 0.0), Geo(5.0, 10.0)):
        assert not shape_contains(box, border)


def test_box_whose_left_is_right_of_its_right_crosses_the_antimeridian() -> None:
    box = GeoBoundingBox(Geo(170.0, 10.0), Geo(-170.0, -10.0))
    assert shape_contains(box, Geo(175.0, 0.0))
    assert shape_contains(box, Geo(-175.0, 0.0))
    assert not shape_contains(box, Geo(0.0, 0.0))
    assert not shape_contains(box, Geo(170.0, 0.0))
    assert not shape_contains(box, Geo(175.0, 11.0))


def test_distance_is_along_the_great_circle() -> None:
    assert haversine_m(BERLIN, MOSCOW) == pytest.approx(1_608_900, rel=1e-3)
    assert haversine_m(Geo(179.5, 0.0), Geo(-179.5, 0.0)) == pytest.approx(111_195.08, abs=0.01)
    assert haversine_m(Geo(0.0, 0.0), Geo(180.0, 0.0)) == pytest.approx(EARTH_RADIUS_M * 3.14159265)


def test_radius_zero_contains_nothing() -> None:
    assert not shape_contains(GeoRadius(BERLIN, 0.0), BERLIN)
    assert shape_contains(GeoRadius(BERLIN, 1e-9), BERLIN)


def test_border_and_corners_of_a_polygon_are_outside() -> None:
    polygon = GeoPolygon(SQUARE, (HOLE,))
    assert shape_contains(polygon, Geo(1.0, 1.0))
    for outside in (Geo(0.0, 0.0), Geo(5.0, 2.0), Geo(2.5, 2.5), Geo(2.0, 2.5), Geo(6.0, 2.0)):
        assert not shape_contains(polygon, outside)


def test_ray_through_a_corner_counts_once() -> None:
    diamond = GeoPolygon(ring((0, 0), (2, 2), (4, 0), (2, -2)))
    assert shape_contains(diamond, Geo(1.0, 0.0))
    assert not shape_contains(diamond, Geo(-1.0, 0.0))
    assert not shape_contains(diamond, Geo(0.0, 2.0))


def test_shapes_agree_with_qdrant_on_a_grid() -> None:
    random = Random(3)
    grid = [Geo(lon / 2, lat / 2) for lon in range(-2, 13) for lat in range(-2, 13)]
    payloads: list[JsonObject] = [{"a": {"lon": place.lon, "lat": place.lat}} for place in grid]
    bow_tie = GeoPolygon(ring((0, 0), (4, 4), (4, 0), (0, 4)))
    stars = [
        GeoPolygon(ring(*((random.randrange(7), random.randrange(7)) for _ in range(5))))
        for _ in range(30)
    ]
    shapes = [GeoPolygon(SQUARE, (HOLE,)), bow_tie, *stars]
    circles = [
        GeoRadius(random.choice(grid), random.choice((0.0, 60_000.0, 250_000.0))) for _ in range(30)
    ]
    with edge_shard(payloads) as shard:
        for condition in (
            *(FieldCondition("a", geo_polygon=polygon) for polygon in shapes),
            *(FieldCondition("a", geo_radius=circle) for circle in circles),
        ):
            filter = Filter(must=(condition,))
            assert passing(filter, payloads) == shard.passing(filter), condition
