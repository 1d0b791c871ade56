"""How does a worker know its connectors again after a restart?

One checksummed document in the data directory, replaced whole with each change. Values
are kept as they were given, so a placeholder stays a placeholder.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import msgspec

from headrace.engine.storage.files import read_document, write_document

CONNECTORS_DOCUMENT = "connectors.doc"


class WantedState(StrEnum):
    """What a connector is to do, until somebody says otherwise."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"


class KeptConnector(msgspec.Struct, frozen=True):
    """What is kept of one connector.

    Attributes:
        config: as it was given; None for a connector whose file is read at each start.
        wanted_state: outlives restarts.
        topics: that it was seen to read.
    """

    name: str
    config: dict[str, str] | None
    wanted_state: WantedState = WantedState.RUNNING
    topics: list[str] = []


class ConnectorStore:
    """The connectors of one worker, on disk.

    Args:
        directory: exists, and belongs to this process.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / CONNECTORS_DOCUMENT

    def read(self) -> list[KeptConnector]:
        """What was kept last; nothing on the first start.

        Raises:
            CorruptFile: the document is not what was written.
        """
        try:
            return read_document(self._path, list[KeptConnector])
        except FileNotFoundError:
            return []

    def write(self, connectors: list[KeptConnector]) -> None:
        """Keep these and no others; durable when it returns.

        Raises:
            NoSpace, StorageFailed: the system refused; the old ones are kept.
        """
        write_document(self._path, connectors)
