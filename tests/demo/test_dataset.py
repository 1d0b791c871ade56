from __future__ import annotations

import sys

import pytest

from headrace.demo.dataset import Airport, DemoDataMissing, load_airports, words


@pytest.fixture(scope="module")
def airports() -> list[Airport]:
    return load_airports()


def test_all_airports_are_there_with_different_codes(airports: list[Airport]) -> None:
    assert len({one.iata for one in airports}) == len(airports) == 3_376


def test_neighbours_are_those_within_100_kilometres(airports: list[Airport]) -> None:
    by_code = {one.iata: one for one in airports}
    # Adak is alone in the Aleutians.
    assert by_code["ADK"].neighbours_100km == 0
    assert by_code["JFK"].neighbours_100km > 30


def test_payload_has_each_type_of_field(airports: list[Airport]) -> None:
    payload = next(one for one in airports if one.iata == "ORD").payload()
    assert payload["state"] == "IL"
    assert payload["latitude"] == 41.979595
    assert payload["location"] == {"lon": payload["longitude"], "lat": payload["latitude"]}
    assert payload["international"] is True
    assert payload["name_words"] == ["chicago", "o", "hare", "international"]
    assert type(payload["neighbours_100km"]) is int


def test_correction_makes_what_is_not_known_null(airports: list[Airport]) -> None:
    airport = next(one for one in airports if one.iata == "CLD")
    assert airport.payload()["city"] == "NA"
    assert airport.corrected_payload() == airport.payload() | {"city": None, "state": None}


def test_words_are_lower_case_and_different() -> None:
    assert words("Lake O'Lake-2 lake") == ["lake", "o", "2"]


def test_missing_data_set_is_told_with_its_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "vega_datasets", None)
    with pytest.raises(DemoDataMissing, match=r"pip install \"headrace\[demo\]\""):
        load_airports()
