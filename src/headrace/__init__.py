"""Headrace: Kafka records stream in, points with vectors and payloads are searchable.

The package is both an engine for the user's own process and a server that any
Qdrant client takes for Qdrant. ARCHITECTURE.md maps its folders.

`connect` and `connect_async` give Qdrant's own clients on an engine in this process, `open`
gives a store for NumPy arrays and Arrow tables. All are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.client.arrays import open_store as open
    from headrace.client.qdrant import connect, connect_async

__all__ = ["__version__", "connect", "connect_async", "open"]

__version__ = "0.1.0"

_WHERE = {
    "connect": ("headrace.client.qdrant", "connect"),
    "connect_async": ("headrace.client.qdrant", "connect_async"),
    "open": ("headrace.client.arrays", "open_store"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: a command line must start at once."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = where
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value
