"""Which places lie in a box, a circle or a polygon?

Degrees of longitude and latitude; boxes and polygons are planar, circles lie on a sphere.
Borders belong to none of them (Qdrant's rule).
"""

from __future__ import annotations

from itertools import pairwise
from math import asin, cos, radians, sin, sqrt

from headrace.engine.payload.paths import JsonValue
from headrace.model.filters import Geo, GeoBoundingBox, GeoPolygon, GeoRadius

GeoShape = GeoBoundingBox | GeoRadius | GeoPolygon

# Mean radius of the GRS80 ellipsoid, (2 * equatorial + polar) / 3: that of Qdrant's library.
EARTH_RADIUS_M = 6_371_008.8

# Qdrant knows the first spelling; the second is common in data and counts here too.
_SPELLINGS = (("lon", "lat"), ("longitude", "latitude"))


def geo_of(value: JsonValue) -> Geo | None:
    """The place a payload value names: an object with numeric longitude and latitude."""
    if not isinstance(value, dict):
        return None
    for lon_name, lat_name in _SPELLINGS:
        lon, lat = _degrees(value.get(lon_name)), _degrees(value.get(lat_name))
        if lon is not None and lat is not None:
            return Geo(lon, lat)
    return None


def is_on_earth(place: Geo) -> bool:
    """Whether both degrees are in range, as a geo index demands."""
    return -180 <= place.lon <= 180 and -90 <= place.lat <= 90


def shape_contains(shape: GeoShape, place: Geo) -> bool:
    """Whether `place` lies inside, not on the border."""
    match shape:
        case GeoBoundingBox(top_left, bottom_right):
            return _box_contains(top_left, bottom_right, place)
        case GeoRadius(center, radius_m):
            return haversine_m(center, place) < radius_m
        case GeoPolygon(exterior, interiors):
            return _ring_contains(exterior, place) and not any(
                _ring_contains(ring, place) or _ring_touches(ring, place) for ring in interiors
            )


def haversine_m(a: Geo, b: Geo) -> float:
    """Great-circle distance in metres."""
    lat_a, lat_b = radians(a.lat), radians(b.lat)
    half_lat = radians(b.lat - a.lat) / 2
    half_lon = radians(b.lon - a.lon) / 2
    chord = sin(half_lat) ** 2 + cos(lat_a) * cos(lat_b) * sin(half_lon) ** 2
    # Places off the earth, or rounding at antipodes, may leave the domain of asin.
    return EARTH_RADIUS_M * 2 * asin(min(1.0, sqrt(max(0.0, chord))))


def _degrees(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _box_contains(top_left: Geo, bottom_right: Geo, place: Geo) -> bool:
    if not bottom_right.lat < place.lat < top_left.lat:
        return False
    if top_left.lon > bottom_right.lon:  # across the antimeridian
        return place.lon > top_left.lon or place.lon < bottom_right.lon
    return top_left.lon < place.lon < bottom_right.lon


def _ring_contains(ring: tuple[Geo, ...], place: Geo) -> bool:
    """Even-odd rule: a ray towards the east crosses the ring an odd number of times."""
    if _ring_touches(ring, place):
        return False
    crossings = 0
    for a, b in pairwise(ring):
        if (a.lat > place.lat) != (b.lat > place.lat):
            rises = b.lat > a.lat
            crossings += (_cross(a, b, place) > 0) == rises
    return crossings % 2 == 1


def _ring_touches(ring: tuple[Geo, ...], place: Geo) -> bool:
    return any(
        _cross(a, b, place) == 0
        and min(a.lon, b.lon) <= place.lon <= max(a.lon, b.lon)
        and min(a.lat, b.lat) <= place.lat <= max(a.lat, b.lat)
        for a, b in pairwise(ring)
    )


def _cross(a: Geo, b: Geo, place: Geo) -> float:
    """Positive where `place` lies to the left of the line from a to b, zero on it."""
    return (b.lon - a.lon) * (place.lat - a.lat) - (place.lon - a.lon) * (b.lat - a.lat)
