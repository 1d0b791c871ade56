"""Places in bands find what the evaluator's geometry finds for each place."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.engine.filter.geo import GeoShape, haversine_m, is_on_earth, shape_contains
from headrace.engine.payload_index.places import Places, PlacesBuilder, merge_places
from headrace.model.filters import Geo, GeoBoundingBox, GeoPolygon, GeoRadius

bounded = settings(max_examples=150, derandomize=True, database=None, deadline=None)

PLACE_COUNT = 600
_random = np.random.default_rng(5)


def _some_places() -> list[Geo]:
    """Everywhere, crowded in one spot, on a grid, at the edges, and off the earth."""
    spread = _random.uniform((-180, -90), (180, 90), (PLACE_COUNT // 3, 2))
    crowd = _random.normal((10, 50), 0.1, (PLACE_COUNT // 3, 2))
    grid = _random.integers(-9, 10, (PLACE_COUNT // 3, 2)) * 10.0
    edges = [(-180, 0), (180, 0), (0, 90), (0, -90), (180, 90), (-180, -90), (179.9, 89.9)]
    outside = [(200, 0), (0, 95), (-200, -95), (180.5, 10)]
    every = [*spread.tolist(), *crowd.tolist(), *grid.tolist(), *edges, *outside]
    return [Geo(float(lon), float(lat)) for lon, lat in every]


PLACES = _some_places()


def part_of(places: list[Geo]) -> Places:
    builder = PlacesBuilder()
    builder.add(range(len(places)), [(place.lon, place.lat) for place in places])
    return builder.finish(len(places))


PART = part_of(PLACES)

lons = st.floats(-180, 180) | st.integers(-18, 18).map(lambda tens: tens * 10.0)
lats = st.floats(-90, 90) | st.integers(-9, 9).map(lambda tens: tens * 10.0)
points = st.builds(Geo, lons, lats) | st.sampled_from(PLACES[:-4])
radii = (
    st.floats(0, 3e7)
    | st.sampled_from((0.0, 1e-9, 10_000.0, 2.0e7, 2.1e7, 1e300))
    # Exactly as far as some place is: the border is outside.
    | st.tuples(points, st.sampled_from(PLACES)).map(lambda pair: haversine_m(*pair))
)
rings = st.lists(points, min_size=3, max_size=6).map(lambda ring: (*ring, ring[0]))
shapes: st.SearchStrategy[GeoShape] = st.one_of(
    st.builds(GeoBoundingBox, points, points),
    st.builds(GeoRadius, points, radii),
    st.builds(GeoPolygon, rings, st.lists(rings, max_size=2).map(tuple)),
)


@bounded
@given(shape=shapes, indexed_only=st.booleans())
def test_a_shape_holds_the_same_places(shape: GeoShape, indexed_only: bool) -> None:
    expected = [
        row
        for row, place in enumerate(PLACES)
        if shape_contains(shape, place) and (is_on_earth(place) or not indexed_only)
    ]
    found = PART.inside(shape, indexed_only)
    assert found.row_set().rows.tolist() == expected
    everywhere = np.arange(len(PLACES))
    assert everywhere[found.holds(everywhere)].tolist() == expected
    assert found.at_most >= len(expected)


@bounded
@given(place=st.sampled_from(PLACES[:-4]), target=st.sampled_from(PLACES[:-4]))
def test_a_place_on_the_border_of_a_circle_is_outside(place: Geo, target: Geo) -> None:
    radius_m = haversine_m(place, target)
    held = PART.inside(GeoRadius(place, radius_m), indexed_only=True)
    assert not held.holds(np.array([PLACES.index(target)]))[0]


def test_no_places_at_all() -> None:
    empty = part_of([])
    assert empty.inside(GeoRadius(Geo(0, 0), 1e9), indexed_only=False).row_set().count == 0


def test_merged_places_are_found() -> None:
    half = len(PLACES) // 2
    parts = [part_of(PLACES[:half]), part_of(PLACES[half:])]
    new_rows = [np.arange(half), np.arange(half, len(PLACES))]
    new_rows[0][::3] = -1
    merged = merge_places(parts, new_rows, len(PLACES))
    circle = GeoRadius(Geo(10, 50), 50_000)
    expected = [
        row
        for row, place in enumerate(PLACES)
        if shape_contains(circle, place) and (row >= half or row % 3)
    ]
    assert merged.inside(circle, indexed_only=True).row_set().rows.tolist() == expected
