"""Which topic does a record go by, and does it go on at all?"""

from __future__ import annotations

import datetime
from typing import Final

import msgspec
import regex

from headrace.sink.transforms.base import ConnectRecord, Settings, TransformError
from headrace.sink.transforms.timestamps import read_date_format

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NAME_IN_BRACES: Final = regex.compile(r"\{([a-zA-Z][a-zA-Z0-9]*)\}")


class RegexRouter:
    """Gives the topic another name, if the pattern matches the whole of it."""

    def __init__(self, settings: Settings) -> None:
        self._pattern = read_java_pattern(settings, "regex")
        replacement = settings.text("replacement")
        try:
            self._template = _java_template(replacement, self._pattern)
        except ValueError as error:
            raise settings.error("replacement", f"'{replacement}': {error}") from None

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        match = self._pattern.fullmatch(record.topic)
        if match is None:
            return record
        pieces = [
            one if isinstance(one, str) else match.group(one[0]) or "" for one in self._template
        ]
        return msgspec.structs.replace(record, topic="".join(pieces))


class TimestampRouter:
    """Puts the record's timestamp into the name of its topic."""

    def __init__(self, settings: Settings) -> None:
        self._topic_format = settings.text("topic.format", "${topic}-${timestamp}")
        self._timestamp_format = read_date_format(settings, "timestamp.format", "yyyyMMdd")
        if self._timestamp_format is None:
            raise settings.error("timestamp.format", "cannot be empty")

    def apply(self, record: ConnectRecord) -> ConnectRecord:
        """See `Transform`."""
        if record.timestamp_ms is None:
            raise TransformError("Timestamp missing on record")
        assert self._timestamp_format is not None
        moment = _EPOCH + datetime.timedelta(milliseconds=record.timestamp_ms)
        timestamp = self._timestamp_format.format(moment)
        topic = self._topic_format.replace("${topic}", record.topic)
        return msgspec.structs.replace(record, topic=topic.replace("${timestamp}", timestamp))


class Filter:
    """Drops every record; which ones it sees is for its predicate to say."""

    def __init__(self, settings: Settings) -> None:
        pass

    def apply(self, record: ConnectRecord) -> None:
        """See `Transform`."""
        return


def read_java_pattern(settings: Settings, name: str) -> regex.Pattern[str]:
    """A pattern in Java's dialect, which the `regex` package shares for all that is usual."""
    pattern = settings.required(name)
    try:
        return regex.compile(pattern, regex.VERSION1)
    except regex.error as error:
        raise settings.error(name, f"is not a regular expression: {error}") from None


def _java_template(replacement: str, pattern: regex.Pattern[str]) -> list[str | tuple[int | str]]:
    """The texts of a replacement, and between them the groups, each alone in a tuple.

    Raises:
        ValueError: it names a group that the pattern does not have, or ends too early.
    """
    template: list[str | tuple[int | str]] = []
    position = 0
    while position < len(replacement):
        character = replacement[position]
        position += 1
        if character == "\\":
            if position == len(replacement):
                raise ValueError("a character to be escaped is missing")
            template.append(replacement[position])
            position += 1
        elif character == "$":
            group, position = _group_reference(replacement, position, pattern)
            template.append((group,))
        else:
            template.append(character)
    return template


def _group_reference(
    replacement: str, position: int, pattern: regex.Pattern[str]
) -> tuple[int | str, int]:
    """The group named after a `$`, and where the text goes on."""
    named = _NAME_IN_BRACES.match(replacement, position)
    if named is not None:
        if named.group(1) not in pattern.groupindex:
            raise ValueError(f"there is no group '{named.group(1)}'")
        return str(named.group(1)), named.end()
    end = position
    # As many digits as still name a group.
    while end < len(replacement) and replacement[end] in "0123456789":
        if end > position and int(replacement[position : end + 1]) > pattern.groups:
            break
        end += 1
    if end == position:
        raise ValueError("a group is missing after $")
    number = int(replacement[position:end])
    if number > pattern.groups:
        raise ValueError(f"there is no group {number}")
    return number, end
