"""Which rows have a place inside a box, a circle or a polygon?

Places are cut into bands of latitude with equally many in each, and sorted by longitude
within a band. A shape's bounding box selects one stretch of each band it crosses; the
places there are tested, all at once, by the evaluator's own arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from math import asin, cos, degrees, isfinite, pi, radians, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.engine.filter.geo import EARTH_RADIUS_M, GeoShape, is_on_earth, shape_contains
from headrace.engine.payload_index.entries import Entries, LocalRows, expand
from headrace.engine.vectors.row_set import RowSet
from headrace.model.filters import Geo, GeoBoundingBox, GeoPolygon, GeoRadius
from headrace.model.vectors import Mask, Rows

Degrees = NDArray[np.float64]

# Bands are about as many as places in a band, times this: a stretch of a band costs a few
# places' tests.
_PLACES_PER_BAND_FACTOR = 8

# Bands are laid one behind the other on one axis, this far apart.
_BAND_STRIDE = 1024.0

# NumPy's sine and the standard library's may differ in the last place, a few units of
# 1e-16 of the earth's radius; distances nearer to the border than this are computed again
# as the evaluator does it.
_BORDER_M = 1e-3
_BOX_MARGIN_DEGREES = 1e-6


class _Box(NamedTuple):
    """Closed bounds around a shape, in degrees."""

    south: float
    north: float
    west: float
    east: float


class Places:
    """Places and their rows.

    The first `on_earth` entries are those with both degrees in range, sorted by band,
    then longitude; then come those that a geo index does not hold.

    Attributes:
        lon, lat: shape (n,), degrees.
        entries: the row of each.
        on_earth: how many have both degrees in range.
    """

    def __init__(self, lon: Degrees, lat: Degrees, entries: Entries, on_earth: int) -> None:
        self.lon = lon
        self.lat = lat
        self.entries = entries
        self.on_earth = on_earth

    @classmethod
    def of(cls, lon: Degrees, lat: Degrees, rows: LocalRows, row_count: int) -> Places:
        """Sort places.

        Args:
            lon, lat, rows: shape (n,), in any order.
            row_count: rows are below this.
        """
        fits = (lon >= -180) & (lon <= 180) & (lat >= -90) & (lat <= 90)
        inside = np.flatnonzero(fits)
        by_lat = inside[np.argsort(lat[inside], kind="stable")]
        band_of = np.arange(len(by_lat)) // _band_size(len(by_lat))
        by_band = by_lat[np.lexsort((lon[by_lat], band_of))]
        order = np.concatenate((by_band, np.flatnonzero(~fits)))
        return cls(lon[order], lat[order], Entries(rows[order], row_count), len(inside))

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return 3 * self.lon.nbytes + self.entries.nbytes

    def row_mask(self) -> Mask:
        """shape (row_count,): which rows have a place on earth."""
        return Entries(self.entries.rows[: self.on_earth], self.entries.row_count).row_mask()

    def inside(self, shape: GeoShape, indexed_only: bool) -> PlacesInside:
        """The rows with a place inside a shape.

        Args:
            shape: its border is outside.
            indexed_only: whether places off the earth are left out, as a geo index does.
        """
        return PlacesInside(self, shape, indexed_only)

    def candidates(self, shape: GeoShape) -> list[tuple[Rows, Rows]]:
        """The stretches of on-earth entries, as (begins, counts), that a shape may hold."""
        bands = []
        for box in _boxes(shape):
            first = int(np.searchsorted(self._band_norths, box.south))
            last = int(np.searchsorted(self._band_souths, box.north, side="right"))
            numbers = np.arange(first, max(first, last))
            strides = numbers * _BAND_STRIDE
            begins = np.searchsorted(self._axis, strides + max(box.west, -181.0))
            ends = np.searchsorted(self._axis, strides + min(box.east, 181.0), side="right")
            bands.append((begins, ends - begins))
        return bands

    @cached_property
    def _axis(self) -> Degrees:
        """shape (on_earth,), ascending: the longitude, moved by the band's number."""
        bands = np.arange(self.on_earth) // _band_size(self.on_earth)
        return self.lon[: self.on_earth] + bands * _BAND_STRIDE

    @cached_property
    def _band_souths(self) -> Degrees:
        return np.minimum.reduceat(self.lat[: self.on_earth], self._band_begins)

    @cached_property
    def _band_norths(self) -> Degrees:
        return np.maximum.reduceat(self.lat[: self.on_earth], self._band_begins)

    @cached_property
    def _band_begins(self) -> Rows:
        return np.arange(0, self.on_earth, _band_size(self.on_earth))


