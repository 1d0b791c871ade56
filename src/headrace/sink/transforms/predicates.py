"""Which records does a transform see?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from headrace.sink.transforms.base import ConnectRecord, Settings
from headrace.sink.transforms.routing import read_java_pattern


class Predicate(Protocol):
    """A question about a record."""

    def test(self, record: ConnectRecord) -> bool:
        """Whether the answer is yes."""
        ...


class TopicNameMatches:
    """Whether a pattern matches the whole name of the topic."""

    def __init__(self, settings: Settings) -> None:
        self._pattern = read_java_pattern(settings, "pattern")

    def test(self, record: ConnectRecord) -> bool:
        """See `Predicate`."""
        return self._pattern.fullmatch(record.topic) is not None


class HasHeaderKey:
    """Whether there is a header of that name."""

    def __init__(self, settings: Settings) -> None:
        self._name = settings.required("name")

    def test(self, record: ConnectRecord) -> bool:
        """See `Predicate`."""
        return any(name == self._name for name, _ in record.headers)


class RecordIsTombstone:
    """Whether the value is null."""

    def __init__(self, settings: Settings) -> None:
        pass

    def test(self, record: ConnectRecord) -> bool:
        """See `Predicate`."""
        return record.value is None


PREDICATE_PACKAGE: Final = "org.apache.kafka.connect.transforms.predicates."
PREDICATES: Final[dict[str, Callable[[Settings], Predicate]]] = {
    "TopicNameMatches": TopicNameMatches,
    "HasHeaderKey": HasHeaderKey,
    "RecordIsTombstone": RecordIsTombstone,
}
