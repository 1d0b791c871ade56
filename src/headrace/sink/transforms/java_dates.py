"""How does a pattern of Java's `SimpleDateFormat` write and read a moment, in UTC?

The letters y M d E a H k K h m s S Z X z and text in quotes. Others are refused.
Source: the class's own documentation.
"""

from __future__ import annotations

import datetime
import re
from typing import Final

_TOKEN: Final = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")
_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip
_DAYS: Final = (
    "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
)  # fmt: skip
_LETTERS: Final = "yMdEaHkKhmsSZXz"
_ZONE: Final = r"Z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2}"
_SHORT_NAME: Final = 3


class JavaDateFormat:
    """A pattern, ready for use; thread-safe.

    Raises:
        ValueError: the pattern has a letter that is not supported, or an open quote.
    """

    def __init__(self, pattern: str) -> None:
        self._tokens = _tokens(pattern)
        self._regex = re.compile(
            "".join(
                self._reader(rank, letters, is_letters)
                for rank, (letters, is_letters) in enumerate(self._tokens)
            ),
            re.IGNORECASE,
        )

    def format(self, moment: datetime.datetime) -> str:
        """A moment, which is in UTC, as text."""
        return "".join(
            _written(letters, moment) if is_letters else letters
            for letters, is_letters in self._tokens
        )

    def parse(self, text: str) -> datetime.datetime:
        """The moment at the beginning of a text; what the pattern lacks is of 1970-01-01 0:00.

        Raises:
            ValueError: the text does not match, or names no moment.
        """
        match = self._regex.match(text)
        if match is None:
            raise ValueError("does not match")
        fields = {name[0]: found for name, found in match.groupdict().items() if found}
        year = int(fields.get("y", 1970))
        if "y" in fields and len(fields["y"]) == 2 and self._has_short_year:
            year = _century(year)
        moment = datetime.datetime(
            year,
            _month(fields.get("M", "1")),
            int(fields.get("d", 1)),
            _hour(fields),
            int(fields.get("m", 0)),
            int(fields.get("s", 0)),
            tzinfo=datetime.UTC,
        )
        moment += datetime.timedelta(milliseconds=int(fields.get("S", 0)))
        zone = next((fields[letter] for letter in "ZXz" if letter in fields), "Z")
        return moment - _zone_shift(zone)

    @property
    def _has_short_year(self) -> bool:
        return ("yy", True) in self._tokens

    def _reader(self, rank: int, letters: str, is_letters: bool) -> str:
        """The pattern that reads one token; numbers side by side have their own width."""
        if not is_letters:
            return re.escape(letters)
        kind = letters[0]
        name = f"{kind}{rank}"
        if kind == "M" and len(letters) >= _SHORT_NAME:
            return f"(?P<{name}>{_alternatives(_MONTHS)})"
        if kind == "E":
            return f"(?P<{name}>{_alternatives(_DAYS)})"
        if kind == "a":
            return f"(?P<{name}>AM|PM)"
        if kind in "ZXz":
            return f"(?P<{name}>{_ZONE})"
        following = self._tokens[rank + 1] if rank + 1 < len(self._tokens) else ("", False)
        is_side_by_side = following[1] and following[0][0] in "yMdHkKhmsS"
        return f"(?P<{name}>\\d{{{len(letters)}}})" if is_side_by_side else f"(?P<{name}>\\d+)"


def _tokens(pattern: str) -> list[tuple[str, bool]]:
    """Texts to be written as they are, and runs of one letter."""
    found: list[tuple[str, bool]] = []
    position = 0
    for match in _TOKEN.finditer(pattern):
        if match.start() != position:
            break
        position = match.end()
        quoted, letter = match.group(1), match.group(2)
        if quoted is not None:
            found.append((quoted.replace("''", "'") or "'", False))
        elif letter is not None and letter not in _LETTERS:
            raise ValueError(f"the letter '{letter}' is not supported")
        else:
            found.append((match.group(), letter is not None))
    if position != len(pattern):
        raise ValueError("a quote is not closed")
    return found


def _written(letters: str, moment: datetime.datetime) -> str:
    width = len(letters)
    match letters[0]:
        case "y":
            return f"{moment.year % 100:02}" if width == 2 else f"{moment.year:0{width}}"
        case "M" if width >= _SHORT_NAME:
            name = _MONTHS[moment.month - 1]
            return name[:_SHORT_NAME] if width == _SHORT_NAME else name
        case "E":
            name = _DAYS[moment.weekday()]
            return name[:_SHORT_NAME] if width <= _SHORT_NAME else name
        case "a":
            return "AM" if moment.hour < 12 else "PM"
        case "z":
            return "UTC"
        case "Z":
            return "+0000"
        case "X":
            return "Z"
        case letter:
            return f"{_number(letter, moment):0{width}}"


def _number(letter: str, moment: datetime.datetime) -> int:
    return {
        "M": moment.month,
        "d": moment.day,
        "H": moment.hour,
        "k": moment.hour or 24,
        "K": moment.hour % 12,
        "h": moment.hour % 12 or 12,
        "m": moment.minute,
        "s": moment.second,
        "S": moment.microsecond // 1000,
    }[letter]


def _month(text: str) -> int:
    if text.isdigit():
        return int(text)
    short = text[:_SHORT_NAME].lower()
    return [name[:_SHORT_NAME].lower() for name in _MONTHS].index(short) + 1


def _hour(fields: dict[str, str]) -> int:
    if "H" in fields:
        return int(fields["H"])
    if "k" in fields:
        return int(fields["k"]) % 24
    hour = int(fields.get("K", fields.get("h", 0))) % 12
    return hour + 12 if fields.get("a", "").upper() == "PM" else hour


def _century(short_year: int) -> int:
    """Java reads two digits as a year from 80 years ago to 20 years ahead."""
    first = datetime.datetime.now(datetime.UTC).year - 80
    year = first - first % 100 + short_year
    return year if year >= first else year + 100


def _zone_shift(zone: str) -> datetime.timedelta:
    if zone[0] not in "+-":
        return datetime.timedelta()
    digits = zone[1:].replace(":", "")
    shift = datetime.timedelta(hours=int(digits[:2]), minutes=int(digits[2:] or 0))
    return shift if zone[0] == "+" else -shift


def _alternatives(names: tuple[str, ...]) -> str:
    return "|".join([*names, *(name[:_SHORT_NAME] for name in names)])