class PlacesInside:
    """A find: the rows with a place inside a shape."""

    is_slow = False

    def __init__(self, places: Places, shape: GeoShape, indexed_only: bool) -> None:
        self._places = places
        self._shape = shape
        self._indexed_only = indexed_only
        self._stretches = places.candidates(shape) if places.on_earth else []
        self.at_most = sum(int(counts.sum()) for _, counts in self._stretches)
        if not indexed_only:
            self.at_most += len(places.entries) - places.on_earth

    def row_set(self) -> RowSet:
        """See `Found`."""
        entries = self._places.entries
        pieces = [expand(begins, counts)[1] for begins, counts in self._stretches]
        if not self._indexed_only:
            pieces.append(np.arange(self._places.on_earth, len(entries)))
        places = np.concatenate((*pieces, np.empty(0, dtype=np.int64)))
        rows = entries.rows[places[self._contained(places)]].astype(np.int64)
        return RowSet.of_rows(np.unique(rows), entries.row_count)

    def holds(self, rows: Rows) -> Mask:
        """See `Found`."""
        owners, places = self._places.entries.of_rows(rows)
        inside = self._contained(places)
        if self._indexed_only:
            inside &= places < self._places.on_earth
        held = np.zeros(len(rows), dtype=np.bool_)
        held[owners[inside]] = True
        return held

    def _contained(self, places: Rows) -> Mask:
        return contained(self._shape, self._places.lon[places], self._places.lat[places])


class PlacesBuilder:
    """Collects places, a chunk of rows at a time."""

    def __init__(self) -> None:
        self._places: list[Degrees] = [np.empty((0, 2))]
        self._rows: list[LocalRows] = [np.empty(0, dtype=np.int32)]

    def add(self, rows: Sequence[int], places: Sequence[tuple[float, float]]) -> None:
        """Take the places, (lon, lat), of some rows."""
        self._rows.append(np.array(rows, dtype=np.int32))
        self._places.append(np.array(places, dtype=np.float64).reshape(-1, 2))

    def finish(self, row_count: int) -> Places:
        """The part."""
        places = np.concatenate(self._places)
        return Places.of(places[:, 0], places[:, 1], np.concatenate(self._rows), row_count)


def merge_places(parts: Sequence[Places], new_rows: Sequence[Rows], row_count: int) -> Places:
    """One part from several; see `merge_numbers`."""
    lon, lat, rows = [], [], []
    for part, moved in zip(parts, new_rows, strict=True):
        to = moved[part.entries.rows]
        kept = to >= 0
        lon.append(part.lon[kept])
        lat.append(part.lat[kept])
        rows.append(to[kept].astype(np.int32))
    return Places.of(np.concatenate(lon), np.concatenate(lat), np.concatenate(rows), row_count)


def contained(shape: GeoShape, lon: Degrees, lat: Degrees) -> Mask:
    """Which places lie inside a shape, as `filter.geo.shape_contains` has it.

    Args:
        shape: its border is outside.
        lon, lat: shape (n,), degrees.
    """
    match shape:
        case GeoBoundingBox(top_left, bottom_right):
            inside = (lat > bottom_right.lat) & (lat < top_left.lat)
            if top_left.lon > bottom_right.lon:
                return inside & ((lon > top_left.lon) | (lon < bottom_right.lon))
            return inside & (lon > top_left.lon) & (lon < bottom_right.lon)
        case GeoRadius():
            return _within_radius(shape, lon, lat)
        case GeoPolygon(exterior, interiors):
            inside = _in_ring(exterior, lon, lat)
            for ring in interiors:
                places = np.flatnonzero(inside)
                x, y = lon[places], lat[places]
                inside[places] = ~(_in_ring(ring, x, y) | _on_ring(ring, x, y))
            return inside


