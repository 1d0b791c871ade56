"""Into which collection does a record go?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOPIC_PLACEHOLDER: Final = "${topic}"


@dataclass(frozen=True, slots=True)
class Routing:
    """How topics name collections.

    Attributes:
        by_topic: `topic.to.collection`; wins for the topics that it names.
        name: `qdrant.collection.name`, for all others.
        name_format: `collection.name.format`, likewise; has `${topic}` in it.
    """

    by_topic: tuple[tuple[str, str], ...] = ()
    name: str | None = None
    name_format: str | None = None

    def collection_of(self, topic: str) -> str | None:
        """The collection of a topic's records; None if each record names its own."""
        for known, collection_name in self.by_topic:
            if known == topic:
                return collection_name
        if self.name_format is not None:
            return self.name_format.replace(TOPIC_PLACEHOLDER, topic)
        return self.name
