"""Which real data does the demo stream?

The 3,376 airports of `vega_datasets`: where they are, what they are called. Everything
that the filters of the demo need is in the file, or follows from it.
"""

from __future__ import annotations

import csv
import importlib.resources
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headrace.model.errors import Unavailable

EARTH_RADIUS_KM = 6_371.0088
NEIGHBOUR_DISTANCE_KM = 100.0

# What the file has where the city or the state is not known.
NOT_KNOWN = "NA"

_WORD = re.compile(r"[a-z0-9]+")
_ROWS_AT_ONCE = 512


class DemoDataMissing(Unavailable):
    """A package of the extra `headrace[demo]` is not installed."""


class Airport(msgspec.Struct, frozen=True):
    """One line of the file, and how crowded the sky around it is.

    Attributes:
        number: its line in the file, from 1; the id of its points.
        neighbours_100km: how many other airports of the file are within 100 km.
    """

    number: int
    iata: str
    name: str
    city: str
    state: str
    country: str
    latitude: float
    longitude: float
    neighbours_100km: int

    def payload(self) -> dict[str, Any]:
        """Its payload, with one field or more of each type that can be indexed."""
        return {
            "iata": self.iata,
            "name": self.name,
            "city": self.city,
            "state": self.state,
            "country": self.country,
            "latitude": self.latitude,
            "longitude": self.longitude,
            "location": {"lon": self.longitude, "lat": self.latitude},
            "neighbours_100km": self.neighbours_100km,
            "international": "international" in words(self.name),
            "name_words": words(self.name),
        }

    def corrected_payload(self) -> dict[str, Any]:
        """Its payload with null where the file says that something is not known."""
        payload = self.payload()
        return payload | {field: None for field in ("city", "state") if payload[field] == NOT_KNOWN}


def load_airports() -> list[Airport]:
    """All airports of the file, in its order.

    Raises:
        DemoDataMissing: the package that carries the file is not installed.
    """
    try:
        package = importlib.resources.files("vega_datasets")
    except ModuleNotFoundError as error:
        raise missing_extra("vega_datasets") from error
    text = (package / "_data" / "airports.csv").read_text(encoding="utf-8")
    lines = list(csv.DictReader(text.splitlines()))
    places = np.array([(line["latitude"], line["longitude"]) for line in lines], dtype=np.float64)
    return [
        Airport(
            number=number,
            iata=line["iata"],
            name=line["name"],
            city=line["city"],
            state=line["state"],
            country=line["country"],
            latitude=float(line["latitude"]),
            longitude=float(line["longitude"]),
            neighbours_100km=int(neighbours),
        )
        for number, (line, neighbours) in enumerate(
            zip(lines, _neighbours(unit_vectors(places)), strict=True), start=1
        )
    ]


def missing_extra(package: str) -> DemoDataMissing:
    """The error of a package that only the demo needs."""
    return DemoDataMissing(
        f'The demo needs the package {package}: run `pip install "headrace[demo]"`'
    )


def words(text: str) -> list[str]:
    """The different words of a text, in lower case, in order."""
    return list(dict.fromkeys(_WORD.findall(text.lower())))


def unit_vectors(places: Sequence[tuple[float, float]] | NDArray[np.float64]) -> Any:
    """Places on the sphere as points in space: the nearer in space, the nearer on earth.

    Args:
        places: shape (n, 2), latitude and longitude in degrees.

    Returns:
        Shape (n, 3), float64, each of length 1.
    """
    latitude, longitude = np.radians(np.asarray(places, dtype=np.float64)).T
    return np.stack(
        (
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ),
        axis=1,
    )


def _neighbours(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many others are within 100 km of each, by the angle between them."""
    nearest_cosine = np.cos(NEIGHBOUR_DISTANCE_KM / EARTH_RADIUS_KM)
    counts = [
        (positions[start : start + _ROWS_AT_ONCE] @ positions.T >= nearest_cosine).sum(axis=1)
        for start in range(0, len(positions), _ROWS_AT_ONCE)
    ]
    itself = 1
    return np.concatenate(counts) - itself
