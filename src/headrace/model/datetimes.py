"""Which texts are datetimes, and which instant does each name?

The forms are Qdrant's, which are those of its date library: RFC 3339 read leniently
(any offset spelling, spaces before a number or before the offset), and without a zone
`YYYY-MM-DD[T ]HH:MM[:SS[.frac]]` or `YYYY-MM-DD`, both read as UTC. Years go beyond
those of Python's `datetime`, so the calendar is computed here.
"""

from __future__ import annotations

import re
from datetime import date

MICROSECONDS_PER_SECOND = 1_000_000

# The years that Qdrant's date library can hold.
_YEAR_MIN, _YEAR_MAX = -262_143, 262_142

_SPACE = r"[^\S\x1c-\x1f]*+"
_NUMBER = r"[0-9]{1,2}+"
_DATE = (
    rf"(?P<year>[0-9]{{1,4}}+|[+-][0-9]{{1,9}}+)"
    rf"-{_SPACE}(?P<month>{_NUMBER})-{_SPACE}(?P<day>{_NUMBER})"
)
_HOUR_MINUTE = rf"{_SPACE}(?P<hour>{_NUMBER}):{_SPACE}(?P<minute>{_NUMBER})"
_SECOND = rf":{_SPACE}(?P<second>{_NUMBER})(?:\.(?P<fraction>[0-9]++))?"
_OFFSET = (
    rf"{_SPACE}(?:[Zz]|[Uu][Tt][Cc]"
    rf"|(?P<sign>[+\-\N{{MINUS SIGN}}])(?P<offset_hour>[0-9]{{2}})"
    rf"(?:[:\s]*(?P<offset_minute>[0-9]{{2}}))?:?)"
)
_ZONED = re.compile(rf"{_DATE}[Tt]?{_HOUR_MINUTE}{_SECOND}{_OFFSET}")
_ZONELESS = re.compile(rf"{_DATE}(?:T?{_HOUR_MINUTE}(?:{_SECOND})?)?")


def parse_datetime_micros(text: str) -> int | None:
    """The instant that `text` names, in microseconds since 1970-01-01 UTC, else None.

    Digits beyond the microsecond are cut off; a leap second counts as the second after it.
    """
    if text != text.strip():
        return None
    parsed = _ZONED.fullmatch(text) or _ZONELESS.fullmatch(text)
    if parsed is None:
        return None
    part = parsed.groupdict()
    days = _days_since_epoch(int(part["year"]), int(part["month"]), int(part["day"]))
    seconds = _second_of_day(part)
    offset = _offset_seconds(part)
    if days is None or seconds is None or offset is None:
        return None
    micros = int((part["fraction"] or "").ljust(6, "0")[:6])
    return (days * 86_400 + seconds - offset) * MICROSECONDS_PER_SECOND + micros


def _days_since_epoch(year: int, month: int, day: int) -> int | None:
    """Days from 1970-01-01, in the Gregorian calendar extended both ways."""
    if not _YEAR_MIN <= year <= _YEAR_MAX:
        return None
    # The calendar repeats every 400 years of 146,097 days: compute in a cycle that
    # `date` knows.
    cycles, year_of_cycle = divmod(year, 400)
    try:
        same_day = date(year_of_cycle + 2000, month, day)
    except ValueError:
        return None
    return same_day.toordinal() - date(1970, 1, 1).toordinal() + (cycles - 5) * 146_097


def _second_of_day(part: dict[str, str | None]) -> int | None:
    hour, minute = int(part["hour"] or 0), int(part["minute"] or 0)
    second = int(part["second"] or 0)
    if hour > 23 or minute > 59 or second > 60:
        return None
    return hour * 3600 + minute * 60 + second


def _offset_seconds(part: dict[str, str | None]) -> int | None:
    hour, minute = int(part.get("offset_hour") or 0), int(part.get("offset_minute") or 0)
    if hour > 23 or minute > 59:
        return None
    seconds = hour * 3600 + minute * 60
    return seconds if part.get("sign") == "+" else -seconds
