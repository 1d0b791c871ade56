from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.model.datetimes import parse_datetime_micros

NEW_YEAR_2020 = 1_577_836_800_000_000
HOUR = 3_600_000_000


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T00:00:00Z",
        "2020-01-01t00:00:00z",
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00:00.000Z",
        "2020-01-01T00:00:00+00:00",
        "2020-01-01T00:00:00+0000",
        "2020-01-01T00:00:00+00",
        "2020-01-01T00:00:00 UTC",
        "2020-01-01T01:00:00 +01:00",
        "2019-12-31T23:00:00\N{MINUS SIGN}01:00",
        "2019-12-31T23:59:60Z",
        "2020-01-01T00:00:00",
        "2020-01-01 00:00:00",
        "2020-01-01T00:00",
        "2020-01-01",
        "2020-1-1",
        "+2020-01-01",
        "2020- 01-01T 00:00",
    ],
)
def test_accepted_spelling_of_new_year_2020(text: str) -> None:
    assert parse_datetime_micros(text) == NEW_YEAR_2020


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20200101",
        "2020-01-01T00",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T23:59:61Z",
        "2020-13-01",
        "2019-02-29",
        " 2020-01-01",
        "2020-01-01 ",
        "2020-01-01T00:00:00Z\n",
        "2020-01-01T00:00Z",
        "2020-01-01Z",
        "2020-01-01t00:00:00",
        "2020-01-01T00:00:00.",
        "2020-01-01T00:00:00,5Z",
        "2020-01-01T00:00:00+24:00",
        "2020-01-01T00:00:00+1:00",
        "2020-01-01T12:00:00 PM",
        "2020/01/01",
        "1577836800",
        "Wed, 01 Jan 2020 00:00:00 GMT",
        "٢٠٢٠-01-01",
        "10000-01-01",
        "+262143-01-01",
        f"+{'9' * 10_000}-01-01",
    ],
)
def test_other_spellings_are_no_datetimes(text: str) -> None:
    assert parse_datetime_micros(text) is None


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1970-01-01", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("2020-01-01T00:00:00+01:00", NEW_YEAR_2020 - HOUR),
        ("2020-01-01T00:00:00-01:30", NEW_YEAR_2020 + HOUR * 3 // 2),
        ("0000-01-01", -62_167_219_200_000_000),
        ("-0001-01-01", -62_198_755_200_000_000),
        ("+10000-01-01", 253_402_300_800_000_000),
        ("20-01-01", -61_536_067_200_000_000),
    ],
)
def test_instant_is_micros_since_1970_utc(text: str, micros: int) -> None:
    assert parse_datetime_micros(text) == micros


def test_digits_beyond_the_microsecond_are_cut_off() -> None:
    assert parse_datetime_micros("2020-01-01T00:00:00.1234569Z") == NEW_YEAR_2020 + 123_456


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.datetimes(), st.integers(-23 * 60, 23 * 60))
def test_what_python_writes_is_read_back(moment: datetime, offset_minutes: int) -> None:
    since_1970 = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    assert parse_datetime_micros(moment.replace(tzinfo=UTC).isoformat()) == since_1970
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    zoned = f"{moment.isoformat()}{sign}{minutes // 60:02}:{minutes % 60:02}"
    assert parse_datetime_micros(zoned) == since_1970 - offset_minutes * 60_000_000
