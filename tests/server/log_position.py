"""How far has a collection's log come? What leaves it where it is has changed no data."""

from __future__ import annotations

from headrace.service.service import Service


def last_seq_no(service: Service, collection_name: str) -> int:
    """The number of the last write that readers see."""
    return service._engine.collection(collection_name).view.seq_no