def _within_radius(circle: GeoRadius, lon: Degrees, lat: Degrees) -> Mask:
    center = circle.center
    with np.errstate(invalid="ignore"):
        half_lat = np.sin(np.radians(lat - center.lat) / 2)
        half_lon = np.sin(np.radians(lon - center.lon) / 2)
        chord = half_lat**2 + cos(radians(center.lat)) * np.cos(np.radians(lat)) * half_lon**2
        distance = EARTH_RADIUS_M * 2 * np.arcsin(np.sqrt(np.clip(chord, 0.0, 1.0)))
    inside: Mask = distance < circle.radius_m
    # Near antipodes the arc sine is steep, so rounding shows there far from any border.
    unsure = ~(np.abs(distance - circle.radius_m) > _BORDER_M) | ~(chord < 1 - 1e-9)
    for place in np.flatnonzero(unsure).tolist():
        inside[place] = shape_contains(circle, Geo(float(lon[place]), float(lat[place])))
    return inside


def _in_ring(ring: tuple[Geo, ...], lon: Degrees, lat: Degrees) -> Mask:
    odd = np.zeros(len(lon), dtype=np.bool_)
    for a, b in pairwise(ring):
        crosses = (a.lat > lat) != (b.lat > lat)
        odd ^= crosses & ((_cross(a, b, lon, lat) > 0) == (b.lat > a.lat))
    return odd & ~_on_ring(ring, lon, lat)


def _on_ring(ring: tuple[Geo, ...], lon: Degrees, lat: Degrees) -> Mask:
    touches = np.zeros(len(lon), dtype=np.bool_)
    for a, b in pairwise(ring):
        touches |= (
            (_cross(a, b, lon, lat) == 0)
            & (lon >= min(a.lon, b.lon))
            & (lon <= max(a.lon, b.lon))
            & (lat >= min(a.lat, b.lat))
            & (lat <= max(a.lat, b.lat))
        )
    return touches


def _cross(a: Geo, b: Geo, lon: Degrees, lat: Degrees) -> Degrees:
    with np.errstate(invalid="ignore", over="ignore"):
        return (b.lon - a.lon) * (lat - a.lat) - (lon - a.lon) * (b.lat - a.lat)


def _band_size(count: int) -> int:
    """How many places a band has."""
    return max(1, int((count * _PLACES_PER_BAND_FACTOR) ** 0.5))


def _boxes(shape: GeoShape) -> list[_Box]:
    """Boxes around a shape, none of which crosses the antimeridian."""
    match shape:
        case GeoBoundingBox(top_left, bottom_right):
            south, north = bottom_right.lat, top_left.lat
            if top_left.lon <= bottom_right.lon:
                return [_Box(south, north, top_left.lon, bottom_right.lon)]
            return [
                _Box(south, north, top_left.lon, 180.0),
                _Box(south, north, -180.0, bottom_right.lon),
            ]
        case GeoRadius(center, radius_m):
            return _boxes_around_circle(center, radius_m)
        case GeoPolygon(exterior, _):
            return [
                _Box(
                    min(place.lat for place in exterior),
                    max(place.lat for place in exterior),
                    min(place.lon for place in exterior),
                    max(place.lon for place in exterior),
                )
            ]


def _boxes_around_circle(center: Geo, radius_m: float) -> list[_Box]:
    angle = radius_m / EARTH_RADIUS_M
    if not (isfinite(angle) and is_on_earth(center)) or angle >= pi:
        return [_Box(-90.0, 90.0, -180.0, 180.0)]
    reach = degrees(max(angle, 0.0)) + _BOX_MARGIN_DEGREES
    south, north = center.lat - reach, center.lat + reach
    if south <= -90 or north >= 90:
        return [_Box(south, north, -180.0, 180.0)]
    # The meridians that touch a circle which holds no pole.
    width = degrees(asin(min(1.0, sin(radians(reach)) / cos(radians(center.lat)))))
    west, east = center.lon - width - _BOX_MARGIN_DEGREES, center.lon + width + _BOX_MARGIN_DEGREES
    if west < -180:
        return [_Box(south, north, -180.0, east), _Box(south, north, west + 360, 180.0)]
    if east > 180:
        return [_Box(south, north, west, 180.0), _Box(south, north, -180.0, east - 360)]
    return [_Box(south, north, west, east)]
